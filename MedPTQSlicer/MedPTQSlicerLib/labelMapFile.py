"""Reading the label maps that the worker writes.

Slicer's own readers are not used: they turn left-handed volumes over, and then a label map's voxels
would no longer be the volume's. SimpleITK is not either: its import and a large file would hold up
Slicer's window. The worker writes on the volume's own grid, so the geometry is not read.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

import numpy as np

from medptq.errors import OutputError
from medptq.scans.scan import LabelArray

_SLAB_BYTES = 8_000_000
_NRRD_TYPES = {"unsigned char": "u1", "uint8": "u1", "unsigned short": "u2", "uint16": "u2"}
_NIFTI_TYPES = {2: "u1", 512: "u2"}
_NIFTI_HEADER_BYTES = 348


def readLabelMapSteps(path: Path) -> Generator[None, None, LabelArray]:
    """Read a label map that the worker wrote for a volume, slab by slab.

    Args:
        path: The file: ``.nrrd``, compressed or not, or ``.nii.gz``.

    Yields:
        None between the slabs, so that who reads it can do something else in between.

    Returns:
        The labels on the volume's own grid, uint8 or uint16 [K, J, I].

    Raises:
        OutputError: ``label-map`` - the file is gone or damaged.
    """
    try:
        with path.open("rb") as file:
            isNifti = path.name.endswith(".nii.gz")
            stream, dtype, shape = _openNifti(file) if isNifti else _openNrrd(file)
            buffer = bytearray(math.prod(shape) * dtype.itemsize)
            view = memoryview(buffer)
            for start in range(0, len(view), _SLAB_BYTES):
                _readInto(stream, view[start : start + _SLAB_BYTES])
                yield
    except (OSError, EOFError, zlib.error, ValueError, KeyError) as error:
        raise OutputError(
            "label-map",
            "The segmentation was not loaded",
            why=f"its label map, {path.name}, is gone or damaged",
            todo="Segment the volume again",
        ) from error
    labels = np.frombuffer(buffer, dtype).reshape(shape)
    return labels.astype(dtype.newbyteorder("="), copy=False)


def _openNrrd(file: IO[bytes]) -> tuple[IO[bytes], np.dtype[Any], tuple[int, ...]]:
    if not file.readline().startswith(b"NRRD"):
        raise ValueError("no NRRD")
    fields: dict[str, str] = {}
    while line := file.readline().strip().decode("ascii"):
        if not line.startswith("#"):
            name, _, value = line.partition(": ")
            fields[name] = value
    order = ">" if fields.get("endian") == "big" else "<"
    dtype = np.dtype(order + _NRRD_TYPES[fields["type"]])
    i, j, k = (int(size) for size in fields["sizes"].split())
    encoding = fields["encoding"]
    if encoding not in ("raw", "gzip", "gz"):
        raise ValueError(encoding)
    return file if encoding == "raw" else _unzipped(file), dtype, (k, j, i)


def _openNifti(file: IO[bytes]) -> tuple[IO[bytes], np.dtype[Any], tuple[int, ...]]:
    stream = _unzipped(file)
    header = stream.read(_NIFTI_HEADER_BYTES)
    order = "<" if header[:4] == _NIFTI_HEADER_BYTES.to_bytes(4, "little") else ">"
    rank, i, j, k = (int(n) for n in np.frombuffer(header, order + "i2", count=4, offset=40))
    [code] = np.frombuffer(header, order + "i2", count=1, offset=70)
    [voxels] = np.frombuffer(header, order + "f4", count=1, offset=108)
    if rank < 3:
        raise ValueError(f"{rank} dimensions")
    stream.read(int(voxels) - _NIFTI_HEADER_BYTES)
    return stream, np.dtype(order + _NIFTI_TYPES[int(code)]), (k, j, i)


def _unzipped(file: IO[bytes]) -> IO[bytes]:
    stream: IO[bytes] = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
    return stream


def _readInto(stream: IO[bytes], view: memoryview) -> None:
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]
