"""The check that a file is the one that was meant."""

from __future__ import annotations

import hashlib
from pathlib import Path

from medptq.artifacts import sha256_of
from medptq.errors import ModelError


def require_checksum(path: Path, sha256: str, name: str) -> None:
    """Delete ``path`` and raise if its SHA-256 is not the one given.

    Args:
        path: The file.
        sha256: 64 lower-case hexadecimal digits.
        name: What the file is called, for the error's sentence.

    Raises:
        ModelError: ``model.checksum`` - it is another one; the file was deleted.
    """
    found = sha256_of(path)
    if found != sha256:
        raise _another(path, name, "SHA-256", found, sha256)


def require_sha1(path: Path, sha1: str, name: str) -> None:
    """Do as :func:`require_checksum` for a publisher that gives only the SHA-1.

    It shows that a file is whole and not another by mistake; against an attacker who makes two
    files with one SHA-1 it does not help.

    Args:
        path: The file.
        sha1: 40 lower-case hexadecimal digits.
        name: What the file is called, for the error's sentence.

    Raises:
        ModelError: ``model.checksum`` - it is another one; the file was deleted.
    """
    digest = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    if found != sha1:
        raise _another(path, name, "SHA-1", found, sha1)


def _another(path: Path, name: str, kind: str, found: str, wanted: str) -> ModelError:
    path.unlink()
    return ModelError(
        "checksum",
        f"{name} was deleted",
        why=f"its {kind} begins with {found[:12]} in place of {wanted[:12]}, so it is damaged"
        " or not the file that was meant",
        todo="Try again; if it stays so, the source serves another file",
    )
