"""TensorRT's timing cache: what kernels took on this GPU, so that the next build is shorter.

It is kept with its SHA-256 and handed to TensorRT only if that is right: TensorRT reads it as
plain memory.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from medptq.artifacts import atomic_file
from medptq.errors import OutputError
from medptq.models.cache import cache_folder

_MAGIC = b"medptq-timings-1\n"
_DIGEST = 32


def timing_cache_file(version: str, gpu: str) -> Path:
    """Return where the timings of one version on one GPU are kept; it need not exist yet."""
    key = hashlib.sha256(f"{version}\n{gpu}".encode()).hexdigest()[:32]
    return cache_folder("engines") / f"timings-{key}.bin"


def read_timings(path: Path) -> bytes:
    """Return the timings in a file; none if it is missing, damaged or not whole."""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        start = len(_MAGIC) + _DIGEST
        timings = content[start:]
        if content[:start] == _MAGIC + hashlib.sha256(timings).digest():
            return timings
    return b""


def write_timings(path: Path, timings: bytes) -> None:
    """Write timings in one step. That they cannot be kept is no reason to fail a build."""
    with contextlib.suppress(OutputError), atomic_file(path, overwrite=True) as part:
        part.write_bytes(_MAGIC + hashlib.sha256(timings).digest() + timings)
