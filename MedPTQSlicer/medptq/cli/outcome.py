"""What a command gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from medptq.answers import Answer


@dataclass(frozen=True)
class Outcome:
    """A command's result: for machines, and as shown to people."""

    answer: Answer
    shown: Sequence[Table | str]
