"""Reading scans from files: their voxels, and a clear refusal of what cannot be trusted."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medptq.errors import ScanError
from medptq.progress import Reporter
from medptq.scans.reading import find_scans, read_scan
from nifti_files import SHAPE_IJK, affine, refusal, save_nifti, voxels

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".nhdr")


def test_big_endian_and_scaled_integers(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nib.Nifti1Image(voxels() * 0.5 - 3, affine((0.1, 0.2, 0.3)), header)
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "big.nii")
    scan = read_scan(tmp_path / "big.nii")
    np.testing.assert_allclose(scan.ijk_to_ras, affine((0.1, 0.2, 0.3)), atol=1e-5)
    stored = nib.load(tmp_path / "big.nii")
    assert stored.dataobj.slope == 0.5
    np.testing.assert_allclose(scan.array[0], stored.get_fdata().transpose(2, 1, 0))


def test_nifti_2_is_refused_by_name(tmp_path):
    nib.save(nib.Nifti2Image(voxels(), affine()), tmp_path / "two.nii.gz")
    assert refusal(tmp_path / "two.nii.gz") == "scan.format"


def test_a_path_that_is_not_ascii_and_has_spaces(tmp_path):
    folder = tmp_path / "Übung 扫描 é"
    folder.mkdir()
    path = save_nifti(folder / "Kopf ß 1.nii.gz")
    assert [source.name for source in find_scans(folder, Reporter())] == ["Kopf ß 1"]
    assert read_scan(path).name == "Kopf ß 1"


def test_suffix_in_capitals(tmp_path):
    save_nifti(tmp_path / "a.nii.gz").rename(tmp_path / "A.NII.GZ")
    (source,) = find_scans(tmp_path, Reporter())
    assert source.name == "A"
    assert read_scan(source).shape == (6, 5, 4)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_truncated_file_is_refused_wherever_it_is_cut(tmp_path, suffix):
    image = sitk.ReadImage(str(save_nifti(tmp_path / "whole.nii.gz", voxels((9, 9, 9)))))
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    whole = tmp_path / f"w{suffix}"
    sitk.WriteImage(image, str(whole), True)
    content = whole.read_bytes()
    assert read_scan(whole).shape == (9, 9, 9)
    for kept in (0, 100, len(content) // 2, len(content) - 9):
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(content[:kept])
        assert refusal(cut) == "scan.corrupt", kept


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_flipped_bit_in_compressed_voxels_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 1000, (30, 30, 30)).astype(np.int16)
    path = tmp_path / f"noise{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(path), True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    assert refusal(path) == "scan.corrupt"


def test_a_file_that_is_not_what_its_suffix_says(tmp_path):
    for suffix in SUFFIXES:
        path = tmp_path / f"text{suffix}"
        path.write_text("no image at all\n" * 100)
        assert refusal(path) == "scan.corrupt"
    path = tmp_path / "zipped text.nii.gz"
    path.write_bytes(gzip.compress(b"no image at all\n" * 100))
    assert refusal(path) == "scan.corrupt"


def test_missing_and_unknown_files(tmp_path):
    assert refusal(tmp_path / "nowhere.nii.gz") == "scan.missing"
    (tmp_path / "notes.txt").write_text("hello")
    assert refusal(tmp_path / "notes.txt") == "scan.format"
    sitk.WriteImage(sitk.GetImageFromArray(voxels()), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    assert refusal(tmp_path / "a.mhd") == "scan.missing"


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret.raw", "LIST", "s%03d.raw 1 6 1"])
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_header_that_points_out_of_its_folder_is_refused(tmp_path, name, suffix):
    folder = tmp_path / "scans"
    folder.mkdir()
    header = folder / f"a{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(voxels()), str(header))
    (folder / "a.raw").rename(tmp_path / "secret.raw")
    header.write_text(header.read_text().replace("a.raw", name))
    assert refusal(header) == "scan.detached"


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_intensities_that_are_not_numbers_are_counted(tmp_path, dtype, suffix):
    array = voxels().astype(dtype)
    array[0, 0, :2] = np.nan
    array[1, 1, 1] = -np.inf
    path = tmp_path / f"nan{suffix}"
    if suffix == ".nii.gz":
        header = nib.Nifti1Header(endianness=dtype[0])
        header.set_data_dtype(dtype)
        nib.save(nib.Nifti1Image(array, affine(), header), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array.astype(dtype[1:])), str(path))
    with pytest.raises(ScanError, match="3 of its 120 voxels") as caught:
        read_scan(path)
    assert caught.value.code == "scan.not-finite"


def test_constant_images_and_channels(tmp_path):
    assert refusal(save_nifti(tmp_path / "a.nii.gz", np.full(SHAPE_IJK, 7.0))) == "scan.constant"
    array = np.stack([voxels(), np.zeros(SHAPE_IJK, np.float32)], axis=-1)
    path = save_nifti(tmp_path / "b.nii.gz", array)
    with pytest.raises(ScanError, match="channel 1") as caught:
        read_scan(path, channels=2)
    assert caught.value.code == "scan.constant"


def test_a_label_map_may_be_constant_but_no_number_must_be_missing(tmp_path):
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros(SHAPE_IJK))
    assert not read_scan(path, may_be_constant=True).array.any()
    path = save_nifti(tmp_path / "b.nii.gz", np.full(SHAPE_IJK, np.nan))
    with pytest.raises(ScanError) as caught:
        read_scan(path, may_be_constant=True)
    assert caught.value.code == "scan.not-finite"


def test_flat_images_are_refused(tmp_path):
    assert refusal(save_nifti(tmp_path / "a.nii.gz", voxels((8, 9)))) == "scan.2d"
    assert refusal(save_nifti(tmp_path / "b.nii.gz", voxels((8, 9, 1)))) == "scan.2d"
    assert refusal(save_nifti(tmp_path / "c.nii.gz", voxels((8, 9, 1, 5))), 5) == "scan.2d"


def test_channels_of_4d_and_vector_files(tmp_path):
    array = voxels((*SHAPE_IJK, 3))
    four = save_nifti(tmp_path / "four.nii.gz", array)
    vector = tmp_path / "vector.nrrd"
    image = sitk.GetImageFromArray(array.transpose(2, 1, 0, 3), isVector=True)
    sitk.WriteImage(image, str(vector))
    for path in (four, vector):
        scan = read_scan(path, channels=3)
        np.testing.assert_array_equal(scan.array, array.transpose(3, 2, 1, 0))
        assert scan.array.flags.c_contiguous
        assert refusal(path) == "scan.channels"
        assert refusal(path, channels=4) == "scan.channels"
    single = save_nifti(tmp_path / "single.nii.gz", voxels((*SHAPE_IJK, 1)))
    assert read_scan(single).array.shape == (1, 6, 5, 4)
    assert refusal(single, channels=2) == "scan.channels"


def test_colours_and_complex_numbers_are_not_turned_into_grey(tmp_path):
    color = np.zeros(SHAPE_IJK, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    color["R"] = voxels()
    assert refusal(save_nifti(tmp_path / "rgb.nii.gz", color)) == "scan.channels"
    waves = (voxels() * 1j).astype(np.complex64)
    assert refusal(save_nifti(tmp_path / "waves.nii.gz", waves)) == "scan.complex"


def test_refusals_print_nothing(tmp_path, capfd):
    save_nifti(tmp_path / "a.nii.gz", voxels((8, 9)))
    save_nifti(tmp_path / "b.nii.gz", matrix=np.diag([2.0, 2.0, 2.0, 1.0]))
    (tmp_path / "c.nii.gz").write_bytes(b"nothing")
    save_nifti(tmp_path / "d.nii.gz")
    (tmp_path / "d.nii.gz").write_bytes((tmp_path / "d.nii.gz").read_bytes()[:-40])
    for name in "abcd":
        refusal(tmp_path / f"{name}.nii.gz")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert sitk.ProcessObject.GetGlobalWarningDisplay()
