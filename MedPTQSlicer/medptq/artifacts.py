"""Files and folders that appear whole or not at all.

Everything is written under a temporary name in the same folder, flushed to the disk and renamed
at the end, so a crash, a full disk or a kill never leaves a half-written file that is later
believed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from medptq.errors import OutputError

_PART = ".medptq-part"
_SETTLED_NS = 2_000_000_000
_digests: dict[Path, tuple[tuple[int, ...], str]] = {}
_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 lower-case hexadecimal digits.

    A file that has not changed since this process read it last is not read again: a worker that
    is kept warm checks the same networks for every scan.
    """
    stat = path.stat()
    identity = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    known = _digests.get(path)
    if known is not None and known[0] == identity:
        return known[1]
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    # One that has only just changed may change again within the same tick of the clock.
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS:
        _digests[path] = identity, digest.hexdigest()
    return digest.hexdigest()


def is_text(path: Path) -> bool:
    """Tell whether a path is text: ITK ends the whole process over one that is not."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def shown_name(path: Path) -> str:
    """Return the name of a path that is no text as far as it can be shown."""
    return path.name.encode("utf-8", "replace").decode()


_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")


def require_free(path: Path, *, overwrite: bool) -> None:
    """Make sure, before any work is done for it, that a file or folder can be written.

    Raises:
        OutputError: Something of that name is there (an empty folder does not count) and
            ``overwrite`` is false, or the folder it is to lie in cannot be written to.
    """
    if not is_text(path):
        raise OutputError(
            "unwritable",
            f"{shown_name(path)} was not written",
            why="its path holds letters in an encoding that this system does not use",
            todo="Choose another folder or name, in plain letters",
        )
    try:
        is_empty_folder = path.is_dir() and not any(path.iterdir())
        if path.exists() and not overwrite and not is_empty_folder:
            raise OutputError(
                "exists",
                f"{path} was not written",
                why="something of that name is there already",
                todo="Choose another name, or ask for it to be replaced with --overwrite",
            )
        made = [folder for folder in path.parents if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Under the name that it will be written by, which may be too long for this system.
            part = _beside(path, "new")
            part.touch()
            part.unlink()
        finally:
            for folder in made:  # nothing has been done for it yet, and may never be
                with contextlib.suppress(OSError):
                    folder.rmdir()
    except OSError as error:
        raise _cannot_write(path, error) from error


def refuse_losing(path: Path, names: Collection[str]) -> None:
    """Make sure that a folder, if it is there, holds nothing but what is about to be replaced.

    What a system's file manager leaves in the folders that it shows is no one's, and may be lost.

    Raises:
        OutputError: ``other-files`` - it is a file, or holds something whose name is none of
            ``names``.
    """
    if not path.exists():
        return
    is_folder = path.is_dir()
    others = (
        sorted({file.name for file in path.iterdir()} - {*names, *_LITTER}) if is_folder else []
    )
    if others or not is_folder:
        held = f"it holds other files, such as {others[0]}," if others else "it is a file,"
        raise OutputError(
            "other-files",
            f"{path} was not replaced",
            why=f"{held} which would be lost",
            todo="Choose another folder, or move them away",
        )


def recover(path: Path) -> None:
    """Clear away what processes that were killed while they wrote ``path`` have left beside it.

    A folder that was being replaced at that moment is put back. What a process of another machine
    has left in a shared folder is not touched, as nobody here can tell whether it still runs; nor
    is what cannot be moved or listed, since it is in nobody's way.
    """
    pattern = re.compile(
        rf"{re.escape(_PART)}-{_MACHINE}-(\d+)-[0-9a-f]+-(new|old)-{re.escape(path.name)}"
    )
    with contextlib.suppress(OSError):
        for left in sorted(path.parent.iterdir()):
            match = pattern.fullmatch(left.name)
            if match is None or _is_running(int(match[1])):
                continue
            if match[2] == "old" and not path.exists():
                left.rename(path)
            elif left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` when the block ends without an error.

    The temporary name keeps every suffix of ``path``, because image writers choose the format by
    it.

    Raises:
        OutputError: ``path`` exists and ``overwrite`` is false, or it cannot be written.
    """
    recover(path)
    require_free(path, overwrite=overwrite)
    part = _beside(path, "new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        _flush(part)
        part.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # which would hide the error that led here
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` when the block ends without an error.

    Raises:
        OutputError: ``path`` exists, is not an empty folder and ``overwrite`` is false; or it
            holds something that the new folder does not, which would be lost; or it cannot be
            written.
    """
    recover(path)
    require_free(path, overwrite=overwrite)
    part, old = _beside(path, "new"), _beside(path, "old")
    try:
        part.mkdir(parents=True)
        yield part
        for file in sorted(part.rglob("*")):
            if file.is_file():
                _flush(file)
        if path.exists():
            refuse_losing(path, {file.name for file in part.iterdir()})
            path.rename(old)
        part.rename(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.rename(path)
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_folder(path: Path) -> int:
    """Delete a folder, which is gone at once: nobody finds a half of it.

    Links in it are removed, not followed; a link in its place is refused.

    Returns:
        The bytes that were freed; 0 if there is no such folder.

    Raises:
        OutputError: It cannot be removed.
    """
    recover(path)
    if not path.is_dir():
        return 0
    freed = folder_size(path)
    part = _beside(path, "new")  # what a killed process leaves of it, recover clears away
    try:
        if path.is_symlink():
            raise OSError("it is a link")
        path.rename(part)
        shutil.rmtree(part)
    except OSError as error:
        raise OutputError(
            "unremovable",
            f"{path} could not be removed",
            why=error.strerror or str(error),
            todo="Close the programs that use it, or delete it by hand",
        ) from error
    return freed


def folder_size(path: Path) -> int:
    """Return the bytes of the files in a folder; 0 if there is no such folder.

    What vanishes while it is looked at, or cannot be looked at, counts nothing.
    """
    size = 0
    for parent, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                size += Path(parent, name).lstat().st_size
    return size


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` to ``path`` as indented UTF-8 JSON."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _is_running(pid: int) -> bool:
    try:
        import psutil
    except ImportError:  # Slicer's own Python does not have it: what was left stays for now
        return True
    try:
        # One that was killed may be listed for a while, until its parent has taken note of it.
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def _beside(path: Path, role: str) -> Path:
    """Return a hidden name beside ``path``; it tells whose it is, for :func:`recover`."""
    return path.with_name(
        f"{_PART}-{_MACHINE}-{os.getpid()}-{uuid.uuid4().hex[:8]}-{role}-{path.name}"
    )


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _cannot_write(path: Path, error: OSError) -> OutputError:
    todo = {
        errno.ENAMETOOLONG: "Choose a shorter name",
        errno.ENOSPC: "Free some space, or choose a folder on another disk",
    }.get(error.errno or 0, "Free some space, or choose a folder that you may write to")
    return OutputError(
        "unwritable",
        f"{path} could not be written",
        why=error.strerror or str(error),
        todo=todo,
    )
