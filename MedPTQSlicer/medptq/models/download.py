"""Fetching a model's file into the cache, where it stays.

The order in which it is looked for: the cache, the mirror that the environment variable
``MEDPTQ_MIRROR`` names (a folder or the base of an URL, where files lie under their own names), and
then its origin. What comes with the program is read where it lies. Whatever comes from outside is
believed only if its checksum is right. Where the publisher gives none but an older kind, or none at
all, the SHA-256 of what came first is recorded beside it, and no other file is believed from then
on; without any checksum, as long as that file is there, so that whoever deletes it can start anew.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from functools import partial
from pathlib import Path
from urllib.parse import quote

from medptq.artifacts import atomic_file, sha256_of
from medptq.errors import ModelError
from medptq.models.cache import cache_folder
from medptq.models.catalogue import Download, Release
from medptq.models.checksum import require_checksum, require_sha1
from medptq.models.package_index import download_release
from medptq.models.url_download import download_url
from medptq.progress import Reporter

_ARCHIVES = (".zip", ".whl")


def fetch(download: Download, reporter: Reporter) -> Path:
    """Return the path of the file in the cache, after downloading it if it is not there yet.

    Nothing is sent over the network for a file that is in the cache, or comes with the program.

    Args:
        download: What is wanted.
        reporter: Told of the progress; a download that is cancelled is resumed next time.

    Raises:
        ModelError: ``model.offline`` - it cannot be reached; the sentence says where to put the
            file by hand. ``model.checksum`` - another file was delivered; it was deleted. Or the
            one that comes with the program is damaged; it was left.
            ``model.download`` - it was refused, or what came in an archive's place is none, such
            as a login page; that was deleted. ``model.cache`` - the cache cannot be written.
    """
    target, origin = place_of(download), download.origin
    if isinstance(origin, Path):
        _require_included(download, target)
        return target
    try:
        if not (download.sha256 or download.sha1 or target.is_file()):
            record_of(target).unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(target, error) from error
    wanted = download.sha256 or _recorded(target)
    if target.is_file() and wanted:
        if sha256_of(target) == wanted:
            return target
        reporter.warn(f"{target} was damaged, so it was deleted and is fetched again.")
        target.unlink()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file():  # put there by hand
            _require(download, target)
        elif not _fetch_from_mirror(download, target, reporter):
            _fetch_from_origin(download, origin, target, reporter)
        if not download.sha256:
            if not download.sha1 and not wanted:
                reporter.warn(
                    f"The publisher of {download.file} gives no checksum, so it was believed."
                )
            with atomic_file(record_of(target), overwrite=True) as part:
                part.write_text(f"{sha256_of(target)}\n", encoding="ascii")
    except OSError as error:
        raise _unwritable(target, error) from error
    return target


def place_of(download: Download) -> Path:
    """Return where a file lies as soon as it is on this machine."""
    if isinstance(download.origin, Path):
        return download.origin
    return cache_folder("downloads") / download.file


def record_of(target: Path) -> Path:
    """Return where the SHA-256 of a file is recorded whose publisher does not give it."""
    return target.with_name(f"{target.name}.sha256")


def _recorded(target: Path) -> str:
    try:
        text = record_of(target).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return text if re.fullmatch(r"[0-9a-f]{64}", text) else ""


def _require(download: Download, path: Path) -> None:
    """Delete a file and raise if its checksum is not the one that was published or recorded.

    Where there is none, an archive must be one.
    """
    wanted = download.sha256 or _recorded(place_of(download))
    if wanted:
        require_checksum(path, wanted, download.file)
    elif download.sha1:
        require_sha1(path, download.sha1, download.file)
    elif _is_archive(download) and not zipfile.is_zipfile(path):
        path.unlink()
        raise ModelError(
            "download",
            f"{download.file} was deleted",
            why="it is no zip archive, and was perhaps a login page in its place",
            todo="See that this computer reaches the internet without a login, and try again",
        )


def _is_archive(download: Download) -> bool:
    return download.member is not None or Path(download.file).suffix.lower() in _ARCHIVES


def _unwritable(target: Path, error: OSError) -> ModelError:
    return ModelError(
        "cache",
        f"{target} could not be written",
        why=error.strerror or str(error),
        todo="Free some space, or name another folder in the environment variable MEDPTQ_CACHE",
    )


def _require_included(download: Download, path: Path) -> None:
    """Raise if a file that came with the program is not the one that came with it."""
    try:
        damaged = sha256_of(path) != download.sha256
        why = "its SHA-256 is another, so it is damaged or was changed"
    except OSError as error:
        damaged, why = True, error.strerror or str(error)
    if damaged:
        raise ModelError(
            "checksum",
            f"{download.file}, which comes with this program, cannot be used",
            why=why,
            todo="Install the program again",
        )


def _fetch_from_origin(
    download: Download, origin: Release | str, target: Path, reporter: Reporter
) -> None:
    if isinstance(origin, Release):
        download_release(origin, download.sha256, target, reporter)
    else:
        require = partial(_require, download)
        download_url(origin, require, download.size_mb, target, reporter)


def _fetch_from_mirror(download: Download, target: Path, reporter: Reporter) -> bool:
    """Fetch the file from the mirror; false if there is no mirror or the mirror lacks it."""
    mirror = os.environ.get("MEDPTQ_MIRROR")
    if not mirror:
        return False
    if mirror.startswith(("http://", "https://")):
        url = f"{mirror.rstrip('/')}/{quote(download.file)}"
        try:
            download_url(url, partial(_require, download), download.size_mb, target, reporter)
        except ModelError as error:
            reporter.warn(f"The mirror did not serve {download.file}, as {error.why}.")
            return False
        return True
    source = Path(mirror).expanduser() / download.file
    if not source.is_file():
        reporter.warn(f"The mirror {mirror} has no {download.file}.")
        return False
    with atomic_file(target, overwrite=True) as part:
        shutil.copyfile(source, part)
        _require(download, part)
    return True
