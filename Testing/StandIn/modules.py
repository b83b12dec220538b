"""Slicer's modules as the application knows them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from StandIn import pythonqt
from StandIn.mrml_widgets import qMRMLWidget
from StandIn.widgets import StandInWidget, stored


class qSlicerLoadableModule(StandInWidget, QtCore.QObject):
    """One of Slicer's modules in C++: only its logic."""

    _logic: Any = None

    def logic(self) -> Any:
        return self._logic


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The parent of a scripted module's widget."""

    SLOTS = ("reload()",)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._self, self._entered = path, None, False
        QtWidgets.QVBoxLayout(self)

    moduleName = QtCore.Property(str, lambda self: self._path.stem)
    isEntered = QtCore.Property(bool, lambda self: self._entered)

    def reload(self) -> None:
        # As in Slicer: the class that sys.modules has by now.
        name = f"{self._path.stem}Widget"
        self._self = getattr(sys.modules[self._path.stem], name)(pythonqt.wrap(self))
        setattr(slicer.modules, name, self._self)
        self._self.setup()

    def self(self) -> Any:
        return self._self

    def _enter(self) -> None:
        self._entered = True
        getattr(self._self, "enter", lambda: None)()

    def _exit(self) -> None:
        self._entered = False
        getattr(self._self, "exit", lambda: None)()


class qSlicerScriptedLoadableModule(StandInWidget, QtCore.QObject):
    """A scripted module."""

    title = stored(str, "")
    categories = stored("QStringList", [])
    contributors = stored("QStringList", [])
    dependencies = stored("QStringList", [])
    associatedNodeTypes = stored("QStringList", [])
    helpText = stored(str, "")
    acknowledgementText = stored(str, "")
    hidden = stored(bool, False)
    icon = stored(QtGui.QIcon, QtGui.QIcon())
    index = stored(int, -1)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._widget: Any = None

    path = QtCore.Property(str, lambda self: str(self._path))
    name = QtCore.Property(str, lambda self: self._path.stem)

    def widgetRepresentation(self) -> Any:
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self._path)
            self._widget.reload()
            self._widget.setMRMLScene(slicer.mrmlScene)
        return self._widget


class qSlicerModuleManager(StandInWidget, QtCore.QObject):
    """Knows the modules by their names."""

    SIGNALS = ("moduleLoaded(QString)", "moduleAboutToBeUnloaded(QString)")

    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[str, Any] = {}

    def modulesNames(self) -> list[str]:
        return list(self._modules)

    def module(self, name: str) -> Any:
        return self._modules.get(name)
