"""Label maps become segmentations in a real MRML scene, ready for DICOM SEG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medptq.errors import OutputError, ScanError
from medptq.models.segmentation_model import Coding, Label
from medptq.scans.reading import read_scan
from medptq.scans.writing import write_label_map
from MedPTQSlicerLib import labelsToSegmentation
from MedPTQSlicerLib.geometry import ijkToRas
from MedPTQSlicerLib.labelMapFile import readLabelMapSteps
from MedPTQSlicerLib.labelsToSegmentation import (
    addSegmentation,
    segmentIdOf,
    updateSegmentation,
)
from MedPTQSlicerLib.volumeToScan import writeScanSteps
from slicer_scenes import (
    SlicerScene,
    affine,
    result_of,
    right_angled,
    segments,
    slicer,
    tilted,
    vtk,
)

ALGORITHM = "two-organs, OpenVINO INT8"
# 2 and 4 are gaps, 5 is not found.
LABELS = (
    Label(1, "Liver", (221, 130, 101), Coding("10200004", "Liver")),
    Label(3, "Tumour", (144, 238, 144), Coding("86049000", "Neoplasm, Primary")),
    Label(5, "Spleen", (157, 108, 162)),
)
PERMUTED = affine(np.array([[0, 0, 2.5], [-1.25, 0, 0], [0, 0.5, 0]]), (-7, 8, 9))


@pytest.fixture
def scene() -> SlicerScene:
    return SlicerScene()


def label_map() -> Any:
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1, 2:4, 1:5] = 1
    labels[1, 2, 3] = 3
    labels[3, 4, 5] = 3
    return labels


def tag_of(segment: Any, name: str) -> str:
    value = vtk.reference("")
    assert segment.GetTag(name, value)
    return str(value)


def volume_of(scene: SlicerScene, matrix: Any = None) -> Any:
    return scene.volume(np.zeros((4, 5, 6), np.int16), tilted() if matrix is None else matrix)


@pytest.mark.parametrize(
    "matrix", [np.eye(4), tilted(), PERMUTED], ids=["plain", "tilted", "turned"]
)
def test_every_voxel_lies_where_it_was_found(scene: SlicerScene, matrix: Any) -> None:
    volume = volume_of(scene, matrix)
    segmentation = addSegmentation("Organs", label_map(), LABELS, volume, ALGORITHM)
    assert list(segments(segmentation)) == ["Label_1", "Label_3", "Label_5"]
    for label in LABELS:
        found = scene.segment_array(segmentation, segmentIdOf(label.value), volume)
        np.testing.assert_array_equal(found != 0, label_map() == label.value)
    # The segments keep the volume's own grid; nothing was resampled.
    image = segments(segmentation)["Label_1"].GetRepresentation("Binary labelmap")
    to_world = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_world)
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(to_world), matrix, atol=1e-12)


@pytest.mark.parametrize("name", ["labels.nrrd", "labels.nii.gz"])
def test_the_whole_way_through_the_workers_files(
    scene: SlicerScene, tmp_path: Path, name: str
) -> None:
    voxels = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    volume = scene.volume(voxels, tilted())
    scene.under_transform(volume, affine(right_angled((1, 1, 1), (1, 1, 1), (0.5, 0.2, -0.3))))
    result_of(writeScanSteps(volume, tmp_path / "scan.nrrd"))
    scan = read_scan(tmp_path / "scan.nrrd")  # from here on, as the worker does
    write_label_map((scan.array[0] > 70).astype(np.uint8), scan, tmp_path / name)
    labels = result_of(readLabelMapSteps(tmp_path / name))
    segmentation = addSegmentation("Organs", labels, LABELS, volume, ALGORITHM)
    array = scene.segment_array(segmentation, "Label_1", volume)
    np.testing.assert_array_equal(array != 0, voxels > 70)


@pytest.mark.parametrize("content", [None, b"NRRD0004\ncut off"])
def test_a_label_map_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "labels.nrrd").write_bytes(content)
    with pytest.raises(OutputError, match=r"labels\.nrrd, is gone or damaged"):
        result_of(readLabelMapSteps(tmp_path / "labels.nrrd"))


def test_segments_carry_names_colours_and_what_made_them(scene: SlicerScene) -> None:
    segmentation = addSegmentation("Organs", label_map(), LABELS, volume_of(scene), ALGORITHM)
    for label, segment in zip(LABELS, segments(segmentation).values(), strict=True):
        assert segment.GetName() == label.name
        np.testing.assert_allclose(np.array(segment.GetColor()) * 255, label.color)
        assert tag_of(segment, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
        assert tag_of(segment, "DICOM.SegmentAlgorithmName") == ALGORITHM


def test_an_odd_name_of_what_made_them_is_one_that_dicom_and_slicers_files_hold(
    scene: SlicerScene, tmp_path: Path
) -> None:
    volume = volume_of(scene)
    addSegmentation("Organs", label_map(), LABELS, volume, "a|b\\c\nd: " + "e" * 99)
    restored = scene.saved_and_restored(tmp_path)
    segmentation = restored.named("vtkMRMLSegmentationNode", "Organs")
    name = tag_of(segments(segmentation)["Label_1"], "DICOM.SegmentAlgorithmName")
    assert name == ("a b c d: " + "e" * 99)[:64]


def test_what_the_dicom_seg_exporter_asks(scene: SlicerScene) -> None:
    volume = volume_of(scene)
    segmentation = addSegmentation("Organs", label_map(), LABELS, volume, ALGORITHM)
    role = segmentation.GetReferenceImageGeometryReferenceRole()
    assert segmentation.GetNodeReference(role) is volume
    is_empty = {}
    for segment_id, segment in segments(segmentation).items():
        # As in Slicer's DICOMSegmentationPlugin.
        image = segment.GetRepresentation("Binary labelmap")
        scalars = image.GetPointData().GetArray("ImageScalars")
        is_empty[segment_id] = scalars is None or scalars.GetValueRange() == (0, 0)
    assert is_empty == {"Label_1": False, "Label_3": False, "Label_5": True}


def test_what_the_model_does_not_name_is_shown_all_the_same(scene: SlicerScene) -> None:
    labels = label_map()
    labels[0, 0, 0], labels[0, 0, 1] = 2, 9
    volume = volume_of(scene)
    found = segments(addSegmentation("Organs", labels, LABELS, volume, ALGORITHM))
    assert [segment.GetName() for segment in found.values()] == [
        *("Liver", "Tumour", "Spleen"),
        *("Label 2", "Label 9"),
    ]


@settings(max_examples=30)
@given(hnp.arrays(np.uint8, (2, 3, 4), elements=st.sampled_from([0, 1, 2, 200, 255])))
def test_every_label_that_is_there_becomes_a_segment(labels: Any) -> None:
    scene = SlicerScene()
    volume = scene.volume(np.zeros((2, 3, 4), np.int16))
    segmentation = addSegmentation("All", labels, (), volume, ALGORITHM)
    expected = [segmentIdOf(value) for value in np.unique(labels) if value]
    assert list(segments(segmentation)) == expected


def test_labels_above_255(scene: SlicerScene) -> None:
    labels = np.zeros((4, 5, 6), np.int32)
    labels[2, 3, 4], labels[0, 1, 2] = 300, 1
    volume = volume_of(scene)
    named = (Label(300, "Rib", (9, 9, 9)), Label(1, "Liver", (8, 8, 8)))
    segmentation = addSegmentation("Bones", labels, named, volume, ALGORITHM)
    for value in (1, 300):
        array = scene.segment_array(segmentation, segmentIdOf(value), volume)
        np.testing.assert_array_equal(array != 0, labels == value)


def test_a_scan_in_which_nothing_was_found(scene: SlicerScene) -> None:
    volume = volume_of(scene)
    segmentation = addSegmentation("Organs", label_map() * 0, LABELS, volume, ALGORITHM)
    assert len(segments(segmentation)) == 3
    for segment_id in segments(segmentation):
        assert not scene.segment_array(segmentation, segment_id, volume).any()


def test_the_segmentation_is_under_the_volumes_transform(scene: SlicerScene) -> None:
    volume = volume_of(scene)
    to_parent = affine(right_angled((1, 1, 1), (1, 1, 1), (0.5, 0.2, -0.3)), (5, 6, 7))
    transform = scene.under_transform(volume, to_parent)
    segmentation = addSegmentation("Organs", label_map(), LABELS, volume, ALGORITHM)
    assert segmentation.GetParentTransformNode() is transform
    array = scene.segment_array(segmentation, "Label_3", volume)
    np.testing.assert_array_equal(array != 0, label_map() == 3)
    # Again, into the one that is under the transform already.
    updateSegmentation(segmentation, label_map()[::-1], LABELS, volume, ALGORITHM)
    array = scene.segment_array(segmentation, "Label_3", volume)
    np.testing.assert_array_equal(array != 0, label_map()[::-1] == 3)
    np.testing.assert_allclose(ijkToRas(volume), tilted(), atol=1e-12)


def test_a_second_result_replaces_the_first(scene: SlicerScene) -> None:
    volume = volume_of(scene)
    segmentation = addSegmentation("Organs", label_map(), LABELS, volume, ALGORITHM)
    node_id, display_id = segmentation.GetID(), segmentation.GetDisplayNodeID()
    count = scene.scene.GetNumberOfNodes()
    other = np.where(label_map() == 1, 5, 0)
    updateSegmentation(segmentation, other, LABELS[1:], volume, ALGORITHM)
    assert scene.scene.GetNumberOfNodes() == count
    assert list(segments(segmentation)) == ["Label_3", "Label_5"]
    assert not scene.segment_array(segmentation, "Label_3", volume).any()
    array = scene.segment_array(segmentation, "Label_5", volume)
    np.testing.assert_array_equal(array != 0, other == 5)
    assert (segmentation.GetID(), segmentation.GetDisplayNodeID()) == (node_id, display_id)


def test_a_segmentation_of_surfaces_can_be_replaced(scene: SlicerScene) -> None:
    volume = volume_of(scene)
    segmentation = scene.add("vtkMRMLSegmentationNode")
    segmentation.GetSegmentation().SetSourceRepresentationName("Closed surface")
    updateSegmentation(segmentation, label_map(), LABELS, volume, ALGORITHM)
    array = scene.segment_array(segmentation, "Label_1", volume)
    np.testing.assert_array_equal(array != 0, label_map() == 1)


def test_only_the_segmentation_is_added_to_the_scene(scene: SlicerScene) -> None:
    volume = volume_of(scene)
    before = scene.scene.GetNumberOfNodes()
    first = addSegmentation("Organs", label_map(), LABELS, volume, ALGORITHM)
    second = addSegmentation("Organs", label_map(), LABELS, volume, ALGORITHM)
    assert (first.GetName(), second.GetName()) == ("Organs", "Organs_1")
    assert scene.scene.GetNumberOfNodes() == before + 4  # with a display node each


def test_a_volume_that_was_changed_meanwhile_is_refused(scene: SlicerScene) -> None:
    volume = volume_of(scene)
    before = scene.scene.GetNumberOfNodes()
    with pytest.raises(
        ScanError, match="6 x 5 x 4 voxels, and the segmentation 6 x 5 x 3"
    ) as error:
        addSegmentation("Organs", label_map()[1:], LABELS, volume, ALGORITHM)
    assert error.value.code == "scan.changed"
    assert scene.scene.GetNumberOfNodes() == before
    segmentation = addSegmentation("Organs", label_map(), LABELS, volume, ALGORITHM)
    volume.SetAndObserveImageData(None)
    with pytest.raises(ScanError):
        updateSegmentation(segmentation, label_map(), LABELS, volume, ALGORITHM)
    assert len(segments(segmentation)) == 3  # what was there is not lost


@pytest.mark.parametrize("in_folder", [False, True])
def test_it_is_placed_in_the_volumes_study(scene: SlicerScene, in_folder: bool) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene.scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Jane Doe")
    study = hierarchy.CreateStudyItem(patient, "CT of the abdomen")
    place = hierarchy.CreateFolderItem(study, "Venous phase") if in_folder else study
    volume = volume_of(scene)
    hierarchy.CreateItem(place, volume)
    segmentation = scene.add("vtkMRMLSegmentationNode")
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), segmentation)
    updateSegmentation(segmentation, label_map(), LABELS, volume, ALGORITHM)
    assert hierarchy.GetItemParent(item) == study


def test_without_a_study_it_is_placed_beside_the_volume(scene: SlicerScene) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene.scene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Trial")
    volume = volume_of(scene)
    hierarchy.CreateItem(folder, volume)
    segmentation = scene.add("vtkMRMLSegmentationNode")
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), segmentation)
    updateSegmentation(segmentation, label_map(), LABELS, volume, ALGORITHM)
    assert hierarchy.GetItemParent(item) == folder


@pytest.mark.parametrize("handed", [1, -1], ids=["right-handed", "left-handed"])
def test_it_survives_saving_and_restoring_the_scene(
    scene: SlicerScene, tmp_path: Path, handed: int
) -> None:
    matrix = affine(right_angled((0.7, 1.2, 3.1), (1, 1, handed), (0.3, -0.2, 0.5)), (91.2, -7, 3))
    volume = volume_of(scene, matrix)
    scene.under_transform(volume, affine(np.eye(3), (1, 2, 3)))
    segmentation = addSegmentation("Organs", label_map(), LABELS, volume, ALGORITHM)
    saved = segments(segmentation)
    restored = scene.saved_and_restored(tmp_path)
    volume = restored.named("vtkMRMLScalarVolumeNode", volume.GetName())
    segmentation = restored.named("vtkMRMLSegmentationNode", "Organs")
    assert list(segments(segmentation)) == list(saved)
    for segment_id, segment in segments(segmentation).items():
        assert segment.GetName() == saved[segment_id].GetName()
        assert segment.GetColor() == pytest.approx(saved[segment_id].GetColor(), abs=1e-6)
        assert segment.GetTerminology() == saved[segment_id].GetTerminology()
    # Slicer makes the volumes that it reads right-handed, by turning their slices over.
    expected = label_map()[::handed]
    for label in LABELS:
        array = restored.segment_array(segmentation, segmentIdOf(label.value), volume)
        np.testing.assert_array_equal(array != 0, expected == label.value)
    first_slice = (matrix @ [0, 0, 0 if handed == 1 else 3, 1])[:3]
    np.testing.assert_allclose(ijkToRas(volume)[:3, 3], first_slice, atol=1e-9)
    role = segmentation.GetReferenceImageGeometryReferenceRole()
    assert segmentation.GetNodeReference(role) is volume
    # And a further result can be put into it.
    updateSegmentation(segmentation, expected[:, ::-1], LABELS, volume, ALGORITHM)
    array = restored.segment_array(segmentation, "Label_1", volume)
    np.testing.assert_array_equal(array != 0, expected[:, ::-1] == 1)


def drawn(node: Any) -> dict[str, tuple[int, ...]]:
    """Return the names of a segmentation's segments, and how large what they hold is."""
    segmentation = node.GetSegmentation()
    found = [segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments())]
    return {
        segment.GetName(): segment.GetRepresentation("Binary labelmap").GetDimensions()
        for segment in found
    }


@pytest.mark.parametrize("error", [None, MemoryError()])
def test_a_segmentation_that_cannot_be_replaced_is_as_it_was(scene, monkeypatch, error) -> None:
    volume = scene.volume(label_map().astype(np.int16))
    mine = addSegmentation("mine", label_map(), (Label(1, "Drawn by hand", (1, 2, 3)),), volume, "")
    scene.under_transform(mine, tilted())
    before, transform_id = drawn(mine), mine.GetTransformNodeID()
    assert before["Drawn by hand"] > (0, 0, 0)

    def failing(*_: object) -> bool:
        if error is not None:
            raise error
        return False

    monkeypatch.setattr(labelsToSegmentation, "_import", failing)
    with pytest.raises(MemoryError if error else OutputError):
        updateSegmentation(mine, label_map(), LABELS, volume, ALGORITHM)
    assert drawn(mine) == before
    assert mine.GetTransformNodeID() == transform_id
