"""Connections by the signature in C++, of Qt's signals and of those that the stand-in plays.

The signals of the stand-in's own widgets take MRML nodes, which PySide6's metaobject cannot; they
are listed as ``SIGNALS`` in the class and are emitted here, without Qt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore

# For each QObject, by its address: what was connected to its signals.
_connections: dict[int, list[tuple[str, Callable[..., Any], Callable[..., None]]]] = {}


def _address(pyside: Any) -> int:
    if not shiboken6.isValid(pyside):
        raise ValueError(f"this {type(pyside).__name__} is destroyed")
    return int(shiboken6.getCppPointer(pyside)[0])


_Kind = QtCore.QMetaMethod.MethodType

# For each class: signatures of signals and of slots, and names of slots that are not public.
_members: dict[type, tuple[list[str], list[str], set[str]]] = {}


def _members_of(pyside: Any) -> tuple[list[str], list[str], set[str]]:
    kind = type(pyside)
    if kind not in _members:
        # PySide6 keeps a class's metaobject for no longer than it is used.
        meta = pyside.metaObject()
        methods = [meta.method(index) for index in range(meta.methodCount())]
        signals = [method for method in methods if method.methodType() == _Kind.Signal]
        slots = [method for method in methods if method.methodType() != _Kind.Constructor]
        shown = [slot for slot in slots if slot.access() == QtCore.QMetaMethod.Access.Public]
        hidden = {_text(slot.name()) for slot in slots} - {_text(slot.name()) for slot in shown}
        _members[kind] = (
            _own(kind, "SIGNALS") + [_text(signal.methodSignature()) for signal in signals],
            _own(kind, "SLOTS") + [_text(slot.methodSignature()) for slot in shown],
            hidden,
        )
    return _members[kind]


def _text(text: QtCore.QByteArray) -> str:
    return bytes(text.data()).decode()


def _own(kind: type, name: str) -> list[str]:
    return [signature for base in kind.__mro__ for signature in vars(base).get(name, ())]


def signals_of(pyside: Any) -> list[str]:
    """Return the signatures of the signals that an object has in C++."""
    return _members_of(pyside)[0]


def slots_of(pyside: Any) -> list[str]:
    """Return the signatures of the public slots, signals among them, of an object in C++."""
    return _members_of(pyside)[1]


def hidden_slots_of(pyside: Any) -> set[str]:
    """Return the names of the slots that only C++ can call."""
    return _members_of(pyside)[2]


def connect(
    pyside: Any, signature: str, callback: Callable[..., Any], call: Callable[..., None]
) -> bool:
    """Connect a signal to a Python function.

    Args:
        pyside: The object.
        signature: The signal's, as C++ has it.
        callback: The function, by which it can be disconnected again.
        call: What is called in its place.

    Raises:
        ValueError: There is no such signal.
    """
    signals = signals_of(pyside)
    if signature not in signals:
        name = signature.partition("(")[0]
        alike = [signal for signal in signals if signal.partition("(")[0] == name]
        raise ValueError(
            f"{type(pyside).__name__} has no signal '{signature}'"
            + (f", but {' and '.join(sorted(set(alike)))}" if alike else "")
        )
    address = _address(pyside)
    if address not in _connections:
        _connections[address] = []
        pyside.destroyed.connect(lambda: _connections.pop(address, None))
    _connections[address].append((signature, callback, call))
    if not _is_own(pyside, signature):
        QtCore.QObject.connect(pyside, QtCore.SIGNAL(signature), call)
    return True


def disconnect(pyside: Any, signature: str, callback: Callable[..., Any] | None) -> bool:
    """Disconnect one Python function or, given None, all of them; return if there was one."""
    if signature not in signals_of(pyside):
        raise ValueError(f"{type(pyside).__name__} has no signal '{signature}'")
    found = [
        entry
        for entry in _connections.get(_address(pyside), [])
        if entry[0] == signature and (callback is None or entry[1] == callback)
    ]
    for entry in found[: 1 if callback else None]:
        _connections[_address(pyside)].remove(entry)
        if not _is_own(pyside, signature):
            QtCore.QObject.disconnect(pyside, QtCore.SIGNAL(signature), entry[2])
    return bool(found)


def emit(pyside: Any, signature: str, *args: Any) -> None:
    """Emit a signal; those of the stand-in's own widgets, and Qt's own."""
    if not _is_own(pyside, signature):
        name = signature.partition("(")[0]
        getattr(pyside, name)[signature[len(name) :].strip("()").replace(",", ", ")].emit(*args)
    elif not pyside.signalsBlocked():
        for connected, _, call in list(_connections.get(_address(pyside), [])):
            if connected == signature:
                call(*args)


def _is_own(pyside: Any, signature: str) -> bool:
    return signature in _own(type(pyside), "SIGNALS")
