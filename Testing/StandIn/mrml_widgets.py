"""The MRML widgets of the module ``slicer``, on a real scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from StandIn.widgets import StandInWidget, stored


def observe(scene: Any, callback: Callable[[], None]) -> Callable[..., None]:
    """Call back when nodes come or go; return a function that ends it."""
    kind = slicer.vtkMRMLScene
    events = (kind.NodeAddedEvent, kind.NodeRemovedEvent, kind.EndBatchProcessEvent)
    tags = [scene.AddObserver(event, lambda *_: callback()) for event in events]

    def stop(*_: Any) -> None:
        while tags:
            scene.RemoveObserver(tags.pop())

    return stop


def observe_removal(scene: Any, callback: Callable[[Any], None]) -> Callable[[], None]:
    """Call back with a node that is still in the scene; return a function that ends it."""

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def removed(_scene: Any, _event: str, node: Any) -> None:
        callback(node)

    tag = scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, removed)
    return lambda: scene.RemoveObserver(tag)


class qMRMLWidget(StandInWidget, QtWidgets.QWidget):
    """A widget that hands the scene on to those in it."""

    SIGNALS = ("mrmlSceneChanged(vtkMRMLScene*)",)
    SLOTS = ("setMRMLScene(vtkMRMLScene*)",)
    CONTAINER = True
    _scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self._emit("mrmlSceneChanged(vtkMRMLScene*)", scene)


class qMRMLNodeComboBox(StandInWidget, QtWidgets.QWidget):
    """A chooser of a scene's nodes.

    What is chosen, and told, when nodes come and go was tried in Slicer: a node that appears is not
    chosen for that, even where there must be one; the removal of the only node is not told there.
    """

    SIGNALS = (
        *("currentNodeChanged(vtkMRMLNode*)", "currentNodeChanged(bool)"),
        *("currentNodeIDChanged(QString)", "nodeActivated(vtkMRMLNode*)"),
        *("nodeAdded(vtkMRMLNode*)", "nodeAddedByUser(vtkMRMLNode*)"),
        *("nodeAboutToBeRemoved(vtkMRMLNode*)", "currentNodeRenamed(QString)"),
    )
    SLOTS = (
        *("setMRMLScene(vtkMRMLScene*)", "setCurrentNode(vtkMRMLNode*)"),
        *("setCurrentNode(QString)", "setCurrentNodeID(QString)", "removeCurrentNode()"),
    )
    nodeTypes = stored("QStringList", [])
    showHidden = stored(bool, False)
    showChildNodeTypes = stored(bool, True)
    hideChildNodeTypes = stored("QStringList", [])
    baseName = stored(str, "")
    noneEnabled = stored(bool, False)
    addEnabled = stored(bool, True)
    removeEnabled = stored(bool, True)
    editEnabled = stored(bool, False)
    renameEnabled = stored(bool, False)
    selectNodeUponCreation = stored(bool, True)
    noneDisplay = stored(str, "None")
    interactionNodeSingletonTag = stored(str, "")
    sizeAdjustPolicy = stored(int, 1, QtWidgets.QComboBox.SizeAdjustPolicy)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._stop_observing: Callable[..., None] = lambda: None
        self._attributes: list[tuple[str, str, Any]] = []
        self._requested = ""  # before there was a scene
        self._forget_names: Callable[..., None] = lambda: None
        self._combo = QtWidgets.QComboBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.currentIndexChanged.connect(self._tell)
        self._combo.activated.connect(self._activated)
        self.setEnabled(False)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        requested = self.currentNodeID or self._requested
        self._stop_observing()
        self._forget_names()
        self._scene = scene
        self.setEnabled(scene is not None)
        self._fill(silently=True)
        if scene is not None:
            stop_filling = observe(scene, self._fill)
            stop_telling = observe_removal(scene, self._about_to_be_removed)

            def stop(*_: Any) -> None:
                stop_filling()
                stop_telling()

            self._stop_observing = stop
            self.destroyed.connect(stop)
            place = self._combo.findData(requested) if requested else 0
            self._select(max(place, 0) if self._combo.count() else -1)
            self._tell()

    def _fits(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        exact = node.GetClassName() in self.nodeTypes
        if not exact and not (self.showChildNodeTypes and any(map(node.IsA, self.nodeTypes))):
            return False
        if not exact and any(map(node.IsA, self.hideChildNodeTypes)):
            return False
        return all(
            node.GetAttribute(name) is not None
            and (value is None or node.GetAttribute(name) == str(value))
            for kind, name, value in self._attributes
            if node.IsA(kind)
        )

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        found = [self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes())]
        return [node for node in found if self._fits(node)]

    def _fill(self, *, silently: bool = False) -> None:
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        previous, place = self._combo.currentData(), self._combo.currentIndex()
        nodes = self._nodes()
        self._combo.blockSignals(True)
        self._combo.clear()
        if self.noneEnabled:
            self._combo.addItem(self.noneDisplay, "")
        for node in nodes:
            self._combo.addItem(node.GetName(), node.GetID())
        self._combo.blockSignals(False)
        self._watch_names(nodes)
        there = self._combo.findData(previous) if previous else -1
        if place < 0 and not self.noneEnabled:
            self._select(-1)  # what was not chosen is not chosen because it appears
        elif there >= 0:
            self._select(there)
        elif previous:  # it was removed: the next is taken, or the last
            self._select(min(place, self._combo.count() - 1))
            if not silently and (nodes or self.noneEnabled):
                self._tell()
        else:
            self._select(0 if self._combo.count() else -1)
            if place == 0 and not self.noneEnabled and nodes:
                self._tell()

    def _about_to_be_removed(self, node: Any) -> None:
        if self._combo.findData(node.GetID()) >= 0:
            self._emit("nodeAboutToBeRemoved(vtkMRMLNode*)", node)

    def _sizeAdjustPolicyChanged(self) -> None:
        self._combo.setSizeAdjustPolicy(self.sizeAdjustPolicy)

    _nodeTypesChanged = _showHiddenChanged = _noneEnabledChanged = _noneDisplayChanged = _fill
    _showChildNodeTypesChanged = _hideChildNodeTypesChanged = _fill

    def _watch_names(self, nodes: list[Any]) -> None:
        self._forget_names()
        observed = [(node, node.AddObserver("ModifiedEvent", self._renamed)) for node in nodes]

        def forget(*_: Any) -> None:
            while observed:
                node, tag = observed.pop()
                node.RemoveObserver(tag)

        self._forget_names = forget
        self.destroyed.connect(forget)

    def _renamed(self, node: Any, _: str) -> None:
        place = self._combo.findData(node.GetID())
        if place < 0 or self._combo.itemText(place) == node.GetName():
            return
        self._combo.setItemText(place, node.GetName())
        if place == self._combo.currentIndex():
            self._emit("currentNodeRenamed(QString)", node.GetName())
            self._tell()

    def _select(self, place: int) -> None:
        self._combo.blockSignals(True)
        self._combo.setCurrentIndex(place)
        self._combo.blockSignals(False)

    def _tell(self, *_: Any) -> None:
        node = self.currentNode()
        self._emit("currentNodeChanged(vtkMRMLNode*)", node)
        self._emit("currentNodeChanged(bool)", node is not None)
        self._emit("currentNodeIDChanged(QString)", self.currentNodeID)

    def _activated(self, *_: Any) -> None:
        self._emit("nodeActivated(vtkMRMLNode*)", self.currentNode())

    def _getCurrentNodeID(self) -> str:
        return self._combo.currentData() or ""

    def setCurrentNodeID(self, identity: str) -> None:
        self._requested = identity or ""
        place = self._combo.findData(identity or "")
        self._combo.setCurrentIndex(place if place >= 0 or not self.noneEnabled else 0)

    currentNodeID = QtCore.Property(str, _getCurrentNodeID, setCurrentNodeID)

    def currentNode(self) -> Any:
        identity = self.currentNodeID
        return self._scene.GetNodeByID(identity) if self._scene and identity else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node else "")

    def nodeCount(self) -> int:
        return len(self._nodes())

    def nodeFromIndex(self, index: int) -> Any:
        return self._nodes()[index] if 0 <= index < self.nodeCount() else None

    def addAttribute(self, kind: str, name: str, value: Any = None) -> None:
        self._attributes.append((kind, name, value))
        self._fill()

    def addNode(self, kind: str = "") -> Any:
        kind = kind or self.nodeTypes[0]
        name = self.baseName or self._scene.GetTagByClassName(kind)
        node = self._scene.AddNewNodeByClass(kind, self._scene.GenerateUniqueName(name))
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self._emit("nodeAddedByUser(vtkMRMLNode*)", node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())
