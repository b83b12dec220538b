"""Taking one file out of an archive."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from medptq.artifacts import atomic_file
from medptq.errors import ModelError
from medptq.models.catalogue import Member
from medptq.models.checksum import require_checksum
from medptq.progress import Reporter

_BLOCK = 1 << 20
_MOST_EXPANSION = 20
"""Weights barely compress; a member this much larger than its archive is a zip bomb."""


def extract_member(archive: Path, member: Member, target: Path, reporter: Reporter) -> None:
    """Copy one member of a zip archive (a wheel, a bundle) to ``target``.

    Nothing else is unpacked, and the name inside the archive never becomes a path.

    Args:
        archive: The archive.
        member: Which file of it, and its SHA-256.
        target: Where it shall lie; replaced if it exists.
        reporter: Told of the progress, asked for cancellation.

    Raises:
        ModelError: ``model.archive`` - the archive is damaged, lacks the member, or the member is
            unreasonably large. ``model.checksum`` - the member is another one.
        OutputError: It cannot be written.
    """
    most = _MOST_EXPANSION * archive.stat().st_size
    try:
        with zipfile.ZipFile(archive) as opened, atomic_file(target, overwrite=True) as part:
            size = opened.getinfo(member.path).file_size
            if size > most:
                raise _refused(archive, f"{member.path} would take {size / 1e6:.0f} MB")
            with opened.open(member.path) as source, part.open("wb") as copy:
                # zipfile itself never reads beyond the size that the archive declares.
                for _ in reporter.track(range(0, size, _BLOCK), "Unpacking"):
                    copy.write(source.read(_BLOCK))
            require_checksum(part, member.sha256, member.path)
    except KeyError as error:
        raise _refused(archive, f"it has no member {member.path}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise _refused(archive, f"it is no readable zip archive ({error})") from error


def _refused(archive: Path, why: str) -> ModelError:
    return ModelError(
        "archive",
        f"{archive.name} cannot be unpacked",
        why=why,
        todo=f"Delete {archive} and try again",
    )
