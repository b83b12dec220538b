"""Finding the scans of a folder, and telling one scan from another."""

from __future__ import annotations

import builtins
import contextlib
import errno
import hashlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medptq.errors import ScanError
from medptq.progress import Reporter
from medptq.scans.digest import digest_of
from medptq.scans.inspecting import inspect_scans
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


@pytest.fixture
def forbid(monkeypatch):
    """Return what takes the permission to read a file or folder, from root too."""
    forbidden: set[str] = set()
    system_open, scandir = io.open, os.scandir

    def refuse(path: object) -> None:
        if str(path) in forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def guarded_open(file, *args, **more):
        refuse(file)
        return system_open(file, *args, **more)

    def guarded_scandir(path="."):
        refuse(path)
        return scandir(path)

    for module in (io, builtins):
        monkeypatch.setattr(module, "open", guarded_open)
    monkeypatch.setattr(os, "scandir", guarded_scandir)
    return lambda path: forbidden.add(str(path))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, forbid, name):
    path = write_scan(tmp_path / name)
    forbid(path)
    with pytest.raises(ScanError, match="you may not read it") as caught:
        read_scan(path)
    assert caught.value.code == "scan.missing"
    found = inspect_scans(tmp_path)
    assert found.unusable == ((name, "you may not read it"),)


def test_what_may_not_be_read_of_a_folder_is_told_and_passed_over(tmp_path, forbid):
    write_scan(tmp_path / "open" / "a.nrrd")
    write_scan(tmp_path / "sealed" / "b.nrrd")
    (tmp_path / "IM0001").write_bytes(bytes(200))
    forbid(tmp_path / "sealed")
    forbid(tmp_path / "IM0001")
    warnings: list[str] = []
    found = find_scans(tmp_path, Reporter(on_warning=warnings.append))
    assert [source.name for source in found] == ["a"]
    assert warnings == [
        f"{tmp_path / 'sealed'} was left out: you may not read it",
        f"Of {tmp_path} one file could not be looked at: you may not read it",
    ]
    for named in ("sealed", "IM0001"):
        with pytest.raises(ScanError, match="you may not read it"):
            find_scans(tmp_path / named, Reporter())


@pytest.mark.skipif(not hasattr(os, "fork") or os.getuid() != 0, reason="only root can be nobody")
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_sealed_folder_does_not_stop_the_others_for_who_is_not_root(mode):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        top = Path(folder)
        top.chmod(0o755)
        write_scan(top / "open" / "a.nrrd")
        write_scan(top / "sealed" / "b.nrrd")
        (top / "sealed").chmod(mode)
        write_scan(top / "IM.nrrd").rename(top / "IM.dcm").chmod(0)
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                os.setuid(65534)
                warnings: list[str] = []
                found = find_scans(top, Reporter(on_warning=warnings.append))
                told = [
                    f"{top / 'sealed'} was left out: you may not read it",
                    f"Of {top} one file could not be looked at: you may not read it",
                ]
                assert ([source.name for source in found], warnings) == (["a"], told)
                with pytest.raises(ScanError, match="you may not read it"):
                    find_scans(top / "sealed" / "b.nrrd", Reporter())
                status = 0
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
