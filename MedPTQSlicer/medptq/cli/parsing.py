"""What the words of a command line ask for, or why they cannot be meant."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from medptq.cli.arguments import make_parser
from medptq.quantization.recipe import LEAST_AGREEMENT

_LONGEST_NAME = 255
"""Bytes of a file's name on the file systems of Linux, macOS and Windows."""


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what is asked for; wrong usage ends the program.

    Args:
        arguments: The words after the program's name; those that it was started with by default.
    """
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.command == "quantize":
        if options.least_agreement is None:
            options.least_agreement = LEAST_AGREEMENT
        elif not options.auto:
            parser.error("--least-agreement is asked with --auto only")
    for option, given in vars(options).items():
        if option == "output":  # what writes it tells better what would do
            continue
        for value in given if isinstance(given, list) else [given]:
            # Even to ask whether there is such a file would fail.
            names = Path(value).parts if isinstance(value, str | Path) else ()
            longest = max((os.fsencode(name) for name in names), key=len, default=b"")
            if len(longest) > _LONGEST_NAME:
                parser.error(
                    f"no file or network can be named {os.fsdecode(longest[:20])}...: a name has "
                    f"at most {_LONGEST_NAME} bytes, and this has {len(longest)}"
                )
    return options
