"""How the comparison draws segmentations in a real MRML scene, and what they are afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medptq.models.segmentation_model import Label
from MedPTQSlicerLib import compareSegmentations
from MedPTQSlicerLib.compareSegmentations import Style
from MedPTQSlicerLib.compareSurfaces import hasSurfaces, removeSurfaces, surfaceSteps
from MedPTQSlicerLib.labelsToSegmentation import addSegmentation
from slicer_scenes import SlicerScene

LABELS = (Label(1, "Liver", (250, 40, 30)), Label(2, "Spleen", (40, 90, 250)))
GHOST = Style(fill=0, outline=3, surface=0.15)


@pytest.fixture
def scene() -> SlicerScene:
    return SlicerScene()


def _segmentation(scene: SlicerScene, name: str) -> Any:
    labels = np.zeros((12, 14, 16), np.uint8)
    labels[3:9, 3:11, 3:9] = 1
    labels[3:9, 3:11, 9:13] = 2
    volume = scene.scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
    volume = volume or scene.volume(labels.astype(np.int16))
    return addSegmentation(name, labels, LABELS, volume, "test")


def _as_drawn(node: Any) -> dict[str, Any]:
    display = node.GetDisplayNode()
    names = (
        *("Visibility", "ViewNodeIDs", "Visibility2DFill", "Opacity2DFill", "Visibility2DOutline"),
        *("SliceIntersectionThickness", "Visibility3D", "Opacity3D"),
    )
    drawn = {name: getattr(display, f"Get{name}")() for name in names}
    segments = node.GetSegmentation().GetSegmentIDs()
    return {**drawn, **{each: display.GetSegmentVisibility(each) for each in segments}}


def test_all_is_drawn_as_before_afterwards(scene: SlicerScene) -> None:
    views = [scene.add("vtkMRMLSliceNode"), scene.add("vtkMRMLViewNode")]
    compared, hidden, other = (_segmentation(scene, name) for name in ("INT8", "Mine", "Yours"))
    hidden.GetDisplayNode().SetVisibility(False)
    other.GetDisplayNode().SetOpacity2DFill(0.125)
    other.GetDisplayNode().SetViewNodeIDs([views[0].GetID()])
    compared.GetDisplayNode().SetSegmentVisibility("Label_2", False)
    before = [_as_drawn(node) for node in (compared, hidden, other)]

    display = compareSegmentations.displayOf(compared)
    compareSegmentations.hideAll(scene.scene)
    assert [_as_drawn(node)["Visibility"] for node in (compared, hidden, other)] == [0, 0, 0]
    compareSegmentations.draw(display, views, GHOST)
    display.SetSegmentVisibility("Label_1", False)
    display.SetSegmentVisibility("Label_2", True)
    assert _as_drawn(compared) == {
        "Visibility": 1,
        "ViewNodeIDs": tuple(view.GetID() for view in views),
        "Visibility2DFill": False,
        "Opacity2DFill": 0.0,
        "Visibility2DOutline": True,
        "SliceIntersectionThickness": 3,
        "Visibility3D": 1,
        "Opacity3D": 0.15,
        "Label_1": False,
        "Label_2": True,
    }
    compareSegmentations.hideAll(scene.scene)  # a second time changes nothing of what is noted
    compareSegmentations.restore(scene.scene)
    assert [_as_drawn(node) for node in (compared, hidden, other)] == before


def test_what_was_added_goes(scene: SlicerScene) -> None:
    _segmentation(scene, "INT8")
    count = scene.scene.GetNumberOfNodes()
    node = compareSegmentations.addSegmentation(scene.scene, "Where they differ")
    assert compareSegmentations.displayOf(node).GetDisplayableNode() is node
    compareSegmentations.restore(scene.scene)
    assert scene.scene.GetNumberOfNodes() == count
    assert scene.named("vtkMRMLSegmentationNode", "INT8") is not None


def test_a_segmentation_that_was_not_drawn_at_all_can_be(scene: SlicerScene) -> None:
    node = scene.add("vtkMRMLSegmentationNode")
    assert node.GetDisplayNode() is None
    assert compareSegmentations.displayOf(node) is node.GetDisplayNode() is not None


def test_a_scene_saved_meanwhile_is_mended_when_it_is_loaded(
    scene: SlicerScene, tmp_path: Path
) -> None:
    node = _segmentation(scene, "INT8")
    node.GetDisplayNode().SetOpacity2DFill(0.25)
    before = _as_drawn(node)
    display = compareSegmentations.displayOf(node)
    compareSegmentations.hideAll(scene.scene)
    compareSegmentations.draw(display, [scene.add("vtkMRMLSliceNode")], GHOST)
    compareSegmentations.addSegmentation(scene.scene, "Where they differ")
    restored = scene.saved_and_restored(tmp_path)
    again = restored.named("vtkMRMLSegmentationNode", "INT8")
    assert _as_drawn(again)["Opacity2DFill"] == 0
    compareSegmentations.restoreLoaded(scene.scene)  # it is shown in this one
    assert _as_drawn(node)["Opacity2DFill"] == 0
    compareSegmentations.restoreLoaded(restored.scene)
    assert _as_drawn(again) == before
    assert restored.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


@pytest.mark.parametrize("note", ["", "{}", "[1]", '{"node": {"Visibility": "x"}}'])
def test_a_damaged_note_makes_the_segmentation_visible(scene: SlicerScene, note: str) -> None:
    node = _segmentation(scene, "INT8")
    display = node.GetDisplayNode()
    compareSegmentations.hideAll(scene.scene)
    [name] = [each for each in display.GetAttributeNames() if display.GetAttribute(each)[:1] == "{"]
    display.SetAttribute(name, note)
    compareSegmentations.restore(scene.scene)
    assert (display.GetVisibility(), display.GetViewNodeIDs()) == (1, ())
    assert display.GetAttribute(name) is None


def test_surfaces_are_those_that_slicer_makes(scene: SlicerScene) -> None:
    mine, slicers = _segmentation(scene, "Mine"), _segmentation(scene, "Slicer's")
    for node in (mine, slicers):
        node.GetSegmentation().SetConversionParameter("Smoothing factor", "0.3")
    steps = sum(1 for _ in surfaceSteps(mine.GetSegmentation()))
    assert steps == len(LABELS)
    assert slicers.CreateClosedSurfaceRepresentation()
    for segment in ("Label_1", "Label_2"):
        surfaces = [
            node.GetSegmentation().GetSegment(segment).GetRepresentation("Closed surface")
            for node in (mine, slicers)
        ]
        points = [_points(surface) for surface in surfaces]
        np.testing.assert_array_equal(*points)
        assert len(points[0])
    assert hasSurfaces(mine.GetSegmentation())
    assert list(surfaceSteps(mine.GetSegmentation())) == []
    removeSurfaces(mine.GetSegmentation())
    assert not hasSurfaces(mine.GetSegmentation())


def test_segments_that_go_meanwhile_do_not_stop_the_others(scene: SlicerScene) -> None:
    segmentation = _segmentation(scene, "INT8").GetSegmentation()
    steps = surfaceSteps(segmentation)
    next(steps)
    segmentation.RemoveSegment("Label_1")
    assert len(list(steps)) == 1
    assert hasSurfaces(segmentation)


def _points(surface: Any) -> Any:
    from vtk.util.numpy_support import vtk_to_numpy

    return vtk_to_numpy(surface.GetPoints().GetData())
