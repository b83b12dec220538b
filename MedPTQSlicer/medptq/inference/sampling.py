"""Where a scan's voxels lie among the network's, axis by axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medptq.models.segmentation_model import Interpolated
from medptq.scans.prepared import AxisMap

# Network voxels that are off a scan voxel by less than this share of it are on it.
_ON_GRID = 1e-3


@dataclass(frozen=True)
class Samples:
    """The scan's voxels along one axis of the network that lie in its field.

    Attributes:
        place: Where they lie along the scan's axis.
        lower: Network index below each of them, int64.
        upper: Network index above each of them, int64.
        fraction: How far each is from ``lower`` to ``upper``, from 0 to 1, float32.
    """

    place: slice
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    fraction: NDArray[np.float32]

    def within(self, cells: NDArray[np.bool_]) -> slice:
        """Return the samples from the first to the last that lie in one of these cells."""
        inside = np.flatnonzero(cells[self.lower])
        return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


def samples_of(axis: AxisMap, scan_length: int, interpolated: Interpolated) -> Samples:
    """Return where the scan's voxels along an axis lie.

    Args:
        axis: How the network's axis lies along the scan's.
        scan_length: Voxels of the scan along it.
        interpolated: What is interpolated between the network's voxels; with ``"labels"``, each
            sample is on one of them.
    """
    places = (np.arange(scan_length) - axis.offset) / axis.scale
    edge = 1 - 1e-6 if interpolated == "probabilities" else 0.5 + 1e-6
    inside = np.flatnonzero((places >= -edge) & (places <= axis.length - 1 + edge))
    places = np.clip(places[inside], 0, axis.length - 1)
    if interpolated == "labels":
        places = np.rint(places)
    elif axis.nearest:
        # Halfway between two voxels the upper one, as SciPy takes it.
        places = np.minimum(np.floor(places + 0.5 + 1e-9), axis.length - 1)
    lower = np.clip(np.floor(places).astype(np.int64), 0, max(axis.length - 2, 0))
    first = int(inside[0]) if len(inside) else 0
    return Samples(
        place=slice(first, first + len(inside)),
        lower=lower,
        upper=np.minimum(lower + 1, axis.length - 1),
        fraction=(places - lower).astype(np.float32),
    )


def is_on_grid(axis: AxisMap) -> bool:
    """Tell whether the network's voxels along an axis are the scan's."""
    stretch = abs(abs(axis.scale) - 1) * axis.length
    return stretch < _ON_GRID and abs(axis.offset - round(axis.offset)) < _ON_GRID
