"""Reading scans from NIfTI, NRRD, MetaImage and DICOM, and refusing what cannot be trusted.

SimpleITK reads; this module makes sure that what it read is what the file says: whole, of the
expected kind, with finite intensities, and lying where its header places it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medptq.artifacts import is_text
from medptq.errors import ScanError
from medptq.progress import Reporter
from medptq.scans import dicom, refusals
from medptq.scans.finding import find_scans
from medptq.scans.geometry import ijk_to_ras_of, is_sheared, is_singular
from medptq.scans.integrity import check_compressed, data_file_of
from medptq.scans.nifti import (
    NiftiHeader,
    check_nifti,
    check_nifti_header,
    check_placement,
    stored_matrix,
)
from medptq.scans.quiet import quiet
from medptq.scans.scan import Affine, Scan
from medptq.scans.sources import (
    DICOM,
    METAIMAGE,
    NIFTI,
    NRRD,
    ScanSource,
    reader_of,
    source_of_file,
)

__all__ = ["ScanSource", "find_scans", "read_scan"]

_COMPLEX = (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)


@dataclass(frozen=True)
class Header:
    """What a scan's header says of it.

    Attributes:
        shape: Voxels along (K, J, I).
        spacing: Voxel size in mm along (K, J, I).
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]


def read_scan(
    source: ScanSource | Path, channels: int = 1, *, may_be_constant: bool = False
) -> Scan:
    """Read one scan.

    Args:
        source: What :func:`find_scans` found, an image file, or a folder with a single scan (such
            as a DICOM series).
        channels: Channels the scan must have: components of a vector image, or volumes of a 4D
            file.
        may_be_constant: Whether all voxels may be the same, as in a label map without structures.

    Returns:
        The scan, float32 [C, K, J, I], DICOM intensities rescaled (CT: in Hounsfield units).

    Raises:
        ScanError: ``missing``, ``format``, ``corrupt``, ``detached`` or ``memory`` if it cannot be
            read; ``several`` if the folder holds more than one; ``2d``, ``channels`` or
            ``complex`` if it is not the expected kind of image; ``singular``, ``sheared`` or
            ``geometry`` if its header does not place it; ``missing-slices``,
            ``duplicate-slices``, ``uneven-slices`` or ``no-position`` if a DICOM series is not a
            volume; ``not-finite`` or ``constant`` if its intensities are of no use.
    """
    if isinstance(source, Path):
        source = _source_of(source)
    for path in source.paths:
        # Not Path.is_file: up to Python 3.13 it raises PermissionError within a forbidden folder.
        if not os.path.isfile(path):  # noqa: PTH113
            raise refusals.missing_or_forbidden(path)
    with quiet():
        image, header = _read_image(source, channels)
    ijk_to_ras = _ijk_to_ras_of(image, source.shown)
    voxels = _voxels_of(image, channels)
    if header is not None:
        check_placement(header, ijk_to_ras, voxels.shape[1:], source.paths[0])
    array = voxels.astype(np.float32, order="C")  # the one copy
    # Whole numbers are compared as they are, at half the memory; others as they have become.
    whole = np.issubdtype(voxels.dtype, np.integer)
    _check_intensities(voxels if whole else array, source.shown, may_be_constant=may_be_constant)
    del image, voxels
    stored = None if header is None else stored_matrix(header, ijk_to_ras)
    return Scan(array, ijk_to_ras, source.name, stored)


def _source_of(path: Path) -> ScanSource:
    if not os.path.isdir(path):  # noqa: PTH112 - as above
        return source_of_file(path)
    sources = find_scans(path, Reporter())
    if len(sources) > 1:
        raise ScanError(
            "several",
            f"{path.name} cannot be read as one scan",
            why=f"it holds {len(sources)} scans",
            todo="Choose one of its files, or a folder with a single DICOM series",
        )
    return sources[0]


def read_header(source: ScanSource, slices: Sequence[dicom.DicomImage], channels: int) -> Header:
    """Read what a scan's header says, and refuse what it shows to be unusable.

    Args:
        source: The scan.
        slices: The headers of its files, if it is a DICOM series that was found in a folder.
        channels: Channels that the scan must have.

    Raises:
        ScanError: As :func:`read_scan`, as far as headers tell.
    """
    with quiet():
        reader, _ = _opened(source, channels, whole=False)
    i, j, k = reader.GetSize()[:3]
    spacing_i, spacing_j, spacing_k = reader.GetSpacing()[:3]
    if len(slices) > 1:
        k, spacing_k = len(slices), dicom.slice_spacing_of(slices, source.shown)
    else:
        _ijk_to_ras_of(reader, source.shown)
    return Header((k, j, i), (spacing_k, spacing_j, spacing_i))


def _read_image(source: ScanSource, channels: int) -> tuple[sitk.Image, NiftiHeader | None]:
    """Read an image, after all checks that are possible before its voxels are read.

    Its voxels are of the file's own type, or float32: that is the type of a series.
    """
    reader, header = _opened(source, channels, whole=True)
    if len(source.paths) > 1:
        several = reader.GetNumberOfComponents() > 1
        pixel_type = sitk.sitkVectorFloat32 if several else sitk.sitkFloat32
        return dicom.read_series(source.paths, source.shown, pixel_type), None
    try:
        return reader.Execute(), header
    except RuntimeError as error:
        raise _refusal_of(error, source.shown) from error


def _opened(
    source: ScanSource, channels: int, *, whole: bool
) -> tuple[sitk.ImageFileReader, NiftiHeader | None]:
    """Return a reader that has read the header of the scan's first file, after checks.

    Args:
        source: The scan.
        channels: Channels that it must have.
        whole: Whether to check the content that ITK does not, which takes reading it.
    """
    path, name = source.paths[0], source.shown
    format_reader = reader_of(path)
    if format_reader is None:
        raise refusals.unknown_format(path)
    header = None
    if format_reader == NIFTI:
        if whole:
            header = check_nifti(path)
        else:
            check_nifti_header(path)
    data = data_file_of(path)
    if data is not None and not data.is_file():
        raise refusals.missing(data)
    if whole and format_reader in (METAIMAGE, NRRD):
        check_compressed(path)
    if not is_text(path):
        raise refusals.unnamable(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(format_reader)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _refusal_of(error, name) from error
    _check_kind(reader, channels, len(source.paths), name, is_dicom=format_reader == DICOM)
    if format_reader == DICOM and len(source.paths) == 1:
        dicom.check_frames(path, reader, name)
    return reader, header


def _refusal_of(error: RuntimeError, name: str) -> ScanError:
    """Translate what ITK says of a file into what the user can do about it."""
    said = str(error)
    if "orthonormal" in said:
        return refusals.sheared(name)
    if "determinant" in said or "spacing" in said.lower():
        return refusals.singular(name, "axes that do not span space")
    if "allocate" in said or "bad_alloc" in said:
        return ScanError(
            "memory",
            f"{name} cannot be read",
            why="it does not fit into the free memory",
            todo="Close other programs, or crop or resample the scan first",
        )
    return refusals.corrupt(name, "its content is cut off, damaged or of another format")


def _check_kind(
    reader: sitk.ImageFileReader, channels: int, files: int, name: str, *, is_dicom: bool
) -> None:
    size = reader.GetSize()
    depth = (size[2] if len(size) > 2 else 1) * files
    if min(size[0], size[1], depth) < 2:
        raise ScanError(
            "2d",
            f"{name} cannot be used",
            why="it is a single 2D image, and the networks here take volumes",
            todo="Choose the folder with all slices of the series"
            if is_dicom
            else "Choose a 3D scan",
        )
    if reader.GetPixelID() in _COMPLEX:
        raise ScanError(
            "complex",
            f"{name} cannot be used",
            why="its voxels are complex numbers",
            todo="Save its magnitude as a scan of its own",
        )
    found = reader.GetNumberOfComponents() * math.prod(size[3:])
    if found != channels:
        raise ScanError(
            "channels",
            f"{name} cannot be used",
            why=f"it has {found} channel{'s' if found > 1 else ''} (components or volumes) where"
            f" {channels} {'are' if channels > 1 else 'is'} expected",
            todo="Choose a scan of the kind that the model was made for"
            if channels > 1
            else "Save the one volume that is to be segmented as a scan of its own",
        )


def _ijk_to_ras_of(image: sitk.Image | sitk.ImageFileReader, name: str) -> Affine:
    dimension = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (dimension, dimension))[:3, :3]
    ijk_to_ras = ijk_to_ras_of(
        direction.ravel().tolist(), image.GetSpacing()[:3], image.GetOrigin()[:3]
    )
    if is_singular(ijk_to_ras):
        raise refusals.singular(name, "axes that do not span space")
    if is_sheared(ijk_to_ras):
        raise refusals.sheared(name)
    return ijk_to_ras


def _voxels_of(image: sitk.Image, channels: int) -> NDArray[Any]:
    """Return a view of an image's voxels, [C, K, J, I]; the image must outlive it."""
    array: NDArray[Any] = sitk.GetArrayViewFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    return array.reshape((channels, *array.shape[-3:]))


def _check_intensities(array: NDArray[Any], name: str, *, may_be_constant: bool) -> None:
    low, high = array.min(axis=(1, 2, 3)), array.max(axis=(1, 2, 3))
    if not (np.isfinite(low) & np.isfinite(high)).all():
        count = array.size - sum(int(np.isfinite(channel).sum()) for channel in array)
        raise refusals.not_finite(name, count, array.size)
    flat = np.flatnonzero(low == high)
    if flat.size and not may_be_constant:
        which = "all its voxels" if len(array) == 1 else f"all voxels of its channel {flat[0]}"
        raise ScanError(
            "constant",
            f"{name} cannot be used",
            why=f"{which} have the same intensity, {low[flat[0]]:g}",
            todo="Check how it was exported; there is nothing to see in it",
        )
