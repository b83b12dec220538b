"""What the stand-in's own widgets are made of."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore

from StandIn import signals

# All that the stand-in plays, by name.
KINDS: dict[str, Any] = {}


class StandInWidget:
    """Beside a class of Qt, the base of what the stand-in plays.

    Signals and slots that take MRML nodes cannot be in PySide6's metaobject, so they are listed.
    """

    SIGNALS: tuple[str, ...] = ()
    SLOTS: tuple[str, ...] = ()
    CONTAINER = False  # whether a .ui file must say that it is one

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        KINDS[cls.__name__] = cls

    def _emit(self, signature: str, *args: Any) -> None:
        signals.emit(self, signature, *args)


class stored(QtCore.Property):
    """A Q_PROPERTY that keeps its value and tells nobody, unless there is a ``_<name>Changed``."""

    def __init__(self, kind: Any, default: Any, enumeration: Any = None) -> None:
        self._default = default
        self._enumeration = enumeration
        super().__init__(kind, self._get, self._set)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        setter = f"set{name[0].upper()}{name[1:]}"
        if setter not in vars(owner):
            setattr(owner, setter, lambda this, value: self._set(this, value))

    def _get(self, this: Any) -> Any:
        value = this.__dict__.get(f"_{self._name}", self._default)
        return self._enumeration(value) if self._enumeration else value

    def _set(self, this: Any, value: Any) -> None:
        if value != self._get(this):
            this.__dict__[f"_{self._name}"] = value
            getattr(this, f"_{self._name}Changed", lambda: None)()


def unscoped(kind: Any) -> Any:
    """Make the enumerators of a class's enumerations attributes of the class, as in C++."""
    for enumeration in [found for found in vars(kind).values() if hasattr(found, "__members__")]:
        for name, member in enumeration.__members__.items():
            setattr(kind, name, member)
    return kind
