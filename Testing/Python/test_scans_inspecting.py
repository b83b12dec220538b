"""A look at a folder of scans that reads headers only, and finds what reading would find."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from medptq.errors import Cancelled, ScanError
from medptq.progress import Progress, Reporter
from medptq.scans.finding import find_scans
from medptq.scans.inspecting import inspect_scans
from medptq.scans.reading import read_scan
from tiny_network import write_scan


def write_series(folder, count=6, spacing=(0.5, 0.5, 3.0), skip=(), uid="1.2.3.4"):
    folder.mkdir(parents=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(count):
        if number in skip:
            continue
        plane = sitk.GetImageFromArray(np.full((8, 10), number, np.int16))
        plane.SetSpacing(spacing[:2])
        tags = {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{uid}.{number + 1}",
            "0020|000e": uid,
            "0020|0032": f"0\\0\\{spacing[2] * number}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(number + 1),
        }
        for key, value in tags.items():
            plane.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{number}.dcm"))
        writer.Execute(plane)


def reasons(found):
    return dict(found.unusable)


def test_every_format_is_counted_and_measured(tmp_path):
    for name in ("a.nii.gz", "b.nii", "c.nrrd", "d.mha"):
        write_scan(tmp_path / name)
    write_series(tmp_path / "ct")
    found = inspect_scans(tmp_path)
    assert (found.scans, found.unusable) == (5, ())
    assert found.formats == {"NIfTI": 2, "NRRD": 1, "MetaImage": 1, "DICOM": 1}
    assert found.size_bytes == sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    for source, shape, spacing in zip(
        find_scans(tmp_path, Reporter()), found.shapes, found.spacings, strict=True
    ):
        scan = read_scan(source)
        assert shape == scan.shape
        assert spacing == pytest.approx(scan.spacing, abs=1e-6)
    assert (6, 8, 10) in found.shapes


def test_what_headers_show_to_be_unusable_is_named_with_the_reason(tmp_path):
    write_scan(tmp_path / "good.nii.gz")
    sitk.WriteImage(sitk.Image(5, 5, sitk.sitkFloat32), str(tmp_path / "flat.nrrd"))
    sitk.WriteImage(sitk.Image([5, 5, 5], sitk.sitkVectorFloat32, 3), str(tmp_path / "rgb.mha"))
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"text"))
    whole = write_scan(tmp_path / "cut.nii").read_bytes()
    (tmp_path / "cut.nii").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "lost.mhd").write_text("ElementDataFile = lost.raw\n")
    write_series(tmp_path / "gap", skip=(2,))
    found = inspect_scans(tmp_path)
    assert found.scans == 1
    why = reasons(found)
    assert set(why) == {"flat.nrrd", "rgb.mha", "text.nii.gz", "cut.nii", "lost.mhd", "gap"}
    assert "2D" in why["flat.nrrd"]
    assert "3 channels" in why["rgb.mha"]
    assert "cut off" in why["cut.nii"]
    assert "1 of its slices is missing" in why["gap"]
    assert inspect_scans(tmp_path, channels=3).scans == 1


def test_voxels_are_not_read(tmp_path):
    path = write_scan(tmp_path / "a.nii.gz", (64, 64, 64))
    content = bytearray(path.read_bytes())
    content[-1000] ^= 0xFF
    path.write_bytes(content)
    assert inspect_scans(tmp_path).scans == 1
    with pytest.raises(ScanError):
        read_scan(path)


def test_one_scan_can_be_looked_at(tmp_path):
    assert inspect_scans(write_scan(tmp_path / "a.nii.gz")).scans == 1


def test_it_tells_how_far_it_is_and_can_be_stopped(tmp_path):
    for seed in range(3):
        write_scan(tmp_path / f"{seed}.nrrd", seed=seed)
    told: list[Progress] = []
    inspect_scans(tmp_path, reporter=Reporter(told.append))
    assert [(report.done, report.total) for report in told] == [(n, 3) for n in range(4)]
    with pytest.raises(Cancelled):
        inspect_scans(tmp_path, reporter=Reporter(cancelled=lambda: True))


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_nothing_to_look_at_is_said(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScanError) as caught:
        inspect_scans(tmp_path / name)
    assert caught.value.code == f"scan.{name}"
