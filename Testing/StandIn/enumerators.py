"""Enumerators and flags as PythonQt gives them: numbers that know what they are in PySide6."""

from __future__ import annotations

import enum
from typing import Any


class EnumValue(int):
    """An enumerator or flags, a number in PythonQt."""

    _member: enum.Enum

    def __new__(cls, member: Any) -> EnumValue:
        self = super().__new__(cls, member.value)
        self._member = member
        return self

    def __repr__(self) -> str:
        return f"{type(self._member).__qualname__}({int(self)})"

    __str__ = int.__repr__

    def _with(self, other: Any, operator: str) -> Any:
        if isinstance(other, EnumValue) and type(other._member) is type(self._member):
            return EnumValue(_as_flags(getattr(self._member, operator)(other._member)))
        return getattr(int(self), operator)(int(other))

    def __or__(self, other: Any) -> Any:
        return self._with(other, "__or__")

    def __and__(self, other: Any) -> Any:
        return self._with(other, "__and__")

    def __xor__(self, other: Any) -> Any:
        return self._with(other, "__xor__")

    def __invert__(self) -> Any:
        if isinstance(self._member, enum.Flag):
            return EnumValue(~self._member)
        return ~int(self)

    __hash__ = int.__hash__


def _as_flags(value: Any) -> Any:
    if not isinstance(value, enum.Enum):
        raise TypeError("these enumerators are no flags, so PySide6 cannot combine them")
    return value


class EnumType:
    """An enumeration of a class: ``qt.QMessageBox.StandardButton``."""

    def __init__(self, pyside: Any) -> None:
        self._pyside = pyside

    def __call__(self, value: int) -> EnumValue:
        return EnumValue(self._pyside(int(value)))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{self._pyside.__qualname__}.{name}: enumerators are reached without the name of "
            f"their enumeration, {self._pyside.__qualname__.rpartition('.')[0]}.{name}"
        )


class PropertyFlags:
    """Flags read from a property: they can be written back, and no more.

    PythonQt makes an object of them that depends on its version; in some it has no ``&`` and is no
    number.
    """

    def __init__(self, flags: enum.Flag) -> None:
        self._member = flags

    def _refuse(self, *_: Any) -> Any:
        raise TypeError("not every PythonQt can compare or combine flags read from a property")

    __eq__ = __and__ = __or__ = __xor__ = __invert__ = __int__ = __bool__ = _refuse
    __rand__ = __ror__ = __rxor__ = _refuse
    __hash__ = None  # type: ignore[assignment]
