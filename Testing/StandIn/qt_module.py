"""The module ``qt``: Qt's classes as PythonQt names and shapes them."""

from __future__ import annotations

from types import ModuleType
from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from StandIn import pythonqt, signals
from StandIn.widgets import KINDS


def _single_shot(milliseconds: int, callback: Any) -> None:
    if not callable(callback):
        raise TypeError(f"QTimer.singleShot: {callback!r} cannot be called")
    QtCore.QTimer.singleShot(milliseconds, pythonqt.guarded(callback))


def _find_child(pyside: Any, kind: Any, name: str = "") -> Any:
    return next(iter(_find_children(pyside, kind, name)), None)


def _find_children(pyside: Any, kind: Any, name: str = "") -> Any:
    if isinstance(kind, str):
        found = pyside.findChildren(QtCore.QObject)
        found = [child for child in found if pythonqt.wrap(child).inherits(kind)]
    else:
        found = pyside.findChildren(kind)
    return [child for child in found if not name or child.objectName() == name]


pythonqt.STATIC_METHODS["QTimer", "singleShot"] = _single_shot
pythonqt.METHODS["QObject", "findChild"] = _find_child
pythonqt.METHODS["QObject", "findChildren"] = _find_children


class QUiLoader(QtUiTools.QUiLoader):
    """Qt's loader of .ui files, with the stand-in's widgets, and strict.

    It raises on a class, property, signal or slot that the .ui file names and the real class does
    not have; Qt itself would print a line at best.
    """

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._error: BaseException | None = None

    def createWidget(self, name: str, parent: Any = None, object_name: str = "") -> Any:
        found = getattr(QtWidgets, name, None) or KINDS.get(name)
        if found is None:
            self._error = ValueError(f"the stand-in has no widget {name} ('{object_name}')")
            return None
        widget = found(parent) if parent is not None else found()
        widget.setObjectName(object_name)
        return widget

    def load(self, file: QtCore.QIODevice, parent: Any = None) -> Any:
        root = ElementTree.fromstring(bytes(file.readAll().data()))  # noqa: S314
        for custom in root.iter("customwidget"):
            _check_custom_widget(custom)
        enumerators = [found for element in root.iter("widget") for found in _take_enums(element)]
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer, parent)
        if self._error or widget is None:
            raise self._error or RuntimeError(self.errorString())
        names = {child.objectName(): child for child in widget.findChildren(QtCore.QObject)}
        names[widget.objectName()] = widget
        for element in root.iter("widget"):
            _check_properties(element, names[element.get("name", "")])
        for owner, name, value in enumerators:
            if not names[owner].setProperty(name, value):
                raise ValueError(f"'{owner}' has no '{name}'")
        for connection in connections if connections is not None else ():
            _connect(names, {part.tag: part.text or "" for part in connection})
        return widget


def _check_custom_widget(custom: Any) -> None:
    name, extends = custom.findtext("class"), custom.findtext("extends")
    kind = KINDS.get(name)
    if kind is None:
        raise ValueError(f"the stand-in has no widget {name}")
    if extends not in [base.__name__ for base in kind.__mro__]:
        raise ValueError(f"{name} does not extend {extends}")
    if kind.CONTAINER and custom.findtext("container") != "1":
        raise ValueError(f"{name} needs <container>1</container> for its children to be inside")


def _take_enums(element: Any) -> list[tuple[str, str, int]]:
    """Take the properties of enumerations that the stand-in plays; Qt cannot read them."""
    found = []
    kind = KINDS.get(element.get("class"))
    for given in element.findall("property"):
        name, text = given.get("name", ""), given.findtext("set") or given.findtext("enum")
        if not text or not isinstance(getattr(kind, name, None), QtCore.Property):
            continue
        value = 0
        for part in text.split("|"):
            owner, *_, enumerator = part.split("::")
            value |= getattr(getattr(QtWidgets, owner, kind), enumerator).value
        found.append((element.get("name"), name, value))
        element.remove(given)
    return found


def _check_properties(element: Any, widget: Any) -> None:
    for given in element.findall("property"):
        name = given.get("name")
        # Qt's loader has its own ways with a label's buddy and a line's orientation.
        if given.get("stdset") == "0" or name == "buddy" or element.get("class") == "Line":
            continue
        if widget.metaObject().indexOfProperty(name) < 0:
            raise ValueError(f"{element.get('class')} '{element.get('name')}' has no '{name}'")


def _connect(names: dict[str, Any], parts: dict[str, str]) -> None:
    receiver, slot = names[parts["receiver"]], parts["slot"]
    if slot not in signals.slots_of(receiver):
        raise ValueError(f"{type(receiver).__name__} has no slot '{slot}'")
    name, _, types = slot.partition("(")
    count = len(types.strip(")").split(",")) if types != ")" else 0
    method = getattr(receiver, name)

    def call(*args: Any) -> None:
        method(*args[:count])

    signals.connect(names[parts["sender"]], parts["signal"], call, call)


class QtModule(ModuleType):
    """The module; a class is made when it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name == "QUiLoader":
            return pythonqt.class_of(QUiLoader)
        found = pythonqt.qt_class(name)
        if found is None:
            raise AttributeError(f"module 'qt' has no attribute '{name}'")
        return found
