"""From volumes in a real MRML scene to the worker's files, to the last digit of their geometry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medptq.errors import MedPTQError, OutputError, ScanError
from medptq.scans.reading import read_scan
from MedPTQSlicerLib.geometry import ijkToWorld, worldPosition
from MedPTQSlicerLib.volumeToScan import writeScanSteps
from slicer_scenes import SlicerScene, affine, result_of, right_angled, slicer, tilted, vtk

VOXELS = np.arange(-60, 60, dtype=np.int16).reshape(4, 5, 6)
RIGID = affine(right_angled((1, 1, 1), (1, 1, 1), (0.4, 0.1, -0.7)), (10, -20, 30.5))
SCALED = affine(np.diag([1.1, 1.0, 1.0]))
MIRRORED = affine(np.diag([-1.0, 1.0, 1.0]))
SHEARED = affine(np.array([[1, 0.3, 0], [0, 1, 0], [0, 0, 1]]))


@pytest.fixture
def scene() -> SlicerScene:
    return SlicerScene()


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]
)
def test_voxels_of_every_type_arrive(scene: SlicerScene, tmp_path: Path, dtype: str) -> None:
    voxels = np.arange(120).reshape(4, 5, 6).astype(dtype)
    result_of(writeScanSteps(scene.volume(voxels), tmp_path / "scan.nrrd"))
    scan = read_scan(tmp_path / "scan.nrrd")
    np.testing.assert_array_equal(scan.array[0], voxels)
    np.testing.assert_array_equal(scan.ijk_to_ras, np.eye(4))


@settings(max_examples=30)
@given(
    spacing=st.tuples(*[st.floats(0.05, 12)] * 3),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    turns=st.tuples(*[st.floats(-3.2, 3.2)] * 3),
    origin=st.tuples(*[st.floats(-2000, 2000)] * 3),
    shape=st.tuples(*[st.integers(2, 6)] * 3),
)
def test_the_geometry_is_exact(
    tmp_path_factory: pytest.TempPathFactory,
    spacing: tuple[float, ...],
    flips: tuple[int, ...],
    turns: tuple[float, ...],
    origin: tuple[float, ...],
    shape: tuple[int, int, int],
) -> None:
    path = tmp_path_factory.mktemp("scan") / "scan.nrrd"
    voxels = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    matrix = affine(right_angled(spacing, flips, turns), origin)
    result_of(writeScanSteps(SlicerScene().volume(voxels, matrix), path))
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.array[0], voxels)
    np.testing.assert_allclose(scan.ijk_to_ras, matrix, rtol=0, atol=1e-11)


def _places(volume: Any) -> Any:
    """Return where the voxels lie, in ascending order of their intensities."""
    voxels = slicer.util.arrayFromVolume(volume)
    kji = np.stack(np.unravel_index(np.argsort(voxels, axis=None), voxels.shape), axis=1)
    ijk1 = np.concatenate((kji[:, ::-1], np.ones((len(kji), 1))), axis=1)
    return ijk1 @ ijkToWorld(volume).T


def test_slicer_reads_the_file_as_the_same_volume(scene: SlicerScene, tmp_path: Path) -> None:
    result_of(writeScanSteps(scene.volume(VOXELS, tilted()), tmp_path / "scan.nrrd"))
    read = scene.add("vtkMRMLScalarVolumeNode")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(tmp_path / "scan.nrrd"))
    assert storage.ReadData(read)
    # Slicer turns left-handed volumes over, so only where each intensity lies can be compared.
    np.testing.assert_allclose(_places(read), _places(scene.volume(VOXELS, tilted())), atol=1e-12)


def test_rigid_transforms_are_carried_into_the_file(scene: SlicerScene, tmp_path: Path) -> None:
    volume = scene.volume(VOXELS, tilted())
    inner = scene.under_transform(volume, RIGID)
    shift = affine(np.eye(3), (0, 0, -1000.25))
    scene.under_transform(inner, shift)
    result_of(writeScanSteps(volume, tmp_path / "scan.nrrd"))
    scan = read_scan(tmp_path / "scan.nrrd")
    np.testing.assert_allclose(scan.ijk_to_ras, shift @ RIGID @ tilted(), rtol=0, atol=1e-10)
    np.testing.assert_array_equal(scan.array[0], VOXELS)


def test_a_position_follows_the_transforms_of_any_kind(scene: SlicerScene) -> None:
    volume = scene.volume(VOXELS, tilted())
    expected = (tilted() @ [5, 3, 2, 1])[:3]
    np.testing.assert_allclose(worldPosition(volume, (2, 3, 5)), expected)
    scene.under_transform(volume, SCALED @ RIGID)
    expected = (SCALED @ RIGID @ tilted() @ [5, 3, 2, 1])[:3]
    np.testing.assert_allclose(worldPosition(volume, (2, 3, 5)), expected)
    flat = scene.volume(np.zeros((41, 41, 41), np.int16))
    scene.bend(flat)
    np.testing.assert_allclose(worldPosition(flat, (0, 40, 40)), (40, 43, 0), atol=1e-6)


def _refusal(volume: Any, folder: Path) -> MedPTQError:
    with pytest.raises(ScanError) as refused:
        result_of(writeScanSteps(volume, folder / "scan.nrrd"))
    assert not any(folder.iterdir())
    return refused.value


@pytest.mark.parametrize("to_parent", [SCALED, MIRRORED], ids=["scaled", "mirrored"])
def test_transforms_that_change_the_anatomy_are_refused_until_they_are_hardened(
    scene: SlicerScene, tmp_path: Path, to_parent: Any
) -> None:
    volume = scene.volume(VOXELS)
    scene.under_transform(volume, to_parent)
    error = _refusal(volume, tmp_path)
    assert error.code == "scan.transform"
    assert "Registration" in error.why
    assert "Harden" in error.todo
    assert volume.HardenTransform()
    result_of(writeScanSteps(volume, tmp_path / "scan.nrrd"))
    np.testing.assert_allclose(read_scan(tmp_path / "scan.nrrd").ijk_to_ras, to_parent)


def test_transforms_that_bend_are_refused_until_they_are_hardened(
    scene: SlicerScene, tmp_path: Path
) -> None:
    volume = scene.volume(np.indices((41, 41, 41), dtype=np.int16).sum(axis=0, dtype=np.int16))
    scene.bend(volume)
    error = _refusal(volume, tmp_path)
    assert error.code == "scan.transform"
    assert "Warp bends it" in error.why
    assert volume.HardenTransform()
    result_of(writeScanSteps(volume, tmp_path / "scan.nrrd"))
    scan = read_scan(tmp_path / "scan.nrrd")
    np.testing.assert_array_equal(scan.array[0], slicer.util.arrayFromVolume(volume))


def _vector(scene: SlicerScene) -> Any:
    return scene.volume(np.zeros((4, 5, 6, 3), np.uint8), class_name="vtkMRMLVectorVolumeNode")


def _label_map(scene: SlicerScene) -> Any:
    return scene.volume(VOXELS, class_name="vtkMRMLLabelMapVolumeNode")


def _sheared_by_a_transform(scene: SlicerScene) -> Any:
    volume = scene.volume(VOXELS)
    scene.under_transform(volume, SHEARED)
    return volume


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda scene: scene.add("vtkMRMLScalarVolumeNode"), "scan.empty"),
        (_label_map, "scan.label-map"),
        (_vector, "scan.channels"),
        (lambda scene: scene.volume(VOXELS, SHEARED), "scan.sheared"),
        (_sheared_by_a_transform, "scan.sheared"),
        (lambda scene: scene.volume(VOXELS, np.diag([1.0, 1, 0, 1])), "scan.singular"),
    ],
    ids=["empty", "label map", "vector", "sheared", "sheared by a transform", "singular"],
)
def test_what_is_no_scan_is_refused(
    scene: SlicerScene, tmp_path: Path, make: Callable[[SlicerScene], Any], code: str
) -> None:
    volume = make(scene)
    error = _refusal(volume, tmp_path)
    assert error.code == code
    assert error.what == f"{volume.GetName()} cannot be used"


def test_the_file_does_not_name_the_patient(scene: SlicerScene, tmp_path: Path) -> None:
    result_of(writeScanSteps(scene.volume(VOXELS, name="Jane Doe"), tmp_path / "scan.nrrd"))
    assert b"Jane" not in (tmp_path / "scan.nrrd").read_bytes()


@pytest.mark.parametrize("name", ["gone/scan.nrrd", "taken.nrrd"])
def test_a_place_that_cannot_be_written_is_named(
    scene: SlicerScene, tmp_path: Path, name: str
) -> None:
    (tmp_path / "taken.nrrd").mkdir()
    with pytest.raises(OutputError, match="could not be written"):
        result_of(writeScanSteps(scene.volume(VOXELS), tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["taken.nrrd"]


def _large(scene: SlicerScene) -> Any:
    return scene.volume(np.zeros((40, 512, 512), np.float32))  # of three slabs


def test_a_volume_may_be_renamed_moved_and_removed_while_it_is_written(
    scene: SlicerScene, tmp_path: Path
) -> None:
    volume = _large(scene)
    slicer.util.arrayFromVolume(volume)[-1] = 7
    slicer.util.arrayFromVolumeModified(volume)
    steps = writeScanSteps(volume, tmp_path / "scan.nrrd")
    next(steps)
    volume.SetName("Another")
    scene.under_transform(volume, RIGID)
    next(steps)
    scene.scene.RemoveNode(volume)
    volume.SetAndObserveImageData(None)
    result_of(steps)
    scan = read_scan(tmp_path / "scan.nrrd")
    np.testing.assert_array_equal(scan.ijk_to_ras, np.eye(4))
    assert (scan.array[0, -1] == 7).all()
    assert (scan.array[0, :-1] == 0).all()


def test_a_volume_that_is_changed_while_it_is_written_is_not_taken(
    scene: SlicerScene, tmp_path: Path
) -> None:
    volume = _large(scene)
    steps = writeScanSteps(volume, tmp_path / "scan.nrrd")
    next(steps)
    volume.GetImageData().GetScalarRange()  # as the display does, which is no change
    next(steps)
    volume.GetImageData().SetDimensions(4, 4, 4)  # its memory is no longer what it was
    volume.GetImageData().AllocateScalars(vtk.VTK_SHORT, 1)
    with pytest.raises(ScanError) as refused:
        next(steps)
    assert refused.value.code == "scan.changed"
    assert list(tmp_path.iterdir()) == []
