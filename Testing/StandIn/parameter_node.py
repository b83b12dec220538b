"""Typed parameters of a module's node, as ``slicer.parameterNodeWrapper``.

Only what this project's parameters are: ``str``, ``bool``, ``int``, ``float``, ``Path``, ``Enum``
and nodes, with ``WithinRange`` and ``Default``. They are written into the real node as Slicer
writes them, so a scene that was saved by the one is read by the other.
"""

from __future__ import annotations

import enum
import pathlib
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ctk
import qt
import slicer

__all__ = ["Default", "WithinRange", "parameterNodeWrapper"]


@dataclass(frozen=True)
class WithinRange:
    """Lets only numbers between two pass, with these two."""

    minimum: float
    maximum: float

    def validate(self, value: float) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(
                f"Value must be within range [{self.minimum}, {self.maximum}], is {value}"
            )


@dataclass(frozen=True)
class Default:
    """The value of a parameter that was not set."""

    value: Any


class _Parameter:
    """How one member is kept in the node."""

    def __init__(self, name: str, kind: Any, owner: type) -> None:
        self.name = name
        self.annotations: tuple[Any, ...] = getattr(kind, "__metadata__", ())
        self.kind = typing.get_args(kind)[0] if self.annotations else kind
        if self.kind not in (str, bool, int, float, pathlib.Path) and not (
            issubclass(self.kind, (enum.Enum, slicer.vtkMRMLNode))
        ):
            raise TypeError(f"the stand-in has no serializer for {name}: {self.kind}")
        given = [each.value for each in self.annotations if isinstance(each, Default)]
        self.default = getattr(owner, name, given[0] if given else self._first())
        unknown = [
            each for each in self.annotations if not isinstance(each, (Default, WithinRange))
        ]
        if unknown:
            raise TypeError(f"the stand-in does not know {unknown} of {name}")

    @property
    def is_node(self) -> bool:
        return issubclass(self.kind, slicer.vtkMRMLNode)

    @property
    def bounds(self) -> WithinRange | None:
        return next((each for each in self.annotations if isinstance(each, WithinRange)), None)

    def _first(self) -> Any:
        if issubclass(self.kind, enum.Enum):
            return next(iter(self.kind))
        return None if self.is_node else self.kind()

    def read(self, node: Any) -> Any:
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.kind is bool:
            return text == "True"
        if issubclass(self.kind, enum.Enum):
            if text not in self.kind.__members__:
                raise ValueError(f"Found {text!r} in parameter node but it is not in {self.kind!r}")
            return self.kind[text]
        return self.kind(text)

    def write(self, node: Any, value: Any) -> None:
        accepted = (int, float) if self.kind is float else self.kind
        if not isinstance(value, accepted) and not (self.is_node and value is None):
            raise (ValueError if value is None else TypeError)(
                f"{self.name} must be of type {self.kind}, is {value!r}"
            )
        if self.bounds is not None:
            self.bounds.validate(value)
        if self.is_node:
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        else:
            text = value.name if isinstance(value, enum.Enum) else str(value)
            node.SetParameter(self.name, text)


class _Connector:
    """One widget bound to one parameter."""

    def __init__(self, widget: Any, parameter: _Parameter) -> None:
        kind, self.widget, self.parameter = parameter.kind, widget, parameter
        exact = type(widget)
        self.labels: list[Any] = []
        if kind is bool and exact is qt.QCheckBox:
            self._use("checked", "stateChanged(int)")
        elif kind is bool and exact is qt.QPushButton:
            self._use("checked", "toggled(bool)")
        elif kind is str and exact is qt.QLineEdit:
            self._use("text", "textChanged(QString)")
        elif kind is int and exact in (qt.QSpinBox, qt.QSlider):
            self._use("value", "valueChanged(int)")
        elif kind is float and exact in (
            *(qt.QDoubleSpinBox, ctk.ctkDoubleSpinBox),
            ctk.ctkSliderWidget,
        ):
            self._use("value", "valueChanged(double)")
        elif kind is pathlib.Path and exact is ctk.ctkPathLineEdit:
            self._use("currentPath", "currentPathChanged(QString)")
        elif parameter.is_node and exact is slicer.qMRMLNodeComboBox:
            self.signal = "currentNodeChanged(vtkMRMLNode*)"
            self.read, self.write = widget.currentNode, widget.setCurrentNode
        elif issubclass(kind, enum.Enum) and exact in (qt.QComboBox, ctk.ctkComboBox):
            self._use("currentIndex", "currentIndexChanged(int)")
            self.labels = list(kind)
            widget.clear()
            for each in self.labels:
                widget.addItem(each.label() if hasattr(each, "label") else each.name)
        else:
            raise RuntimeError(
                f"Unable to create GUI connector from datatype '{kind}' to widget type '{exact}'"
            )
        if parameter.bounds is not None:
            widget.setRange(parameter.bounds.minimum, parameter.bounds.maximum)

    def _use(self, name: str, signal: str) -> None:
        self.signal = signal

        def read() -> Any:
            value = getattr(self.widget, name)
            return self.labels[value] if self.labels else self.parameter.kind(value)

        def write(value: Any) -> None:
            if self.labels:
                value = self.labels.index(value)
            elif self.parameter.kind is pathlib.Path:
                value = str(value)
            setattr(self.widget, name, value)

        self.read: Callable[[], Any] = read
        self.write: Callable[[Any], Any] = write


class _Wrapper:
    """What the decorator makes of a class."""

    allParameters: typing.ClassVar[dict[str, _Parameter]]

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        if prefix:
            raise TypeError("the stand-in does not do prefixes")
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[list[Any], int]] = {}
        self._updating = False
        for name, parameter in self.allParameters.items():
            if not parameterNode.HasParameter(name):
                parameter.write(parameterNode, parameter.default)
            parameter.read(parameterNode)

    def getValue(self, name: str) -> Any:
        return self.allParameters[name].read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        with slicer.util.NodeModify(self.parameterNode):
            self.allParameters[name].write(self.parameterNode, value)

    def default(self, name: str) -> Default:
        return Default(self.allParameters[name].default)

    def dataType(self, name: str) -> Any:
        return self.allParameters[name].kind

    def connectGui(self, gui: Any) -> int:
        if getattr(gui, "isWidgetType", lambda: False)():
            widgets = gui.findChildren(qt.QWidget)
        else:
            widgets = vars(gui).values()
        named = {widget.property("SlicerParameterName"): widget for widget in widgets}
        return self.connectParametersToGui({name: named[name] for name in named if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        unknown = sorted(set(mapping) - set(self.allParameters))
        if unknown:
            raise ValueError(f"Cannot find a param with the given name: {unknown}")
        bound = []
        for name, widget in mapping.items():
            connector = _Connector(widget, self.allParameters[name])
            connector.write(self.getValue(name))
            callback = self._callback(name, connector)
            widget.connect(connector.signal, callback)
            bound.append((name, connector, callback))
        tag = self.AddObserver("ModifiedEvent", lambda *_: self._showAll())
        self._guis[tag] = (bound, tag)
        return tag

    def _callback(self, name: str, connector: _Connector) -> Callable[[], None]:
        def changed() -> None:
            if not self._updating:
                self.setValue(name, connector.read())

        return changed

    def _showAll(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for bound, _ in self._guis.values():
                for name, connector, _ in bound:
                    connector.write(self.getValue(name))
        finally:
            self._updating = False

    def disconnectGui(self, tag: int) -> None:
        bound, observer = self._guis.pop(tag, ([], 0))
        for _, connector, callback in bound:
            connector.widget.disconnect(connector.signal, callback)
        if observer:
            self.RemoveObserver(observer)

    def StartModify(self) -> Any:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: Any) -> None:
        self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return int(self.parameterNode.AddObserver(event, callback, priority))

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def _member(name: str) -> property:
    return property(
        lambda self: self.getValue(name), lambda self, value: self.setValue(name, value)
    )


def parameterNodeWrapper(classtype: Any) -> Any:
    """Give a class that lists typed members to be kept in a parameter node."""
    hints = typing.get_type_hints(classtype, include_extras=True)
    parameters = {name: _Parameter(name, kind, classtype) for name, kind in hints.items()}
    members: dict[str, Any] = {name: _member(name) for name in parameters}
    for name, value in vars(_Wrapper).items():
        if name not in ("__dict__", "__weakref__", "__module__", "__doc__", "__annotations__"):
            if name in parameters:
                raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
            members[name] = value
    for name, value in {**members, "allParameters": parameters}.items():
        setattr(classtype, name, value)
    return classtype
