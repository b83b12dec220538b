"""Reading nnU-Net's JSON files, in which anything may stand in any place."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from medptq.errors import ModelError

_SHOWN = 60


def nnunet_refused(why: str, todo: str) -> ModelError:
    """Return the error for an nnU-Net model that cannot be used as it is."""
    return ModelError("nnunet", "The nnU-Net model cannot be used", why=why, todo=todo)


def wrong(field: str, value: object, wanted: str) -> ModelError:
    """Return the error for a field that nnU-Net would not write like that."""
    return nnunet_refused(
        f'"{field}" is {shortened(value)} and not {wanted}',
        "Export the model folder from nnU-Net again",
    )


def mapping(parent: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """Return a field that is a JSON object."""
    value = parent.get(field)
    if not isinstance(value, Mapping):
        raise wrong(field, value, "an object")
    return value


def text(parent: Mapping[str, Any], field: str) -> str:
    """Return a field that is a string."""
    value = parent.get(field)
    if not isinstance(value, str):
        raise wrong(field, value, "a text")
    return value


def listed(parent: Mapping[str, Any], field: str) -> list[Any]:
    """Return a field that is a list."""
    value = parent.get(field)
    if not isinstance(value, list):
        raise wrong(field, value, "a list")
    return value


def number(parent: Mapping[str, Any], field: str) -> float:
    """Return a field that is a number."""
    value = parent.get(field)
    if not is_number(value):
        raise wrong(field, value, "a number")
    return float(value)  # type: ignore[arg-type]


def numbers(parent: Mapping[str, Any], field: str, count: int) -> list[float]:
    """Return a field that is a list of so many numbers."""
    value = listed(parent, field)
    if len(value) != count or not all(map(is_number, value)):
        raise wrong(field, value, f"a list of {count} numbers")
    return [float(item) for item in value]


def is_number(value: object) -> bool:
    """Tell whether a JSON value is a number that a float can be."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) <= sys.float_info.max
    return isinstance(value, float)


def is_whole(value: object) -> bool:
    """Tell whether a JSON value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def shortened(value: object) -> str:
    """Return a value as a person may read it in a sentence."""
    shown = "not there" if value is None else repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
