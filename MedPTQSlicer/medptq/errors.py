"""Errors that say what happened, why, and what to do next.

Every failure that a user can cause or mend is a :class:`MedPTQError`. Anything else that
escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

_LONGEST_LINE = 300


class MedPTQError(Exception):
    """Base of all errors shown to a user.

    Args:
        code: Short, stable name within the class's family, such as ``"constant"``. With the
            family it forms :attr:`code`, which scripts and the worker's clients may test.
        what: What happened, as the start of a sentence without a full stop.
        why: The cause, as far as it is known.
        todo: What the user can do about it.
        facts: What else there is to know, by its names in an answer, as JSON can hold it.
    """

    family: ClassVar[str] = "medptq"
    exit_status: ClassVar[int] = 1

    def __init__(
        self,
        code: str,
        what: str,
        *,
        why: str,
        todo: str,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{what}: {why}. {todo}.")
        self.code = f"{self.family}.{code}"
        self.what = what
        self.why = why
        self.todo = todo
        self.facts = dict(facts or {})

    def __reduce__(self) -> tuple[Any, ...]:
        # As it comes from another process: pickle would call the class with the sentence alone.
        code = self.code.removeprefix(f"{self.family}.")
        make = partial(type(self), why=self.why, todo=self.todo, facts=self.facts)
        return make, (code, self.what)


class ScanError(MedPTQError):
    """A scan, or a folder of scans, cannot be used."""

    family = "scan"
    exit_status = 3


class ModelError(MedPTQError):
    """A model, its card or its download cannot be used."""

    family = "model"
    exit_status = 4


class QuantizationError(MedPTQError):
    """Calibration or the writing of the quantized graph failed."""

    family = "quantize"
    exit_status = 5


class EngineError(MedPTQError):
    """An inference engine is missing, or cannot build or run this network."""

    family = "engine"
    exit_status = 6


class OutputError(MedPTQError):
    """A result cannot be written where the user asked."""

    family = "output"
    exit_status = 7


class Cancelled(MedPTQError):  # noqa: N818 - it is no fault
    """The user stopped the work; nothing was left half-written."""

    family = "cancelled"
    exit_status = 130

    def __init__(self) -> None:
        super().__init__(
            "user",
            "Stopped",
            why="it was cancelled",
            todo="Nothing was left half-written; start it again when you like",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def first_line(error: BaseException) -> str:
    """Return the first line that another library's error says, for a sentence of ours."""
    return _line(error, 0)


def last_line(error: BaseException) -> str:
    """Return the last line that another library's error says: some name source files before it."""
    return _line(error, -1)


def _line(error: BaseException, index: int) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[index].rstrip(".:")[:_LONGEST_LINE] if lines else type(error).__name__
