"""A segmentation of the user's becomes the label map that a comparison is held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from medptq.errors import ScanError
from medptq.models.segmentation_model import Label
from MedPTQSlicerLib.labelsToSegmentation import addSegmentation
from MedPTQSlicerLib.referenceLabels import referenceLabels
from slicer_scenes import SlicerScene, slicer, tilted

LABELS = (
    Label(1, "Liver", (221, 130, 101)),
    Label(300, "Spleen", (157, 108, 162)),
    Label(7, "Tumour", (144, 238, 144)),
)
NAMES = ("TUMOUR", "liver", "Something else", "Spleen")  # in another order, with one more


@pytest.fixture
def scene() -> SlicerScene:
    return SlicerScene()


def drawn() -> Any:
    """Return what a user has drawn: a number for each of NAMES, from 1 on."""
    array = np.zeros((6, 8, 10), np.uint8)
    array[1:5, 2:6, 1:8] = 2
    array[2:4, 3:5, 2:4] = 1
    array[5, 7, 9] = 3
    return array


def segmentation(volume: Any, array: Any, names: Sequence[str]) -> Any:
    labels = [Label(value, name, (9, 9, 9)) for value, name in enumerate(names, 1)]
    return addSegmentation("By hand", array, labels, volume, "a person")


def volume_in(scene: SlicerScene) -> Any:
    return scene.volume(np.zeros(drawn().shape, np.int16), tilted())


def expected() -> Any:
    return np.array([0, 7, 1, 0, 300])[drawn()]


def test_segments_are_found_by_their_names(scene: SlicerScene) -> None:
    volume = volume_in(scene)
    found = referenceLabels(segmentation(volume, drawn(), NAMES), volume, LABELS)
    np.testing.assert_array_equal(found, expected())
    assert found.dtype == np.uint16


def test_nothing_is_left_in_the_scene(scene: SlicerScene) -> None:
    volume = volume_in(scene)
    node = segmentation(volume, drawn(), NAMES)
    before = [scene.scene.GetNthNode(n) for n in range(scene.scene.GetNumberOfNodes())]
    referenceLabels(node, volume, LABELS)
    after = [scene.scene.GetNthNode(n) for n in range(scene.scene.GetNumberOfNodes())]
    assert after == before


def test_transforms_are_taken_into_account(scene: SlicerScene) -> None:
    volume = volume_in(scene)
    node = segmentation(volume, drawn(), NAMES)
    shift = np.eye(4)
    shift[:3, 3] = tilted()[:3, 0]  # by one voxel along I
    transform = scene.under_transform(node, shift)
    moved = np.roll(expected(), 1, axis=2)
    moved[:, :, 0] = 0
    np.testing.assert_array_equal(referenceLabels(node, volume, LABELS), moved)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    np.testing.assert_array_equal(referenceLabels(node, volume, LABELS), expected())


def test_a_segmentation_on_another_grid_is_resampled(scene: SlicerScene) -> None:
    volume = volume_in(scene)
    fine = drawn().repeat(2, 0).repeat(2, 1).repeat(2, 2)
    matrix = tilted()
    matrix[:3, :3] /= 2
    matrix[:3, 3] -= matrix[:3, :3].sum(axis=1) / 2
    node = segmentation(scene.volume(fine.astype(np.int16), matrix), fine, NAMES)
    found = referenceLabels(node, volume, LABELS)
    assert found.shape == drawn().shape
    assert (found == expected()).mean() > 0.97  # Slicer interpolates between the finer voxels


def test_one_structure_may_be_called_anything(scene: SlicerScene) -> None:
    volume = volume_in(scene)
    array = (drawn() > 0).astype(np.uint8)
    node = segmentation(volume, array, ["Segment_1"])
    found = referenceLabels(node, volume, [Label(4, "Brain", (1, 2, 3))])
    np.testing.assert_array_equal(found, 4 * array)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["Liver", "Spleen"], "it has no segment for Tumour"),
        (["x", "y"], "it has no segment for Liver, Spleen, Tumour"),
        (["Segment_1"], "Liver, Spleen, Tumour"),
    ],
)
def test_a_structure_without_a_segment_is_named(
    scene: SlicerScene, names: list[str], why: str
) -> None:
    volume = volume_in(scene)
    node = segmentation(volume, np.minimum(drawn(), len(names)), names)
    with pytest.raises(ScanError) as raised:
        referenceLabels(node, volume, LABELS)
    assert raised.value.code == "scan.reference"
    assert why in raised.value.why
    assert "empty" in raised.value.todo


def test_of_many_the_first_are_named(scene: SlicerScene) -> None:
    volume = volume_in(scene)
    labels = [Label(value, f"Rib {value}", (1, 2, 3)) for value in range(1, 25)]
    with pytest.raises(ScanError, match="for Rib 1, Rib 2, Rib 3 and 21 more"):
        referenceLabels(segmentation(volume, drawn(), NAMES), volume, labels)


def test_one_that_has_left_the_scene_is_refused(scene: SlicerScene) -> None:
    volume = volume_in(scene)
    node = segmentation(volume, drawn(), NAMES)
    scene.scene.RemoveNode(node)
    with pytest.raises(ScanError, match="no longer in the scene") as raised:
        referenceLabels(node, volume, LABELS)
    assert raised.value.code == "scan.reference"


def test_a_failed_export_is_said(scene: SlicerScene, monkeypatch: pytest.MonkeyPatch) -> None:
    class Logic:
        ExportSegmentsToLabelmapNode = staticmethod(lambda *_: False)

    volume = volume_in(scene)
    node = segmentation(volume, drawn(), NAMES)
    monkeypatch.setattr(slicer, "vtkSlicerSegmentationsModuleLogic", Logic)
    count = scene.scene.GetNumberOfNodes()
    with pytest.raises(ScanError, match="could not export"):
        referenceLabels(node, volume, LABELS)
    assert scene.scene.GetNumberOfNodes() == count
