"""Taking files out of archives that nobody vouches for."""

from __future__ import annotations

import contextlib
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from medptq.artifacts import atomic_file
from medptq.errors import ModelError
from medptq.models.catalogue import Member
from medptq.models.checksum import require_checksum
from medptq.progress import Reporter

_BLOCK = 1 << 20
_MOST_EXPANSION = 20
"""Weights barely compress; a member this much larger than its archive is a zip bomb."""

_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError),
    *(ValueError, IndexError, struct.error),
)
"""What zipfile raises over a damaged archive; NotImplementedError is a RuntimeError."""

_MOST_MEMBERS = 10_000
_LONGEST_PART, _MOST_PARTS = 200, 16  # of a path; systems allow 255 bytes a part
_HARMLESS = 64 << 20  # bytes; what compresses better than that is small all the same

# What unpacks the others (bzip2, LZMA) takes as much memory as they hold, whatever size they claim.
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def extract_member(archive: Path, member: Member, target: Path, reporter: Reporter) -> None:
    """Copy one member of a zip archive (a wheel, a bundle) to ``target``.

    Nothing else is unpacked, and the name inside the archive never becomes a path.

    Args:
        archive: The archive.
        member: Which file of it, and its SHA-256 if that is to be checked.
        target: Where it shall lie; replaced if it exists.
        reporter: Told of the progress, asked for cancellation.

    Raises:
        ModelError: ``model.archive`` - the archive is damaged, lacks the member, or the member is
            unreasonably large. ``model.checksum`` - the member is another one.
        OutputError: It cannot be written.
    """
    most = _MOST_EXPANSION * archive.stat().st_size
    with _opened(archive) as opened, atomic_file(target, overwrite=True) as part:
        try:
            found = opened.getinfo(member.path)
        except KeyError as error:
            raise _refused(archive, f"it has no member {member.path}") from error
        if found.compress_type not in _BOUNDED:
            raise _refused(archive, f"{member.path} in it is compressed in a way that is not read")
        if found.file_size > most:
            raise _refused(archive, f"{member.path} would take {found.file_size / 1e6:.0f} MB")
        _copy(opened, found, part, reporter)
        if member.sha256:
            require_checksum(part, member.sha256, member.path)


def extract_with_siblings(
    archive: Path, choose: Callable[[Sequence[str]], str], folder: Path, reporter: Reporter
) -> Path:
    """Unpack one member of a zip archive and those that lie beside it, such as its weights.

    The archive is not trusted: names become paths only as the last part of them, links are not
    made, and nothing is unpacked of an archive whose names lead out of it or whose content would
    be unreasonably large.

    Args:
        archive: The archive.
        choose: Is given the names of all files in it, and returns one of them.
        folder: An existing, empty folder, which they are put into.
        reporter: Told of the progress, asked for cancellation.

    Returns:
        The path of the member that was chosen.

    Raises:
        ModelError: ``model.archive`` - the archive is damaged or not safe. Or what ``choose``
            raises.
        OSError: They cannot be written.
    """
    with _opened(archive) as opened:
        members = _plain_members(archive, opened)
        parent = PurePosixPath(chosen := choose([info.filename for info in members])).parent
        wanted = [info for info in members if PurePosixPath(info.filename).parent == parent]
        _require_room(archive, wanted, folder)
        for info in wanted:
            _copy(opened, info, folder / PurePosixPath(info.filename).name, reporter)
    return folder / PurePosixPath(chosen).name


def extract_folder(
    archive: Path, root_of: Callable[[Sequence[str]], str], folder: Path, reporter: Reporter
) -> Path:
    """Unpack one folder of a zip archive with all that is in it.

    The archive is not trusted, as in :func:`extract_with_siblings`.

    Args:
        archive: The archive.
        root_of: Is given the names of all files in it, and returns the folder's name in it;
            ``""`` for all of it.
        folder: An existing, empty folder, which it is put into.
        reporter: Told of the progress, asked for cancellation.

    Returns:
        The folder that was unpacked, called as in the archive, or as the archive without dots
        and blanks at the ends.

    Raises:
        ModelError: ``model.archive`` - the archive is damaged or not safe. Or what ``root_of``
            raises.
        OSError: It cannot be written.
    """
    with _opened(archive) as opened:
        members = _plain_members(archive, opened)
        root = PurePosixPath(root_of([info.filename for info in members]))
        wanted = {
            PurePosixPath(info.filename).relative_to(root): info
            for info in members
            if PurePosixPath(info.filename).is_relative_to(root)
        }
        _require_no_clash(archive, wanted)
        _require_room(archive, wanted.values(), folder)
        # The stem of "...zip" is "..", which would lead out of the folder.
        target = folder / (root.name or archive.stem.strip(". ") or "archive")
        for path, info in wanted.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            _copy(opened, info, target / path, reporter)
    return target


def names_in(archive: Path) -> list[str]:
    """Return the names of the files in a zip archive.

    Raises:
        ModelError: ``model.archive`` - the archive is damaged or not safe.
    """
    with _opened(archive) as opened:
        return [info.filename for info in _plain_members(archive, opened)]


def _plain_members(archive: Path, opened: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the files of an archive, refused if there are too many or one of them is no file."""
    members = [info for info in opened.infolist() if not info.is_dir()]
    # What macOS adds: the files' resource forks, under the files' own names.
    members = [info for info in members if not info.filename.startswith("__MACOSX/")]
    if len(members) > _MOST_MEMBERS:
        raise _refused(archive, f"it holds {len(members)} files")
    for info in members:
        if not _is_plain(info):
            raise _refused(archive, f'"{info.filename[:80]}" in it is not a plain file of it')
    return members


def _require_no_clash(archive: Path, paths: Iterable[PurePosixPath]) -> None:
    """Refuse files that would be written over each other, or into each other."""
    # Without regard to case, as files are on Windows and macOS.
    names = [path.as_posix().lower() for path in paths]
    parents = {parent.as_posix() for name in names for parent in PurePosixPath(name).parents}
    clashing = [name for name in names if name in parents] or (
        [] if len(set(names)) == len(names) else ["a file"]
    )
    if clashing:
        raise _refused(archive, f'"{clashing[0][:80]}" is in it twice')


def _require_room(archive: Path, wanted: Iterable[zipfile.ZipInfo], folder: Path) -> None:
    """Refuse content that is unreasonably large, or larger than the disk."""
    size = sum(info.file_size for info in wanted)
    if size > max(_MOST_EXPANSION * archive.stat().st_size, _HARMLESS):
        raise _refused(archive, f"its content would take {size / 1e6:.0f} MB")
    if size > shutil.disk_usage(folder).free:
        raise _refused(archive, f"there is no room for {size / 1e6:.0f} MB in {folder}")


def _is_plain(info: zipfile.ZipInfo) -> bool:
    """Tell whether a member is a file whose path stays in the archive, on any system.

    It must also be stored, or compressed in the one way that is unpacked bit by bit.
    """
    path = PurePosixPath(info.filename)
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
    return (
        kind in (0, stat.S_IFREG)
        and info.compress_type in _BOUNDED
        and not path.is_absolute()
        and ".." not in path.parts
        and not set(info.filename) & set('\\:*?"<>|')
        and all(len(part.encode()) <= _LONGEST_PART for part in path.parts)
        and len(path.parts) <= _MOST_PARTS
        and info.filename.isprintable()
    )


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; what zipfile says of it becomes an error for the user."""
    try:
        with _reading():
            opened = zipfile.ZipFile(archive)
        with opened:
            yield opened
    except _DAMAGED as error:
        raise _refused(archive, f"it is no readable zip archive ({error})") from error


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Tell an error of reading, as of an offset that cannot be, from one of writing."""
    try:
        yield
    except OSError as error:
        raise zipfile.BadZipFile(error.strerror or str(error)) from error


def _copy(
    opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, reporter: Reporter
) -> None:
    with _reading():
        source = opened.open(member)
    with source, target.open("wb") as copy:
        # zipfile itself never reads beyond the size that the archive declares.
        for _ in reporter.track(range(0, member.file_size, _BLOCK), "Unpacking"):
            with _reading():
                block = source.read(_BLOCK)
            copy.write(block)


def _refused(archive: Path, why: str) -> ModelError:
    return ModelError(
        "archive",
        f"{archive.name} cannot be unpacked",
        why=why,
        todo=f"Delete {archive}, and fetch or make it again",
    )
