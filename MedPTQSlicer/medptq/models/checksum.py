"""The check that a file is the one that was meant."""

from __future__ import annotations

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
        path.unlink()
        raise ModelError(
            "checksum",
            f"{name} was deleted",
            why=f"its SHA-256 begins with {found[:12]} in place of {sha256[:12]}, so it is damaged"
            " or not the file that was meant",
            todo="Try again; if it stays so, the source serves another file",
        )
