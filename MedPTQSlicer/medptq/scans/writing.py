"""Writing label maps on the grid of the scan that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medptq.artifacts import atomic_file
from medptq.errors import OutputError
from medptq.scans.geometry import itk_geometry_of
from medptq.scans.quiet import quiet
from medptq.scans.scan import Scan
from medptq.scans.sources import suffix_of

# MetaImage's and NRRD's detached headers are two files each, which cannot appear at once.
_WRITERS = {
    ".nii.gz": "NiftiImageIO",
    ".nii": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".mha": "MetaImageIO",
}
LABEL_MAP_SUFFIXES = tuple(_WRITERS)
_COMPRESSED = (".nii.gz", ".mha")


def write_label_map(
    labels: NDArray[np.integer[Any]], scan: Scan, path: Path, *, overwrite: bool = False
) -> None:
    """Write a label map in the smallest unsigned type that holds its labels.

    Args:
        labels: Label of every voxel of the scan, [K, J, I], 0 or more.
        scan: The scan, whose geometry the file takes over. NIfTI keeps it in single precision.
        path: Where to write it; the suffix decides the format: ``.nii.gz`` and ``.mha`` are
            compressed, ``.nrrd`` and ``.nii`` are not: they are written and read several times
            as fast, for programs that read them at once.
        overwrite: Whether to replace a file that is there already.

    Raises:
        OutputError: The suffix is not known (``format``), the file exists (``exists``) or cannot
            be written (``unwritable``).
        ValueError: The labels are not on the scan's grid, or some are negative.
    """
    suffix = suffix_of(path).lower()
    writer_name = _WRITERS.get(suffix)
    if writer_name is None:
        raise OutputError(
            "format",
            f"{path.name} was not written",
            why=f"label maps are not written in the format {suffix_of(path) or 'of no suffix'}",
            todo=f"Choose a name that ends in {', '.join(LABEL_MAP_SUFFIXES)}",
        )
    if labels.shape != scan.shape:
        raise ValueError(f"labels of shape {labels.shape} for a scan of shape {scan.shape}")
    if labels.size and labels.min() < 0:
        raise ValueError(f"negative label {labels.min()}")
    image = sitk.GetImageFromArray(labels.astype(np.min_scalar_type(labels.max()), copy=False))
    direction, spacing, origin = itk_geometry_of(scan.ijk_to_ras)
    image.SetDirection(direction)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO(writer_name)
    writer.SetUseCompression(suffix in _COMPRESSED)
    with atomic_file(path, overwrite=overwrite) as part, quiet():
        writer.SetFileName(str(part))
        try:
            writer.Execute(image)
        except RuntimeError as error:
            raise OutputError(
                "unwritable",
                f"{path} could not be written",
                why="the disk is full, or the folder may not be written to",
                todo="Free some space, or choose another folder",
            ) from error
