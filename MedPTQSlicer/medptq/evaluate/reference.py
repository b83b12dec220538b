"""A segmentation that somebody made, to hold others against."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medptq.errors import ScanError
from medptq.scans.reading import read_scan
from medptq.scans.scan import LabelArray, Scan


def read_reference(path: Path, scan: Scan) -> LabelArray:
    """Read a label map that lies on a scan's own grid, uint16 [K, J, I].

    Raises:
        ScanError: It cannot be read, lies elsewhere, or is no label map.
    """
    # A scan without the structure has an empty label map.
    reference = read_scan(path, may_be_constant=True)
    close = np.allclose(reference.ijk_to_ras, scan.ijk_to_ras, atol=1e-3)
    if reference.shape != scan.shape or not close:
        raise ScanError(
            "reference",
            "The reference labels cannot be used",
            why=f"those of {path.name} do not lie on the scan's own grid",
            todo="Resample them to the scan with nearest-neighbour interpolation",
        )
    labels = np.rint(reference.array[0])
    largest = np.iinfo(np.uint16).max
    if not 0 <= labels.min() <= labels.max() <= largest or (labels != reference.array[0]).any():
        raise ScanError(
            "reference",
            "The reference labels cannot be used",
            why=f"those of {path.name} are not whole numbers from 0 to {largest}",
            todo="Give a label map, not an image or a probability map",
        )
    found: LabelArray = labels.astype(np.uint16)
    return found
