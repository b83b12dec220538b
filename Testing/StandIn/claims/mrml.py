"""MRML's widgets and the layout manager."""

from __future__ import annotations

from typing import Any

import slicer

from StandIn.claims.checking import refused, volume


def chooser_and_heard(none: bool) -> tuple[Any, list[str | None]]:
    chooser, heard = slicer.qMRMLNodeComboBox(), []
    chooser.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    chooser.noneEnabled = none

    def hear(node: Any) -> None:
        heard.append(node.GetName() if node is not None else None)

    chooser.connect("currentNodeChanged(vtkMRMLNode*)", hear)
    return chooser, heard


def node_choosers() -> None:
    chooser = slicer.qMRMLNodeComboBox()
    chooser.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert (chooser.noneEnabled, chooser.addEnabled, chooser.enabled) == (False, True, False)
    assert not refused(lambda: chooser.connect("currentNodeChanged(bool)", lambda _: None))
    assert not refused(lambda: chooser.connect("currentNodeIDChanged(QString)", lambda _: None))
    assert refused(lambda: chooser.connect("currentNodeChanged()", print))
    chooser.setMRMLScene(slicer.mrmlScene)
    assert chooser.enabled is True
    assert chooser.currentNode() is None
    assert chooser.currentNodeID == ""
    assert refused(lambda: chooser.currentNodeID())
    assert not refused(lambda: chooser.currentNode)
    node, labels = volume("a"), volume("b", "vtkMRMLLabelMapVolumeNode")
    assert chooser.nodeCount() == 2  # a label map is a scalar volume, too
    chooser.setCurrentNode(node)
    assert chooser.currentNode() is node
    assert chooser.currentNodeID == node.GetID()
    for each in (node, labels):
        slicer.mrmlScene.RemoveNode(each)


def node_choosers_tell_before_a_node_goes() -> None:
    chooser, _ = chooser_and_heard(none=True)
    chooser.setMRMLScene(slicer.mrmlScene)
    first, second = volume("a"), volume("b")
    chooser.setCurrentNode(first)
    told: list[Any] = []

    def hear(node: Any) -> None:
        told.append((node.GetName(), chooser.currentNodeID == node.GetID()))
        chooser.setCurrentNode(None)

    assert not refused(lambda: chooser.connect("nodeAboutToBeRemoved(vtkMRMLNode*)", hear))
    slicer.mrmlScene.RemoveNode(first)
    assert told == [("a", True)]
    assert chooser.currentNode() is None  # or it would be the other one
    slicer.mrmlScene.RemoveNode(second)
    assert told[1:] == [("b", False)]


def node_choosers_when_nodes_come_and_go() -> None:
    for none in (False, True):
        chooser, heard = chooser_and_heard(none)
        chooser.setMRMLScene(slicer.mrmlScene)
        assert heard == [None]
        a, b, _ = volume("a"), volume("b"), volume("c")
        assert heard == [None]
        chooser.setCurrentNode(b)
        slicer.mrmlScene.RemoveNode(b)
        assert heard == [None, "b", "c"]
        slicer.mrmlScene.RemoveNode(chooser.currentNode())
        assert heard[3:] == ["a"]
        volume("d")
        assert heard[4:] == []
        slicer.mrmlScene.RemoveNode(a)
        assert heard[4:] == ["d"]
        chooser.setCurrentNode(None)
        assert heard[5:] == [None]
        chooser.setCurrentNode(slicer.util.getNode("d"))
        chooser.currentNode().SetName("e")
        assert heard[6:] == ["d", "e"]
        slicer.mrmlScene.RemoveNode(chooser.currentNode())
        assert chooser.currentNode() is None
        assert heard[8:] == ([None] if none else [])
        last = volume("f")
        assert chooser.currentNode() is None
        slicer.mrmlScene.RemoveNode(last)


def node_choosers_that_get_a_scene_with_nodes() -> None:
    nodes = [volume("a"), volume("b")]
    chooser, heard = chooser_and_heard(False)
    chooser.setMRMLScene(slicer.mrmlScene)
    assert heard == ["a"]
    chooser, heard = chooser_and_heard(True)
    chooser.setMRMLScene(slicer.mrmlScene)
    assert heard == [None]
    chooser.noneEnabled = False
    assert heard == [None, "a"]
    early, _ = chooser_and_heard(True)
    early.setCurrentNode(nodes[1])
    early.setMRMLScene(slicer.mrmlScene)
    assert early.currentNode() is nodes[1]
    early.setMRMLScene(None)
    assert early.currentNode() is None
    assert early.enabled is False
    added = chooser.addNode()
    assert chooser.currentNode() is added
    for each in (*nodes, added):
        slicer.mrmlScene.RemoveNode(each)


def scenes_are_handed_on() -> None:
    widget, heard = slicer.qMRMLWidget(), []
    widget.connect("mrmlSceneChanged(vtkMRMLScene*)", heard.append)
    widget.setMRMLScene(slicer.mrmlScene)
    assert heard == [slicer.mrmlScene]
    assert widget.mrmlScene() is slicer.mrmlScene


def layouts_make_views() -> None:
    manager = slicer.app.layoutManager()
    previous = manager.layout
    node = manager.layoutLogic().GetLayoutNode()
    view = '<item><view class="vtkMRMLSliceNode" singletontag="{}"/></item>'
    node.AddLayoutDescription(
        3299,
        f'<layout type="horizontal">{view.format("MedPTQ_A")}{view.format("MedPTQ_B")}'
        '<item><view class="vtkMRMLTableViewNode" singletontag="TableView1"/></item></layout>',
    )
    heard: list[int] = []
    manager.connect("layoutChanged(int)", heard.append)
    manager.setLayout(3299)
    assert manager.layout == 3299
    assert heard[-1] == 3299
    assert {"MedPTQ_A", "MedPTQ_B", "Red"} <= set(manager.sliceViewNames())
    widget = manager.sliceWidget("MedPTQ_A")
    assert widget.mrmlSliceNode().GetLayoutName() == "MedPTQ_A"
    composite = widget.mrmlSliceCompositeNode()
    assert composite.GetLayoutName() == "MedPTQ_A"
    assert widget.sliceLogic().GetSliceCompositeNode() is composite
    assert manager.sliceWidget("MedPTQ_C") is None
    assert manager.tableViewCount >= 1
    assert refused(lambda: manager.layout())
    manager.setLayout(previous)
    assert manager.layout == previous
