"""How the comparison draws segmentations, and what brings back how they were drawn before.

What it was like before is written into the nodes: a scene that is saved meanwhile can be mended
when it is loaded again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slicer import (
        vtkMRMLAbstractViewNode,
        vtkMRMLNode,
        vtkMRMLScene,
        vtkMRMLSegmentationDisplayNode,
        vtkMRMLSegmentationNode,
    )

_OURS = "MedPTQ.Comparison.Segmentation"  # attribute of the nodes that are made here
_BEFORE = "MedPTQ.Comparison.Before"  # attribute of the display nodes that are changed here

_CHANGED = (
    "Visibility",
    "ViewNodeIDs",
    "Visibility2DFill",
    "Opacity2DFill",
    "Visibility2DOutline",
    "SliceIntersectionThickness",
    "Visibility3D",
    "Opacity3D",
)


_hidden: list[vtkMRMLSegmentationDisplayNode] = []
"""What :func:`hideAll` has hidden in this process, until :func:`restore`."""


@dataclass(frozen=True)
class Style:
    """How a segmentation is drawn.

    Attributes:
        fill: Opacity of its inside in slice views; 0 leaves it empty.
        outline: Width of its outline in slice views, in pixels; 0 for none.
        surface: Opacity of its surface in 3D.
    """

    fill: float
    outline: int
    surface: float = 1.0


def addSegmentation(scene: vtkMRMLScene, name: str) -> vtkMRMLSegmentationNode:
    """Add an empty segmentation, until :func:`restore`.

    Args:
        scene: The scene.
        name: The segmentation's name.
    """
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetAttribute(_OURS, "1")
    node.CreateDefaultDisplayNodes()
    return node


def displayOf(segmentationNode: vtkMRMLSegmentationNode) -> vtkMRMLSegmentationDisplayNode:
    """Return what draws a segmentation; it may have been without."""
    if segmentationNode.GetDisplayNode() is None:
        segmentationNode.CreateDefaultDisplayNodes()
    return segmentationNode.GetDisplayNode()


def hideAll(scene: vtkMRMLScene) -> None:
    """Take note of how all segmentations are drawn, for :func:`restore`, and hide them."""
    for displayNode in _nodes(scene, "vtkMRMLSegmentationDisplayNode"):
        if displayNode.GetAttribute(_BEFORE) is None:
            displayNode.SetAttribute(_BEFORE, _stateOf(displayNode))
        displayNode.SetVisibility(False)
        if displayNode not in _hidden:
            _hidden.append(displayNode)


def draw(
    displayNode: vtkMRMLSegmentationDisplayNode,
    viewNodes: Iterable[vtkMRMLAbstractViewNode],
    style: Style,
) -> None:
    """Draw a segmentation in these views only.

    Args:
        displayNode: The segmentation's, after :func:`hideAll`.
        viewNodes: Slice and 3D views.
        style: How it is drawn.
    """
    import slicer

    with slicer.util.NodeModify(displayNode):
        displayNode.SetViewNodeIDs([viewNode.GetID() for viewNode in viewNodes])
        displayNode.SetVisibility2DFill(style.fill > 0)
        displayNode.SetOpacity2DFill(style.fill)
        displayNode.SetVisibility2DOutline(style.outline > 0)
        displayNode.SetSliceIntersectionThickness(max(style.outline, 1))
        displayNode.SetVisibility3D(True)
        displayNode.SetOpacity3D(style.surface)
        displayNode.SetVisibility(True)


def restore(scene: vtkMRMLScene) -> None:
    """Remove what was added here, and draw all else as it was before :func:`hideAll`.

    It does so in a scene too that was saved while a comparison was shown.
    """
    _hidden.clear()
    for node in _nodes(scene, "vtkMRMLSegmentationNode"):
        if node.GetAttribute(_OURS) is not None:
            displayNode = node.GetDisplayNode()
            scene.RemoveNode(node)
            # In Slicer, though not in MRML itself, it goes with its segmentation.
            if displayNode is not None and displayNode.GetScene() is not None:
                scene.RemoveNode(displayNode)
    for displayNode in _nodes(scene, "vtkMRMLSegmentationDisplayNode"):
        before = displayNode.GetAttribute(_BEFORE)
        if before is not None:
            displayNode.RemoveAttribute(_BEFORE)
            _setState(displayNode, before)


def restoreLoaded(scene: vtkMRMLScene) -> None:
    """Do as :func:`restore` in a scene that was loaded, unless a comparison is shown in it now."""
    if not any(displayNode.GetScene() is scene for displayNode in _hidden):
        restore(scene)


def _stateOf(displayNode: vtkMRMLSegmentationDisplayNode) -> str:
    state = {name: getattr(displayNode, f"Get{name}")() for name in _CHANGED}
    segmentationNode = displayNode.GetDisplayableNode()
    segmentIds = segmentationNode.GetSegmentation().GetSegmentIDs() if segmentationNode else ()
    hidden = [each for each in segmentIds if not displayNode.GetSegmentVisibility(each)]
    return json.dumps({"node": state, "segments": list(segmentIds), "hidden": hidden})


def _setState(displayNode: vtkMRMLSegmentationDisplayNode, text: str) -> None:
    import slicer

    try:
        state = json.loads(text)
        with slicer.util.NodeModify(displayNode):
            for name in _CHANGED:
                getattr(displayNode, f"Set{name}")(state["node"][name])
            for segmentId in state["segments"]:
                displayNode.SetSegmentVisibility(segmentId, segmentId not in state["hidden"])
    except (ValueError, TypeError, KeyError):  # someone wrote something else into the scene's file
        displayNode.RemoveAllViewNodeIDs()
        displayNode.SetVisibility(True)


def _nodes(scene: vtkMRMLScene, className: str) -> list[vtkMRMLNode]:
    count = scene.GetNumberOfNodesByClass(className)
    return [scene.GetNthNodeByClass(index, className) for index in range(count)]
