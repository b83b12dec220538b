"""Label maps: on the scan's own grid, whole or not at all."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medptq.errors import OutputError
from medptq.scans.reading import read_scan
from medptq.scans.scan import Scan
from medptq.scans.writing import write_label_map
from nifti_files import ANGLES, SIGNS

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SHAPE = (4, 5, 6)


def make_scan(angles=(0, 0, 0), signs=(1, 1, 1), shape=SHAPE) -> Scan:
    matrix = np.eye(4)
    rotation = Rotation.from_euler("xyz", angles).as_matrix()
    matrix[:3, :3] = rotation * np.array([0.7, 1.1, 3.0]) * np.array(signs)
    matrix[:3, 3] = [-81.25, 12.5, 140.0]
    array = np.arange(math.prod(shape), dtype=np.float32).reshape(1, *shape)
    return Scan(array, matrix, "scan")


def make_labels(highest: int = 3, dtype=np.int64) -> np.ndarray:
    labels = np.arange(math.prod(SHAPE)).reshape(SHAPE) % 4
    labels[0, 0, 0] = highest
    return labels.astype(dtype)


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    angles=ANGLES,
    signs=SIGNS,
    suffix=st.sampled_from([".nii.gz", ".nii", ".nrrd", ".mha"]),
)
def test_the_file_lies_where_the_scan_lies(tmp_path, angles, signs, suffix):
    scan, path = make_scan(angles, signs), tmp_path / f"labels{suffix}"
    write_label_map(make_labels(), scan, path, overwrite=True)
    again = read_scan(path)
    np.testing.assert_allclose(again.ijk_to_ras, scan.ijk_to_ras, atol=1e-5)
    np.testing.assert_array_equal(again.array[0], make_labels())
    if suffix.startswith(".nii"):
        image = nib.load(path)
        np.testing.assert_allclose(image.affine, scan.ijk_to_ras, atol=1e-5)
        # ITK's quaternion is of single precision, which tells little near half a turn.
        np.testing.assert_allclose(image.get_qform(), scan.ijk_to_ras, atol=1e-2)


@pytest.mark.parametrize(
    ("highest", "dtype"), [(255, np.uint8), (256, np.uint16), (70000, np.uint32)]
)
def test_the_smallest_type_that_holds_the_labels(tmp_path, highest, dtype):
    write_label_map(make_labels(highest), make_scan(), tmp_path / "a.nii.gz")
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii.gz")))
    assert written.dtype == dtype
    np.testing.assert_array_equal(written, make_labels(highest))


@pytest.mark.parametrize(
    ("suffix", "is_compressed"), [(".nii.gz", True), (".mha", True), (".nrrd", False)]
)
def test_files_are_small_or_written_fast(tmp_path, suffix, is_compressed):
    scan = make_scan(shape=(64, 64, 64))
    write_label_map(np.zeros(scan.shape, np.uint8), scan, tmp_path / f"a{suffix}")
    size = (tmp_path / f"a{suffix}").stat().st_size
    assert size < 64**3 / 20 if is_compressed else 64**3 < size < 64**3 + 1000


def test_a_path_that_is_not_ascii_in_a_folder_that_is_not_there_yet(tmp_path):
    path = tmp_path / "Übung 扫描" / "Maske ß.nii.gz"
    write_label_map(make_labels(), make_scan(), path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["a.png", "a", "a.mhd", "a.nii.txt"])
def test_unknown_suffixes_are_refused(tmp_path, name):
    with pytest.raises(OutputError, match=r"\.nii\.gz") as caught:
        write_label_map(make_labels(), make_scan(), tmp_path / name)
    assert caught.value.code == "output.format"
    assert not list(tmp_path.iterdir())


def test_a_file_is_only_replaced_when_asked_to(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError) as caught:
        write_label_map(make_labels(), make_scan(), path)
    assert caught.value.code == "output.exists"
    assert path.read_bytes() == b"precious"
    write_label_map(make_labels(), make_scan(), path, overwrite=True)
    assert read_scan(path).shape == SHAPE


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError) as caught:
        write_label_map(make_labels(), make_scan(), tmp_path / "file" / "a.nii.gz")
    assert caught.value.code == "output.unwritable"


def test_labels_that_are_not_the_scans_are_a_bug(tmp_path):
    with pytest.raises(ValueError, match="shape"):
        write_label_map(make_labels()[1:], make_scan(), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="negative"):
        write_label_map(make_labels() - 1, make_scan(), tmp_path / "a.nii.gz")


@pytest.mark.shared_data
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize(
    "name", ["spine_sct/t2s_uncropped.nii.gz", "ixi2mm_dlmuse/images/IXI059-HH-1284_T1.nii.gz"]
)
def test_real_oblique_and_turned_scans(tmp_path, name, suffix):
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not in ../shared/data")
    scan = read_scan(SHARED / name)
    labels = (scan.array[0] > scan.array.mean()).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    write_label_map(labels, scan, path)
    again = read_scan(path)
    np.testing.assert_allclose(again.ijk_to_ras, scan.ijk_to_ras, atol=1e-5)
    np.testing.assert_array_equal(again.array[0], labels)
