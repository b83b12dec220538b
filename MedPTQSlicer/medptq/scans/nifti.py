"""What ITK does not check in a NIfTI file.

ITK reads what is missing of a cut-off or damaged file as zeros without a word, reads voxels that
are not numbers as zeros too, takes another geometry where it cannot use the one that is given, and
so drops a shear. Here the header is read once more, and the content to its end, so that such scans
are refused.

The layout is that of https://nifti.nimh.nih.gov/nifti-1.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from medptq.errors import ScanError
from medptq.scans import refusals
from medptq.scans.geometry import is_sheared, is_singular
from medptq.scans.scan import Affine

_LAYOUT = np.dtype(
    {
        "names": [
            "size",
            "dim",
            "type",
            "bits",
            "pixdim",
            "data_at",
            "units",
            "qform",
            "sform",
            "rows",
        ],
        "formats": ["i4", "8i2", "i2", "i2", "8f4", "f4", "u1", "i2", "i2", "(3,4)f4"],
        "offsets": [0, 40, 70, 72, 76, 108, 123, 252, 254, 280],
        "itemsize": 348,
    }
)
_MAGIC, _MAGIC_AT = b"n+1\0", 344
_MAGIC_2, _MAGIC_2_AT = b"n+2\0", 4
_FLOAT_TYPES = {16: "f4", 64: "f8"}
_UNITS = {1: 1000.0, 3: 0.001}  # metres and micrometres, in mm, as ITK takes them
_BLOCK = 1 << 20  # a multiple of every voxel's size


@dataclass(frozen=True)
class NiftiHeader:
    """The fields of a header that ITK does not check.

    Attributes:
        data_at: Byte at which the voxels start.
        voxels: Number of voxels, those of all volumes.
        bytes_a_voxel: Size of one.
        float_type: NumPy's type of the voxels if they are floating point, else None.
        voxel_size: ``pixdim`` along the image's first axes, three at most, in mm.
        sform: The matrix IJK to RAS, where the header gives one.
        has_qform: Whether the header gives a quaternion.
    """

    data_at: int
    voxels: int
    bytes_a_voxel: int
    float_type: np.dtype[np.floating] | None
    voxel_size: tuple[float, ...]
    sform: Affine | None
    has_qform: bool


def check_nifti(path: Path) -> NiftiHeader:
    """Read a NIfTI file's header and check what ITK does not, its whole content included.

    Raises:
        ScanError: It is no NIfTI image, or it is cut off or damaged (``corrupt``); the user may
            not read it (``missing``); it is of the second version of the format (``format``);
            its geometry is ``singular`` or ``sheared``; or some of its voxels are ``not-finite``.
    """
    try:
        with _open(path) as file:
            head = file.read(_LAYOUT.itemsize)
            header = _parse(head, path.name)
            is_compressed = isinstance(file, gzip.GzipFile)
            if header.float_type is None and not is_compressed:  # what is there is there
                present, not_finite = path.stat().st_size - header.data_at, 0
            else:
                file.read(header.data_at - len(head))
                present, not_finite = _count(file, header)
    except (OSError, EOFError, zlib.error) as error:
        raise _refusal_of(path, error) from error
    if present < header.voxels * header.bytes_a_voxel:
        why = f"{1 - present / header.bytes_a_voxel / header.voxels:.0%} of its voxels are missing"
        raise refusals.corrupt(path.name, why)
    _check_geometry(header, path)
    if not_finite:
        raise refusals.not_finite(path.name, not_finite, header.voxels)
    return header


def check_nifti_header(path: Path) -> None:
    """Check of a NIfTI file what can be checked without reading its voxels.

    Raises:
        ScanError: As :func:`check_nifti`, of which this is the quick part.
    """
    try:
        with _open(path) as file:
            header = _parse(file.read(_LAYOUT.itemsize), path.name)
            is_compressed = isinstance(file, gzip.GzipFile)
    except (OSError, EOFError, zlib.error) as error:
        raise _refusal_of(path, error) from error
    size = header.data_at + header.voxels * header.bytes_a_voxel
    if not is_compressed and path.stat().st_size < size:
        raise _cut_off(path)
    _check_geometry(header, path)


def _check_geometry(header: NiftiHeader, path: Path) -> None:
    if not all(math.isfinite(size) and size != 0 for size in header.voxel_size):
        raise refusals.singular(path.name, "a voxel size of zero")
    if header.sform is not None and len(header.voxel_size) == 3:
        if is_singular(header.sform):
            raise refusals.singular(path.name, "an sform whose axes do not span space")
        if is_sheared(header.sform):
            raise refusals.sheared(path.name)


def check_placement(
    header: NiftiHeader, ijk_to_ras: Affine, shape: tuple[int, int, int], path: Path
) -> None:
    """Check that ITK placed the image where the header's sform places it.

    Where a header gives both an sform and a qform, ITK's (and so 3D Slicer's) choice stands.

    Args:
        header: The file's header.
        ijk_to_ras: Where ITK placed the image.
        shape: Voxels along (K, J, I).
        path: The file, for the error.

    Raises:
        ScanError: A corner of the image is more than half a voxel away (``geometry``).
    """
    if header.sform is None or header.has_qform:
        return
    corners = np.array(
        [[i, j, k, 1] for i in (0, shape[2]) for j in (0, shape[1]) for k in (0, shape[0])]
    ).T
    apart = np.linalg.norm((header.sform - ijk_to_ras)[:3] @ corners, axis=0).max()
    if apart > 0.5 * np.linalg.norm(header.sform[:3, :3], axis=0).min():
        raise refusals.misplaced(path.name)


def stored_matrix(header: NiftiHeader, ijk_to_ras: Affine) -> Affine | None:
    """Return the IJK-to-RAS matrix to the last bit of the header, as NiBabel gives it.

    Args:
        header: The file's header.
        ijk_to_ras: The same matrix as ITK gives it, which squares its axes.

    Returns:
        The header's sform; of a quaternion, axes at right angles; None if the header has neither,
        or ITK has taken something else.
    """
    if header.sform is not None:
        same = np.allclose(header.sform, ijk_to_ras, rtol=1e-4, atol=1e-3)
        return header.sform if same else None
    if not header.has_qform:
        return None
    sizes = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    left, _, right = np.linalg.svd(ijk_to_ras[:3, :3] / sizes)
    squared = ijk_to_ras.copy()
    squared[:3, :3] = left @ right * sizes
    return squared


def _cut_off(path: Path) -> ScanError:
    return refusals.corrupt(path.name, "its content is cut off or damaged")


def _refusal_of(path: Path, error: Exception) -> ScanError:
    return refusals.forbidden(path.name) if refusals.is_forbidden(error) else _cut_off(path)


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb")) if compressed else path.open("rb")


def _parse(head: bytes, name: str) -> NiftiHeader:
    if head[_MAGIC_2_AT:].startswith(_MAGIC_2):
        raise ScanError(
            "format",
            f"{name} cannot be read",
            why="it is of version 2 of the NIfTI format, which 3D Slicer does not read either",
            todo="Save it as NIfTI-1 or NRRD",
        )
    if len(head) == _LAYOUT.itemsize and head[_MAGIC_AT:] == _MAGIC:
        for layout in (_LAYOUT, _LAYOUT.newbyteorder("S")):
            fields = np.frombuffer(head, layout)[0]
            sizes = [int(size) for size in fields["dim"][1 : fields["dim"][0] + 1]]
            if (
                fields["size"] == _LAYOUT.itemsize
                and 1 <= fields["dim"][0] <= 7
                and min(sizes) >= 1
                and fields["bits"] >= 1
                and _LAYOUT.itemsize <= fields["data_at"] < 2**24
            ):
                return _header_of(fields, sizes, swapped=layout is not _LAYOUT)
    raise refusals.corrupt(name, "it has no valid NIfTI header")


def _header_of(fields: np.void, sizes: list[int], *, swapped: bool) -> NiftiHeader:
    name = _FLOAT_TYPES.get(int(fields["type"]))
    float_type = np.dtype(name) if name is not None else None
    if float_type is not None and swapped:
        float_type = float_type.newbyteorder("S")
    sform = np.eye(4)
    sform[:3] = fields["rows"] * _UNITS.get(int(fields["units"]) & 7, 1.0)
    return NiftiHeader(
        data_at=int(fields["data_at"]),
        voxels=math.prod(sizes),
        bytes_a_voxel=max(int(fields["bits"]) // 8, 1),
        float_type=float_type,
        voxel_size=tuple(float(size) for size in fields["pixdim"][1 : min(len(sizes), 3) + 1]),
        sform=sform if fields["sform"] > 0 else None,
        has_qform=bool(fields["qform"] > 0),
    )


def _count(file: IO[bytes], header: NiftiHeader) -> tuple[int, int]:
    """Read to the end, where gzip compares its checksum.

    Returns:
        The bytes of voxels that are there, and how many of the voxels are not finite.
    """
    present, not_finite = 0, 0
    announced = header.voxels * header.bytes_a_voxel
    while block := file.read(_BLOCK):
        if header.float_type is not None:
            mine = block[: max(announced - present, 0)]
            whole = len(mine) // header.float_type.itemsize
            values = np.frombuffer(mine, header.float_type, count=whole)
            not_finite += int(whole - np.isfinite(values).sum())
        present += len(block)
    return present, not_finite
