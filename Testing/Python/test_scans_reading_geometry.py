"""Reading scans from files: where their voxels lie, exactly, or a clear refusal."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medptq.scans.reading import read_scan
from nifti_files import ANGLES, SIGNS, affine, refusal, save_nifti, voxels

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".nhdr")


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    angles=ANGLES,
    signs=SIGNS,
    suffix=st.sampled_from(SUFFIXES),
)
def test_geometry_and_voxels_are_those_that_nibabel_wrote(tmp_path, angles, signs, suffix):
    matrix = affine(angles, signs)
    path = save_nifti(tmp_path / "first.nii.gz", matrix=matrix)
    if suffix != ".nii.gz":
        image = sitk.ReadImage(str(path))
        for key in image.GetMetaDataKeys():
            image.EraseMetaData(key)
        path = tmp_path / f"second{suffix}"
        sitk.WriteImage(image, str(path))

    scan = read_scan(path)

    np.testing.assert_allclose(scan.ijk_to_ras, matrix, atol=2e-5)
    assert scan.ijk_to_ras.dtype == np.float64
    assert scan.array.dtype == np.float32
    np.testing.assert_array_equal(scan.array[0], voxels().transpose(2, 1, 0))
    assert scan.shape == (6, 5, 4)
    np.testing.assert_allclose(scan.spacing, (3.0, 1.1, 0.7), rtol=1e-5)
    assert scan.name == path.name.removesuffix(suffix)


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(angles=ANGLES, way=st.sampled_from([-1, 1]))
def test_a_quaternion_alone_places_the_scan(tmp_path, angles, way):
    image = nib.Nifti1Image(voxels(), None)
    image.set_sform(None, 0)
    image.set_qform(affine(angles, (1, 1, way)), 1)
    nib.save(image, tmp_path / "a.nii")
    expected = nib.load(tmp_path / "a.nii").affine
    np.testing.assert_allclose(read_scan(tmp_path / "a.nii").ijk_to_ras, expected, atol=1e-3)


@pytest.mark.parametrize(("unit", "mm"), [("micron", 1e-3), ("meter", 1e3), ("unknown", 1.0)])
@pytest.mark.parametrize("with_qform", [False, True])
def test_an_sform_alone_is_of_the_files_own_unit(tmp_path, unit, mm, with_qform):
    stored = affine()
    stored[:3] /= mm
    image = nib.Nifti1Image(voxels(), stored)
    image.set_qform(stored if with_qform else None, int(with_qform))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    scan = read_scan(tmp_path / "a.nii")
    np.testing.assert_allclose(scan.ijk_to_ras, affine(), rtol=1e-5, atol=1e-4)


def test_sheared_nifti_is_refused_even_where_a_qform_would_do(tmp_path):
    sheared = affine()
    sheared[0, 1] = 0.3
    assert refusal(save_nifti(tmp_path / "a.nii.gz", matrix=sheared)) == "scan.sheared"
    path = save_nifti(tmp_path / "b.nii.gz", matrix=sheared, qform=affine())
    assert refusal(path) == "scan.sheared"
    slight = affine()
    slight[0, 1] = 1e-3  # below our tolerance, but not below ITK's
    assert refusal(save_nifti(tmp_path / "c.nii.gz", matrix=slight)) == "scan.sheared"


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_sheared_nrrd_and_metaimage_are_refused(tmp_path, suffix):
    image = sitk.GetImageFromArray(voxels())
    image.SetDirection([1, 0.2, 0, 0, 1, 0, 0, 0, 1])
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    assert refusal(tmp_path / f"a{suffix}") == "scan.sheared"


def test_singular_geometry_is_refused(tmp_path):
    flat = affine()
    flat[:, 2] = 0
    assert refusal(save_nifti(tmp_path / "a.nii.gz", matrix=flat)) == "scan.singular"
    path = save_nifti(tmp_path / "b.nii.gz", matrix=flat, qform=affine())
    assert refusal(path) == "scan.singular"
    content = bytearray(save_nifti(tmp_path / "c.nii").read_bytes())
    content[80:84] = bytes(4)  # pixdim[1]
    (tmp_path / "c.nii").write_bytes(bytes(content))
    assert refusal(tmp_path / "c.nii") == "scan.singular"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 1 0 0 1 0 0 0 0 1"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 1 0 1"),
    ],
)
def test_singular_metaimage_is_refused(tmp_path, old, new):
    path = tmp_path / "a.mhd"
    sitk.WriteImage(sitk.GetImageFromArray(voxels()), str(path))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert refusal(path) == "scan.singular"


def test_an_sform_that_contradicts_the_voxel_size_is_refused(tmp_path):
    path = save_nifti(tmp_path / "a.nii.gz", matrix=np.diag([2.0, 2.0, 2.0, 1.0]))
    assert refusal(path) == "scan.geometry"


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name",
    [
        "spine_sct/t2s_uncropped.nii.gz",
        "spine_sct/t2.nii.gz",
        "ixi2mm_dlmuse/images/IXI059-HH-1284_T1.nii.gz",
        "ct_totalseg_example/example_ct.nii.gz",
    ],
)
def test_real_scans_lie_where_nibabel_says(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not in ../shared/data")
    scan, image = read_scan(path), nib.load(path)
    np.testing.assert_allclose(scan.ijk_to_ras, image.affine, atol=2e-4)
    np.testing.assert_allclose(
        scan.array[0].transpose(2, 1, 0), image.get_fdata(dtype=np.float32), rtol=1e-5, atol=1e-4
    )
