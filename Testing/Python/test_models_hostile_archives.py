"""Archives that want to write where they should not, or to fill the machine; and broken ones."""

from __future__ import annotations

import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from hostile_models import copied, kept_apart, refused, write_sound_models
from medptq.models.archive import extract_folder
from medptq.progress import Reporter

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def canary(tmp_path, monkeypatch):
    return kept_apart(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_sound_models(tmp_path_factory.mktemp("sound"))


def _zip(path: Path, names: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return path


def _link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


ESCAPING = [
    *("../evil", "b/../../evil", "/evil", "//evil", "..\\evil", "C:evil", "C:/evil", "c:\\evil"),
    *("b/configs/../../../evil", "b/\x01", "b/" + "x" * 250, "b/" + "d/" * 30 + "x", "b/a:stream"),
]


@pytest.mark.parametrize("name", ESCAPING)
@pytest.mark.parametrize("form", ["bundle", "nnunet"])
def test_an_archive_whose_names_lead_out_of_it_is_refused(tmp_path, sound, form, name):
    path, _ = copied(sound, tmp_path, form)
    archive = Path(shutil.make_archive(str(tmp_path / "m"), "zip", path.parent, path.name))
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(name, b"evil")
    assert refused(archive, tmp_path).code == "model.archive"


def test_an_archive_with_links_is_refused(tmp_path, sound):
    path, _ = copied(sound, tmp_path, "bundle")
    archive = Path(shutil.make_archive(str(tmp_path / "m"), "zip", path.parent, path.name))
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(_link("bundle/models/more"), str(tmp_path))
        opened.writestr("bundle/models/more/evil", b"evil")
    assert "not a plain file" in refused(archive, tmp_path).why


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_an_archive_whose_unpacking_has_no_limit_is_refused(tmp_path, sound, method):
    path, _ = copied(sound, tmp_path, "bundle")
    archive = Path(shutil.make_archive(str(tmp_path / "m"), "zip", path.parent, path.name))
    with zipfile.ZipFile(archive, "a", method) as opened:
        opened.writestr("bundle/more", b"more" * 100)
    assert refused(archive, tmp_path).code == "model.archive"


@pytest.mark.parametrize("name", ["...zip", "....zip", ".. .zip", "..zip"])
def test_an_archive_s_own_name_does_not_lead_out_of_the_folder(tmp_path, name):
    archive = _zip(tmp_path / name, {"configs/metadata.json": b"{}"})
    (folder := tmp_path / "whole" / "unpacked").mkdir(parents=True)

    root = extract_folder(archive, lambda _: "", folder, Reporter())

    assert root.resolve().parent == folder.resolve()
    assert (root / "configs" / "metadata.json").read_bytes() == b"{}"
    assert list((tmp_path / "whole").iterdir()) == [folder]


def test_files_that_would_take_each_other_s_place_are_refused(tmp_path):
    for number, name in enumerate(("b/Configs/metadata.json", "b/configs", "b/a")):
        names = {"b/configs/metadata.json": b"{}", "b/a/b": b"", name: b""}
        error = refused(_zip(tmp_path / f"{number}.zip", names), tmp_path)
        assert (error.code, "twice" in error.why) == ("model.archive", True)


def _claiming(path: Path, size: int) -> Path:
    """Write an archive whose directory claims that one member has this size."""
    _zip(path, {"b/configs/metadata.json": b"{}", "b/models/model.pt": bytes(1000)})
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


def test_archives_that_would_fill_the_disk_are_refused_unopened(tmp_path):
    for size in ((1 << 32) - 2, 100 << 20):
        error = refused(_claiming(tmp_path / "a.zip", size), tmp_path)
        assert (error.code, "would take" in error.why) == ("model.archive", True)
    path = _zip(tmp_path / "b.zip", {"b/configs/metadata.json": b"{}"})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/models/model.pt", bytes(100 << 20))
    assert "would take 105 MB" in refused(path, tmp_path).why


def test_a_header_of_ten_gigabytes_is_refused(tmp_path):
    path = _zip(tmp_path / "a.zip", {"b/configs/metadata.json": b"{}", "b/x": b"y" * 100})
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    name, extra = struct.unpack("<HH", content[at + 28 : at + 32])
    assert extra == 0
    zip64 = struct.pack("<HHQ", 1, 8, 10 << 30)  # the size, in the 64-bit extra field
    content[at + 24 : at + 28] = b"\xff" * 4
    content[at + 30 : at + 32] = struct.pack("<H", len(zip64))
    content[at + 46 + name : at + 46 + name] = zip64
    end = content.rindex(b"PK\x05\x06")
    [directory] = struct.unpack("<I", content[end + 12 : end + 16])
    content[end + 12 : end + 16] = struct.pack("<I", directory + len(zip64))
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("b/x").file_size == 10 << 30

    error = refused(path, tmp_path)

    assert (error.code, "would take 10737 MB" in error.why) == ("model.archive", True)


def test_an_archive_of_very_many_files_is_refused(tmp_path):
    names = {f"b/{number}": b"" for number in range(10_001)}
    assert (
        "it holds 10002 files"
        in refused(
            _zip(tmp_path / "a.zip", {**names, "b/configs/metadata.json": b"{}"}), tmp_path
        ).why
    )


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.98])
def test_an_archive_that_is_cut_off_is_refused(tmp_path, sound, keep):
    path, _ = copied(sound, tmp_path, "bundle")
    archive = Path(shutil.make_archive(str(tmp_path / "m"), "zip", path.parent, path.name))
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content))])
    assert refused(archive, tmp_path).code == "model.archive"


def test_an_archive_whose_content_is_damaged_is_refused(tmp_path, sound):
    path, _ = copied(sound, tmp_path, "bundle")
    archive = Path(shutil.make_archive(str(tmp_path / "m"), "zip", path.parent, path.name))
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(content)
    assert refused(archive, tmp_path).code == "model.archive"


@pytest.mark.parametrize("member", ["ä", "a"])
def test_an_archive_whose_directory_is_damaged_is_refused(tmp_path, member):
    path = _zip(tmp_path / "a.zip", {"b/configs/metadata.json": b"{}", f"b/{member}": b""})
    content = bytearray(path.read_bytes())
    if member == "ä":  # a name that is no UTF-8
        content[content.rindex("ä".encode())] = 0xFF
    else:  # members that would begin before the file does
        [place] = struct.unpack("<I", content[-6:-2])
        content[-6:-2] = struct.pack("<I", place + 1000)
    path.write_bytes(content)
    assert refused(path, tmp_path).code == "model.archive"


def test_what_cannot_be_written_is_no_fault_of_the_archive(tmp_path):
    path = _zip(tmp_path / "a.zip", {"b": b""})
    (tmp_path / "out" / "a" / "b").mkdir(parents=True)
    with pytest.raises(OSError, match="b"):
        extract_folder(path, lambda _: "", tmp_path / "out", Reporter())
