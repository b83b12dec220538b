"""What scripts for ``Slicer --no-main-window --python-script`` share: arguments, lines, exit codes.

What they tell on the way goes to stderr, their result to stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medptq.errors import MedPTQError

if TYPE_CHECKING:
    from MedPTQSlicerLib.jobs import Job

_T = TypeVar("_T")

EXIT_CODES = """\
exit codes: 0 done, 1 unexpected fault, 2 wrong usage, 3 scan, 4 model, 5 quantization, 6 engine,
7 output, 8 worker, 130 stopped. Not for clinical use."""


def addCommonArguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all scripts have: ``--overwrite`` and ``--python``."""
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what is there under that name"
    )
    parser.add_argument(
        "--python",
        metavar="PROGRAM",
        type=absolute,
        help="the Python that has medptq's packages (default: the one chosen in the panel,"
        " or Slicer's own)",
    )


def useWorkerPython(path: Path | None) -> None:
    """Have this Slicer's worker run by another Python; the user's settings are not changed."""
    if path is not None:
        os.environ["MEDPTQ_WORKER_PYTHON"] = str(path)


def runScript(main: Callable[[list[str]], None]) -> int:
    """Run a script's work and say what went wrong, in one line where it is a user's to mend.

    Args:
        main: The script, given its arguments: what followed ``--`` on Slicer's command line.

    Returns:
        The exit code.
    """
    try:
        main(sys.argv[1:])
    except MedPTQError as error:
        tell(f"{error.code}: {error}")
        return error.exit_status
    except SystemExit as ended:  # argparse has printed the help, or what was wrong
        return ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt:
        return 130
    except Exception:  # a bug; Slicer itself would go on and end with 0
        tell(traceback.format_exc())
        return 1
    return 0


def follow(job: Job[_T]) -> _T:
    """Wait for a job, and tell what its log tells.

    Raises:
        MedPTQError: The job failed.
    """
    last = ""

    def tellNews(job: Job[Any]) -> None:
        nonlocal last
        isNews = job.log and job.log[-1] != last
        if isNews and job.state == "running":  # how it ended is told by its result or its error
            last = job.log[-1]
            tell(last)

    forget = job.observe(changed=tellNews)
    try:
        return job.wait()
    finally:
        forget()


def tell(line: str) -> None:
    """Print a line that is no result."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is a program's output


def tellResult(line: str) -> None:
    """Print a line of the result."""
    print(line, flush=True)  # noqa: T201 - this is a program's output


def absolute(path: str) -> Path:
    """Return a path of the command line, as argparse's ``type``: a path from the root."""
    return Path(path).expanduser().absolute()
