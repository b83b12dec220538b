"""The layout manager: real view nodes from real layout descriptions, but nothing is drawn."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from StandIn.mrml_widgets import observe
from StandIn.view_widgets import qMRMLPlotView, qMRMLTableView, qMRMLThreeDView
from StandIn.widgets import StandInWidget


class qMRMLSliceControllerWidget(StandInWidget, QtWidgets.QWidget):
    """The bar above a slice view."""

    _logic: Any = None

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    def sliceLogic(self) -> Any:
        return self._logic


class _ViewWidget(StandInWidget, QtWidgets.QWidget):
    """The place of a view that is not a slice view."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self._node = node

    def _viewNode(self) -> Any:
        return self._node


class qMRMLThreeDWidget(_ViewWidget):
    """The place of a 3D view."""

    mrmlViewNode = _ViewWidget._viewNode

    def __init__(self, node: Any) -> None:
        super().__init__(node)
        self._view = qMRMLThreeDView()
        self._view.setParent(self)
        camera = slicer.vtkMRMLCameraNode()
        camera.SetLayoutName(node.GetLayoutName())
        node.GetScene().AddNode(camera)

    def threeDView(self) -> Any:
        return self._view


class qMRMLTableWidget(_ViewWidget):
    """The place of a table view."""

    mrmlTableViewNode = _ViewWidget._viewNode

    def __init__(self, node: Any) -> None:
        super().__init__(node)
        self._view = qMRMLTableView(node)
        self._view.setParent(self)

    def tableView(self) -> Any:
        return self._view


class qMRMLPlotWidget(_ViewWidget):
    """The place of a plot view."""

    mrmlPlotViewNode = _ViewWidget._viewNode

    def __init__(self, node: Any) -> None:
        super().__init__(node)
        self._view = qMRMLPlotView()
        self._view.setParent(self)

    def plotView(self) -> Any:
        return self._view


_WIDGETS = {
    "vtkMRMLViewNode": qMRMLThreeDWidget,
    "vtkMRMLTableViewNode": qMRMLTableWidget,
    "vtkMRMLPlotViewNode": qMRMLPlotWidget,
}


class qMRMLSliceWidget(StandInWidget, QtWidgets.QWidget):
    """The place of a slice view."""

    def __init__(self, logic: Any) -> None:
        super().__init__()
        self._logic = logic
        self._controller = qMRMLSliceControllerWidget(self)
        self._controller._logic = logic

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def sliceLogic(self) -> Any:
        return self._logic

    def sliceController(self) -> Any:
        return self._controller

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


class qSlicerLayoutManager(StandInWidget, QtCore.QObject):
    """Keeps a widget for each view node of the scene, as the real one does."""

    SIGNALS = ("layoutChanged(int)",)
    SLOTS = ("setLayout(int)", "resetSliceViews()")

    def __init__(self, scene: Any, application_logic: Any) -> None:
        super().__init__()
        self._scene, self._application_logic = scene, application_logic
        self._widgets: dict[str, Any] = {}
        self._updating = False
        self._slice_logics = vtk.vtkCollection()
        application_logic.SetSliceLogics(self._slice_logics)
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(scene)
        self._node = self._logic.GetLayoutNode()
        self._layout = self._node.GetViewArrangement()
        self._tag = self._node.AddObserver("ModifiedEvent", self._changed)
        self._stop_observing = observe(scene, self._update)
        self._update()
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def _close(self) -> None:
        self._node.RemoveObserver(self._tag)
        self._stop_observing()

    def _views(self, kind: str) -> list[Any]:
        found = [
            self._scene.GetNthNodeByClass(index, kind)
            for index in range(self._scene.GetNumberOfNodesByClass(kind))
        ]
        return [node for node in found if node.GetParentLayoutNode() is None]

    def _update(self) -> None:
        views = {node.GetID(): node for node in self._views("vtkMRMLAbstractViewNode")}
        if self._scene.IsBatchProcessing() or self._updating or views.keys() == set(self._widgets):
            return
        self._updating = True  # a slice's logic adds nodes of its own to the scene
        for identity, node in views.items():
            if identity in self._widgets:
                continue
            if node.IsA("vtkMRMLSliceNode"):
                logic = slicer.vtkMRMLSliceLogic()
                logic.SetMRMLApplicationLogic(self._application_logic)
                self._slice_logics.AddItem(logic)
                logic.SetMRMLScene(self._scene)
                logic.SetSliceNode(node)
                logic.ResizeSliceNode(400, 300)
                self._widgets[identity] = qMRMLSliceWidget(logic)
            else:
                self._widgets[identity] = _WIDGETS[node.GetClassName()](node)
        for gone in set(self._widgets) - set(views):
            widget = self._widgets.pop(gone)
            if isinstance(widget, qMRMLSliceWidget):
                self._slice_logics.RemoveItem(widget._logic)
        self._updating = False

    def _changed(self, *_: Any) -> None:
        if self._node.GetViewArrangement() != self._layout:
            self._layout = self._node.GetViewArrangement()
            self._emit("layoutChanged(int)", self._layout)

    def _getLayout(self) -> int:
        return self._node.GetViewArrangement()

    def setLayout(self, layout: int) -> None:
        if not self._node.IsLayoutDescription(layout):
            layout = slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
        self._node.RemoveAllMaximizedViewNodes()
        self._node.SetViewArrangement(layout)

    layout = QtCore.Property(int, _getLayout, setLayout)

    def layoutLogic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return self._scene

    def mrmlSliceLogics(self) -> Any:
        return self._slice_logics

    def viewWidget(self, node: Any) -> Any:
        return self._widgets.get(node.GetID())

    def sliceViewNames(self) -> list[str]:
        return [node.GetLayoutName() for node in self._views("vtkMRMLSliceNode")]

    def sliceWidget(self, name: str) -> Any:
        for node in self._views("vtkMRMLSliceNode"):
            if node.GetLayoutName() == name:
                return self._widgets[node.GetID()]
        return None

    def _nth(self, kind: str, which: Any) -> Any:
        nodes = self._views(kind)
        if isinstance(which, str):
            nodes, which = [node for node in nodes if node.GetLayoutName() == which], 0
        return self._widgets[nodes[which].GetID()] if which < len(nodes) else None

    def threeDWidget(self, which: Any) -> Any:
        return self._nth("vtkMRMLViewNode", which)

    def tableWidget(self, which: int) -> Any:
        return self._nth("vtkMRMLTableViewNode", which)

    def plotWidget(self, which: int) -> Any:
        return self._nth("vtkMRMLPlotViewNode", which)

    threeDViewCount = QtCore.Property(int, lambda self: len(self._views("vtkMRMLViewNode")))
    tableViewCount = QtCore.Property(int, lambda self: len(self._views("vtkMRMLTableViewNode")))
    plotViewCount = QtCore.Property(int, lambda self: len(self._views("vtkMRMLPlotViewNode")))

    def resetSliceViews(self) -> None:
        for name in self.sliceViewNames():
            self.sliceWidget(name).sliceController().fitSliceToBackground()
