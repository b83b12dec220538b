"""Folders for the files that pass between Slicer and the worker."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from medptq.errors import OutputError

_PREFIX = "medptq-job-"
_LOCK = ".owner"  # hidden: a folder of scans holds nothing else
# A folder without a lock may be one that another Slicer is just making.
_YOUNG_SECONDS = 60.0


class JobFolder:
    """An empty folder of a short ASCII path that nobody else may read, until it is closed.

    Its owner holds a lock on a file in it. The system releases the lock when the owner ends,
    however it ends, so that the next Slicer can tell what was left behind from what is in use.

    Attributes:
        path: The folder.

    Raises:
        OutputError: ``unwritable`` - no folder for temporary files can be written to.
    """

    def __init__(self) -> None:
        _removeLeftovers()
        self.path, self._lock = _make()
        _open.add(self)

    def close(self) -> None:
        """Remove the folder and all that is in it; what cannot be removed now is removed later."""
        _open.discard(self)
        self._lock.close()
        _remove(self.path)


@contextlib.contextmanager
def jobFolder() -> Iterator[Path]:
    """Yield a :class:`JobFolder`'s path, and remove the folder however the block ends.

    Example:
        >>> with jobFolder() as folder:
        ...     _ = (folder / "scan.nrrd").write_bytes(b"...")
        >>> folder.exists()
        False
    """
    folder = JobFolder()
    try:
        yield folder.path
    finally:
        folder.close()


def closeAll() -> None:
    """Close all folders that are open; for the end of Slicer."""
    for folder in _open.copy():
        folder.close()


def _make() -> tuple[Path, BinaryIO]:
    reason: OSError | None = None
    for root in _roots():
        try:
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))  # for this user alone: 0700
        except OSError as error:
            reason = reason or error
            continue
        try:
            lock = (path / _LOCK).open("wb")
            _lock(lock)
        except OSError as error:
            reason = reason or error
            shutil.rmtree(path, ignore_errors=True)
            continue
        return path, lock
    raise OutputError(
        "unwritable",
        "There is no place for temporary files",
        why=(reason.strerror or str(reason)) if reason else "no folder for them was found",
        todo="Free some space, or choose another temporary folder in Slicer's settings",
    )


def _roots() -> list[Path]:
    """Return where job folders may be made, the best first.

    Slicer's own temporary folder may hold the user's name, or digits of another script, which
    not every library of the worker's can open; one in plain ASCII is preferred to it.
    """
    import slicer

    names = [str(slicer.app.temporaryPath), tempfile.gettempdir()]
    if sys.platform == "win32":
        names += [os.environ.get(name, "") for name in ("PUBLIC", "PROGRAMDATA")]
    else:
        names += ["/tmp", "/var/tmp"]  # noqa: S108 - what is made there is this user's alone
    folders = [Path(name) for name in dict.fromkeys(names) if name and Path(name).is_dir()]
    return sorted(folders, key=lambda folder: not str(folder).isascii())


_open: set[JobFolder] = set()
_undeleted: list[Path] = []
_hasLooked = False


def _removeLeftovers() -> None:
    global _hasLooked
    if not _hasLooked:
        _hasLooked = True
        for root in _roots():
            with contextlib.suppress(OSError):
                _undeleted.extend(path for path in root.glob(_PREFIX + "*") if _isLeftover(path))
    paths = _undeleted.copy()
    _undeleted.clear()
    for path in paths:
        _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        # The lock's file last: by it, what is left of a folder can be told again.
        for inner in sorted(path.iterdir(), key=lambda inner: inner.name == _LOCK):
            if inner.is_dir() and not inner.is_symlink():
                shutil.rmtree(inner)
            else:
                inner.unlink()
        path.rmdir()
    if path.exists():  # Windows keeps what a dying process still holds open
        _undeleted.append(path)


def _isLeftover(path: Path) -> bool:
    """Tell whether a folder was made here by a process of this user that has ended."""
    try:
        about = path.lstat()
        if not stat.S_ISDIR(about.st_mode):
            return False
        if sys.platform != "win32" and about.st_uid != os.getuid():
            return False
        try:
            with (path / _LOCK).open("r+b") as lock:
                _lock(lock)
                return True
        except FileNotFoundError:
            isEmpty = not any(path.iterdir())
            return isEmpty and time.time() - about.st_mtime > _YOUNG_SECONDS
    except OSError:
        return False


def _lock(file: BinaryIO) -> None:
    """Lock a file until it is closed.

    Raises:
        OSError: Somebody else holds the lock, or the file system has none.
    """
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
