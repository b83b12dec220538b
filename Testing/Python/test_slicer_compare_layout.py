"""The comparison's layout in a real MRML scene, with Slicer's own layout logic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MedPTQSlicerLib.compareLayout import FP32_VIEW, INT8_VIEW, Arrangement, CompareLayout, hasViews
from slicer_scenes import SlicerScene, slicer

FOUR_UP, CONVENTIONAL = 3, 2


class Views(SlicerScene):
    """A scene with the views of Slicer's main window, but for what draws them."""

    def __init__(self) -> None:
        super().__init__()
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene)
        self.logic = slicer.vtkMRMLLayoutLogic()
        self.logic.SetMRMLScene(self.scene)
        self.node = self.logic.GetLayoutNode()
        self.node.SetViewArrangement(FOUR_UP)
        self.left: list[bool] = []
        self.layout = CompareLayout(self.scene, lambda: self.left.append(True))

    @property
    def arrangement(self) -> int:
        return int(self.node.GetViewArrangement())

    def slice_logics(self) -> list[Any]:
        """Make what makes the composite nodes, which Slicer's slice views have."""
        logics = []
        for node in self.layout.sliceNodes():
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLScene(self.scene)
            logic.SetSliceNode(node)
            logics.append(logic)
        return logics


@pytest.fixture
def views() -> Views:
    return Views()


def test_the_previous_layout_comes_back(views: Views) -> None:
    views.node.SetViewArrangement(CONVENTIONAL)
    views.layout.show(Arrangement.SIDE_BY_SIDE)
    assert views.layout.isShown
    assert views.arrangement == Arrangement.SIDE_BY_SIDE
    views.layout.show(Arrangement.ONE_VIEW)
    assert views.arrangement == Arrangement.ONE_VIEW
    views.layout.leave()
    assert not views.layout.isShown
    assert (views.arrangement, views.left) == (CONVENTIONAL, [])
    views.layout.leave()
    assert views.arrangement == CONVENTIONAL


def test_a_layout_that_the_user_chooses_stays(views: Views) -> None:
    views.layout.show(Arrangement.SIDE_BY_SIDE)
    views.node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView)
    assert views.left == [True]
    views.layout.leave()
    assert views.arrangement == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView
    views.node.SetViewArrangement(FOUR_UP)
    assert views.left == [True]  # it is not listened to any more


def test_a_view_that_is_maximized_is_no_other_layout(views: Views) -> None:
    views.layout.show(Arrangement.SIDE_BY_SIDE)
    views.node.AddMaximizedViewNode(views.layout.sliceNodes()[0])
    assert views.left == []
    views.layout.show(Arrangement.ONE_VIEW)
    assert views.node.GetNumberOfMaximizedViewNodes() == 0


def test_what_was_left_over_by_a_crash_is_no_layout_to_go_back_to(views: Views) -> None:
    views.layout.show(Arrangement.SIDE_BY_SIDE)
    another = CompareLayout(views.scene, lambda: None)
    another.show(Arrangement.ONE_VIEW)
    another.leave()
    assert views.arrangement == FOUR_UP


def test_the_slice_views_are_linked_and_the_users_own_are_not(views: Views) -> None:
    views.layout.show(Arrangement.SIDE_BY_SIDE)
    logics = views.slice_logics()
    views.layout.show(Arrangement.SIDE_BY_SIDE)
    nodes = views.layout.sliceNodes()
    assert [node.GetLayoutName() for node in nodes] == [FP32_VIEW, INT8_VIEW]
    assert {node.GetOrientation() for node in nodes} == {"Axial"}
    assert len(logics) == len(views.layout.compositeNodes()) == 2
    for composite in views.layout.compositeNodes():
        assert composite.GetLinkedControl()
        assert composite.GetHotLinkedControl()
    red = views.scene.GetSingletonNode("Red", "vtkMRMLSliceNode")
    groups = [node.GetViewGroup() for node in (*nodes, red)]
    assert groups[0] == groups[1] != groups[2]


def test_the_other_views_are_those_that_slicer_has(views: Views) -> None:
    views.layout.show(Arrangement.SIDE_BY_SIDE)
    assert views.layout.threeDNode() is views.scene.GetFirstNodeByClass("vtkMRMLViewNode")
    assert views.layout.tableNode().GetLayoutName() == "TableView1"
    assert views.layout.plotNode().GetLayoutName() == "PlotView1"


def test_a_scene_saved_meanwhile_opens_with_the_readers_own_views(
    views: Views, tmp_path: Path
) -> None:
    views.layout.show(Arrangement.SIDE_BY_SIDE)
    views.slice_logics()
    views.layout.show(Arrangement.SIDE_BY_SIDE)
    views.volume(np.zeros((2, 3, 4)))
    restored = views.saved_and_restored(tmp_path)
    assert restored.scene.GetFirstNodeByClass("vtkMRMLLayoutNode") is None
    assert restored.scene.GetSingletonNode(FP32_VIEW, "vtkMRMLSliceNode") is None
    assert restored.scene.GetSingletonNode(INT8_VIEW, "vtkMRMLSliceCompositeNode") is None
    views.layout.leave()
    assert views.node.GetSaveWithScene()


def test_without_views_nothing_can_be_shown() -> None:
    scene = SlicerScene().scene
    assert not hasViews(scene)
    layout = CompareLayout(scene, lambda: None)
    with pytest.raises(RuntimeError, match="no views"):
        layout.show(Arrangement.SIDE_BY_SIDE)
    assert not layout.isShown
    layout.leave()
