"""What the arguments of a card's step must be, and the error that says what they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast


class ArgumentError(Exception):
    """An argument of a step is not what the step takes."""


def number(key: str, value: object) -> float:
    """Return an argument that is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ArgumentError(f"'{key}' is {value!r}; it takes a number")
    return float(value)


def numbers(key: str, value: object, count: int | None) -> tuple[float, ...]:
    """Return an argument that is a list of ``count`` numbers, of any number of them if None."""
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    if not listed or (count is not None and len(cast("Sequence[object]", value)) != count):
        raise ArgumentError(f"'{key}' is {value!r}; it takes a list of {count or 'all'} numbers")
    return tuple(number(key, entry) for entry in cast("Sequence[object]", value))


def limits(low: str, high: str, values: tuple[object, object]) -> tuple[float, float]:
    """Return two arguments that are a range, the lower one first."""
    lowest, highest = number(low, values[0]), number(high, values[1])
    if lowest >= highest:
        raise ArgumentError(f"'{low}' is not below '{high}'")
    return lowest, highest


def flag(key: str, value: object) -> bool:
    """Return an argument that is true or false."""
    if not isinstance(value, bool):
        raise ArgumentError(f"'{key}' is {value!r}; it takes true or false")
    return value
