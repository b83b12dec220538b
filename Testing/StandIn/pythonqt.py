"""PythonQt's way of reaching Qt's objects, over PySide6.

PythonQt and PySide6 give Python the same Qt in different shapes. In PythonQt properties are
attributes and no methods, signals are connected by their C++ signature, enumerators are plain
numbers, lists come back as tuples, and nothing is converted that is not asked for. Code written
against the one rarely runs on the other, so every object of PySide6 is handed out inside a
:class:`Wrapper` that looks names up in PythonQt's order: property, method or signal, enumerator,
dynamic property, child by its name. What PythonQt would refuse is refused here, and some things
more: a misspelt signal raises here, where PythonQt prints a line and returns False.
"""

from __future__ import annotations

import enum
import inspect
import threading
import traceback
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtNetwork, QtWidgets

from StandIn import signals
from StandIn.enumerators import EnumType, EnumValue, PropertyFlags

_MODULES = (QtCore, QtGui, QtWidgets, QtNetwork)
_METHOD_TYPES = (
    type(QtCore.QObject.objectName),  # method
    type(QtCore.QTimer.singleShot),  # static method, also a bound one
)

# What PySide6 has and PythonQt has not; found by asking PythonQt for all the names that PySide6 has
# in a hundred classes. Slots that are not public it has not either.
_ONLY_IN_PYSIDE = {
    *("emit", "staticMetaObject", "receivers", "isQmlExposed", "connectNotify", "disconnectNotify"),
    *("create", "find", "internalWinId", "isTopLevel", "topLevelWidget", "updateMicroFocus"),
    *("toTuple", "toPython", "fromStdString", "toStdString", "getContentsMargins", "getCoords"),
    *("getRect", "getRgb", "getHsv", "getRange", "getItemPosition", "buttonText", "setButtonText"),
    *("standardButtonText", "shutdown", "nativeInterface", "requestPermission", "checkPermission"),
    *("setUnixProcessParameters", "unixProcessParameters"),
}
_ONLY_IN_PYSIDES_CLASS = {("QAction", "menu"), ("QAction", "setMenu")}

_PROPERTY_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool, int),
    "int": (int,),
    "uint": (int,),
    "double": (int, float),
    "QString": (str,),
    "QStringList": (list, tuple),
}

# Exceptions raised in slots, where PythonQt prints them and goes on. A test looks here.
errors: list[BaseException] = []


def _on_main_thread(what: str) -> None:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(f"{what}: Qt's objects belong to the main thread")


# One wrapper for each object, as long as it is held.
_wrappers: weakref.WeakValueDictionary[int, Wrapper] = weakref.WeakValueDictionary()


def wrap(value: Any) -> Any:
    """Return what Python gets in PythonQt for a value that PySide6 gave."""
    if isinstance(value, enum.Enum):
        return EnumValue(value)
    if isinstance(value, (list, tuple)):
        return tuple(wrap(item) for item in value)
    if isinstance(value, dict):
        return {key: wrap(item) for key, item in value.items()}
    if isinstance(value, shiboken6.Object):
        wrapper = _wrappers.get(id(value))
        if wrapper is None:
            wrapper = object.__new__(class_of(type(value)))
            wrapper._hold(value)
        return wrapper
    return value


def unwrap(value: Any) -> Any:
    """Return what PySide6 takes for a value that was given to PythonQt."""
    if isinstance(value, Wrapper):
        return value._pyside
    if isinstance(value, (EnumValue, PropertyFlags)):
        return value._member
    if isinstance(value, (list, tuple)):
        return [unwrap(item) for item in value]
    if isinstance(value, dict):
        return {key: unwrap(item) for key, item in value.items()}
    if isinstance(value, WrapperClass):
        return value._class
    return value


def called(function: Callable[..., Any], name: str, args: tuple[Any, ...]) -> Any:
    """Call a method of PySide6 with arguments given to PythonQt."""
    _on_main_thread(name)
    for arg in args:
        if inspect.isroutine(arg) or inspect.isfunction(arg):
            raise TypeError(f"{name} does not take a Python function in PythonQt")
    try:
        return wrap(function(*map(unwrap, args)))
    except RuntimeError as error:
        if "already deleted" in str(error):
            raise ValueError(f"Trying to call '{name}' on a destroyed object") from None
        raise


class Method:
    """A method or slot bound to an object or, if it is static, to its class."""

    def __init__(self, owner: str, name: str, function: Callable[..., Any]) -> None:
        self._name = f"{owner}.{name}"
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            raise ValueError(f"{self._name} does not support keyword arguments: {sorted(kwargs)}")
        return called(self._function, self._name, args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and self._function == other._function

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f"<method {self._name}>"


class Signal:
    """A signal of an object, by its name: the first of its overloads, as in PythonQt."""

    def __init__(self, wrapper: Wrapper, signature: str) -> None:
        self._wrapper = wrapper
        self._signature = signature

    def connect(self, callback: Callable[..., Any]) -> bool:
        return self._wrapper.connect(self._signature, callback)

    def disconnect(self, *callback: Callable[..., Any]) -> bool:
        return self._wrapper.disconnect(self._signature, *callback)

    def emit(self, *args: Any) -> None:
        signals.emit(self._wrapper._pyside, self._signature, *args)

    __call__ = emit


def guarded(callback: Callable[..., Any]) -> Callable[..., None]:
    """Return a function that calls back as PythonQt does.

    A Python function or method gets no more arguments than it takes. What it raises is printed
    and kept in :data:`errors`; in Slicer it is printed and makes a test program fail.
    """
    count = _argument_count(callback)

    def call(*args: Any) -> None:
        try:
            callback(*map(wrap, args[:count]))
        except BaseException as error:
            traceback.print_exc()
            errors.append(error)

    return call


def _argument_count(callback: Callable[..., Any]) -> int | None:
    function = getattr(callback, "__func__", callback)
    if not inspect.isfunction(function):
        return None
    if function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return function.__code__.co_argcount - (function is not callback)


class WrapperClass(type):
    """A class of Qt as PythonQt shows it: its constructor, enumerators and static methods."""

    _class: Any

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{cls.__name__} has no attribute named '{name}'")
        for kind in cls._class.__mro__:
            if (kind.__name__, name) in STATIC_METHODS:
                return STATIC_METHODS[kind.__name__, name]
        found = _static(cls._class, name)
        if isinstance(found, enum.EnumMeta):
            return EnumType(found)
        if isinstance(found, enum.Enum):
            return EnumValue(found)
        if isinstance(found, type) and issubclass(found, shiboken6.Object):
            return class_of(found)
        if isinstance(found, _METHOD_TYPES) or inspect.isfunction(found):
            return Method(cls.__name__, name, found)
        raise AttributeError(f"{cls.__name__} has no attribute named '{name}'")

    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError(f"{cls.__name__}.{name} cannot be set")


def _static(pyside_class: Any, name: str) -> Any:
    if name in _ONLY_IN_PYSIDE or (pyside_class.__name__, name) in _ONLY_IN_PYSIDES_CLASS:
        return None
    found = getattr(pyside_class, name, None)
    if found is None and name.endswith("_"):
        found = getattr(pyside_class, name[:-1], None)
    return found


class Wrapper(metaclass=WrapperClass):
    """An object of Qt as PythonQt shows it."""

    __slots__ = ("__weakref__", "_pyside")
    _class: Any = None
    _pyside: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        if kwargs:
            raise ValueError(f"{name}() does not support keyword arguments: {sorted(kwargs)}")
        _on_main_thread(name)
        self._hold(type(self)._class(*map(unwrap, args)))

    def _hold(self, pyside: Any) -> None:
        object.__setattr__(self, "_pyside", pyside)
        _wrappers[id(pyside)] = self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "_class" not in vars(cls):
            raise TypeError(f"{cls.__name__}: the stand-in does not do subclasses of Qt's classes")

    # The order of these lookups is PythonQt's.
    def __getattr__(self, name: str) -> Any:
        pyside, kind = self._pyside, type(self).__name__
        if name.startswith("_"):
            raise AttributeError(f"{kind} has no attribute named '{name}'")
        _on_main_thread(f"{kind}.{name}")
        if not shiboken6.isValid(pyside):
            raise ValueError(f"Trying to read '{name}' from a destroyed {kind} object")
        if isinstance(pyside, QtCore.QObject):
            if has_property(pyside, name):
                return _read(pyside, name)
            signal = next(
                (s for s in signals.signals_of(pyside) if s.partition("(")[0] == name), None
            )
            if signal:
                return Signal(self, signal)
            if name in signals.hidden_slots_of(pyside):
                raise AttributeError(f"{kind}.{name} is no public slot")
        for base in type(pyside).__mro__:
            special = METHODS.get((base.__name__, name))
            if special:
                return Method(kind, name, partial(special, pyside))
        found = _static(type(pyside), name)
        if isinstance(found, _METHOD_TYPES) or inspect.isfunction(found):
            bound = getattr(pyside, name, None) or getattr(pyside, name.removesuffix("_"))
            return Method(kind, name, bound)
        if found is not None and not isinstance(found, QtCore.Signal):
            return getattr(type(self), name)
        if isinstance(pyside, QtCore.QObject):
            if name.encode() in [bytes(known) for known in pyside.dynamicPropertyNames()]:
                return wrap(pyside.property(name))
            for child in pyside.children():
                if child.objectName() == name:
                    return wrap(child)
        raise AttributeError(f"{kind} has no attribute named '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        pyside, kind = self._pyside, type(self).__name__
        _on_main_thread(f"{kind}.{name}")
        if not shiboken6.isValid(pyside):
            raise AttributeError(f"Trying to set '{name}' on a destroyed {kind} object")
        if not isinstance(pyside, QtCore.QObject):
            raise AttributeError(f"'{name}' does not exist on {kind} and cannot be set on it")
        if has_property(pyside, name):
            _write(pyside, name, value)
        elif name.encode() in [bytes(known) for known in pyside.dynamicPropertyNames()]:
            pyside.setProperty(name, unwrap(value))
        else:
            raise AttributeError(f"'{name}' does not exist on {kind} and cannot be set on it")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Wrapper):
            return NotImplemented
        if isinstance(self._pyside, QtCore.QObject):
            return self._pyside is other._pyside
        return bool(self._pyside == other._pyside)

    def __hash__(self) -> int:
        return hash(self._pyside)

    def __bool__(self) -> bool:
        return shiboken6.isValid(self._pyside)

    def __repr__(self) -> str:
        return f"{type(self).__name__} (at: {id(self._pyside):#x})"

    def className(self) -> str:
        """Return the name of the class, which PythonQt has as a method of every object."""
        return type(self).__name__

    def inherits(self, name: str) -> bool:
        """Return whether this is an object of a class or of one derived from it."""
        return any(kind.__name__ == name for kind in type(self._pyside).__mro__)

    def delete(self) -> None:
        """Delete the object in C++ at once."""
        shiboken6.delete(self._pyside)

    def connect(self, signature: str, callback: Callable[..., Any]) -> bool:
        """Connect a signal to a Python function."""
        _on_main_thread("connect")
        if not callable(callback):
            raise TypeError(f"{signature}: {callback!r} cannot be called")
        return signals.connect(self._pyside, signature, callback, guarded(callback))

    def disconnect(self, signature: str, callback: Callable[..., Any] | None = None) -> bool:
        """Disconnect a Python function, or all of them, from a signal."""
        _on_main_thread("disconnect")
        return signals.disconnect(self._pyside, signature, callback)


def has_property(pyside: QtCore.QObject, name: str) -> bool:
    """Return whether this is a Q_PROPERTY; ``name`` is another word for ``objectName``."""
    if isinstance(pyside, QtCore.QTimer) and name == "singleShot":
        return False  # PythonQt leaves it out in favour of the static method of that name.
    return name == "name" or pyside.metaObject().indexOfProperty(name) >= 0


def _read(pyside: QtCore.QObject, name: str) -> Any:
    name = "objectName" if name == "name" else name
    meta = pyside.metaObject()
    if isinstance(getattr(type(pyside), name, None), QtCore.Property):
        value = getattr(pyside, name)  # one of the stand-in's own
        return PropertyFlags(value) if isinstance(value, enum.Flag) else wrap(value)
    if meta.property(meta.indexOfProperty(name)).isFlagType():
        return PropertyFlags(getattr(pyside, name)())
    return wrap(pyside.property(name))


def _write(pyside: QtCore.QObject, name: str, value: Any) -> None:
    name = "objectName" if name == "name" else name
    meta = pyside.metaObject()
    known = meta.property(meta.indexOfProperty(name))
    kind = type(pyside).__name__
    if not known.isWritable():
        raise AttributeError(f"Property '{name}' of {kind} object is not writable")
    accepted = _PROPERTY_TYPES.get(known.typeName())
    if (accepted and not isinstance(value, accepted)) or not pyside.setProperty(
        name, unwrap(value)
    ):
        raise AttributeError(
            f"Property '{name}' of type '{known.typeName()}' of {kind} does not accept an object "
            f"of type {type(value).__name__} ({value!r})"
        )


_classes: dict[Any, WrapperClass] = {}


def class_of(pyside_class: Any) -> Any:
    """Return the class that wraps a class of PySide6 or of the stand-in.

    As in PythonQt it is not derived from what wraps the base class: ``isinstance(button,
    qt.QWidget)`` is False, ``button.inherits("QWidget")`` is True.
    """
    if pyside_class not in _classes:
        members = {"_class": pyside_class, "__slots__": (), "__doc__": pyside_class.__doc__}
        _classes[pyside_class] = WrapperClass(pyside_class.__name__, (Wrapper,), members)
    return _classes[pyside_class]


def qt_class(name: str) -> Any:
    """Return a class of Qt by its name, wrapped, or None."""
    for module in _MODULES:
        found = getattr(module, name, None)
        if isinstance(found, type) and name.startswith("Q"):
            return class_of(found)
    return None


# Where PythonQt has what PySide6 has not, or has it in another shape: by class and method.
STATIC_METHODS: dict[tuple[str, str], Any] = {}
METHODS: dict[tuple[str, str], Callable[..., Any]] = {}
