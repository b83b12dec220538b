"""Finding the scans of a folder, and telling one scan from another."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medptq.errors import ScanError
from medptq.progress import Reporter
from medptq.scans.digest import digest_of
from medptq.scans.reading import ScanSource, find_scans, read_scan


def write_scan(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).random((4, 5, 6), dtype=np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(path))
    return path


def test_find_scans_in_a_mixed_tree(tmp_path):
    for name in ("b/two.nii.gz", "a/one.nrrd", "a/deep/er/three.mha", ".hidden/four.nii.gz"):
        write_scan(tmp_path / name)
    (tmp_path / "._two.nii.gz").write_bytes(b"a Mac's leavings")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "broken.nii.gz").write_bytes(b"found, and refused when it is read")
    found = find_scans(tmp_path, Reporter())
    assert [source.name for source in found] == ["three", "one", "two", "broken"]
    assert found == find_scans(tmp_path, Reporter())


def test_find_scans_takes_a_file_and_refuses_others(tmp_path):
    path = write_scan(tmp_path / "a.nii.gz")
    assert find_scans(path, Reporter()) == [ScanSource("a", (path,))]
    (tmp_path / "notes.txt").write_text("hello")
    for wrong, code in (("notes.txt", "scan.format"), ("nowhere", "scan.missing")):
        with pytest.raises(ScanError) as caught:
            find_scans(tmp_path / wrong, Reporter())
        assert caught.value.code == code
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ScanError, match=r"NIfTI.*NRRD.*MetaImage.*DICOM") as caught:
        find_scans(empty, Reporter())
    assert caught.value.code == "scan.empty"


def test_a_folder_is_read_if_it_holds_a_single_scan(tmp_path):
    write_scan(tmp_path / "a.nii.gz")
    assert read_scan(tmp_path).name == "a"
    write_scan(tmp_path / "b.nii.gz")
    with pytest.raises(ScanError) as caught:
        read_scan(tmp_path)
    assert caught.value.code == "scan.several"


def test_digest_is_that_of_the_bytes_and_not_of_the_name(tmp_path):
    path = write_scan(tmp_path / "a.nii.gz")
    first = digest_of(ScanSource("a", (path,)))
    assert first == hashlib.sha256(path.read_bytes()).hexdigest()
    other = path.rename(tmp_path / "b.nii.gz")
    assert digest_of(ScanSource("b", (other,))) == first
    header, data = tmp_path / "c.mhd", tmp_path / "c.raw"
    write_scan(header)
    before = digest_of(ScanSource("c", (header,)))
    data.write_bytes(data.read_bytes()[::-1])
    assert digest_of(ScanSource("c", (header,))) != before
    with pytest.raises(ScanError):
        digest_of(ScanSource("d", (tmp_path / "d.nii",)))


def test_the_room_imports_neither_torch_nor_monai():
    code = (
        "import sys, medptq.scans.reading, medptq.scans.patches, medptq.scans.preprocessing,"
        " medptq.scans.writing; assert not {'torch', 'monai', 'nibabel'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
