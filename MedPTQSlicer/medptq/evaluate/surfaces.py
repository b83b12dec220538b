"""Surfaces of masks, and how much of two surfaces lies close to one another."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Surface:
    """The surface of a mask, as pieces between the centres of 2x2x2 neighbouring voxels.

    Attributes:
        positions: Of each piece, in mm [n, 3].
        areas: Of each piece, in mm² [n].
        cells: Which 2x2x2 neighbourhood each piece is in; increasing [n].
    """

    positions: NDArray[np.float64]
    areas: NDArray[np.float64]
    cells: NDArray[np.int64]


def surface_dice(
    a: Mask, b: Mask, spacing_mm: tuple[float, float, float], tolerance_mm: float
) -> float:
    """Return the share of both surfaces' area that is within a tolerance of the other surface.

    The definition, and the table of areas, are those of MONAI's ``compute_surface_dice`` with
    ``use_subvoxels=True``. MONAI's own holds several floats for every voxel of the volume, which
    for a whole body is more than many machines have; here only the surface is ever held.

    Args:
        a: Mask [K, J, I], not empty.
        b: Mask of the same shape, not empty.
        spacing_mm: Voxel size in mm along (K, J, I).
        tolerance_mm: Distance up to which surfaces count as the same.
    """
    surface_a, surface_b = surface_of(a, spacing_mm), surface_of(b, spacing_mm)
    near = _near_area(surface_a, surface_b, tolerance_mm)
    near += _near_area(surface_b, surface_a, tolerance_mm)
    return float(near / (surface_a.areas.sum() + surface_b.areas.sum()))


def surface_of(mask: Mask, spacing_mm: tuple[float, float, float]) -> Surface:
    """Return the surface of a mask [K, J, I]; the volume's own border bounds it too."""
    from monai.metrics.utils import get_code_to_measure_table

    table, kernel = get_code_to_measure_table(spacing_mm)
    weights = kernel.numpy().reshape(2, 2, 2)
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([length - 1 for length in padded.shape], dtype=np.uint8)
    for offset in product(range(2), repeat=3):
        window = tuple(
            slice(start, start + length) for start, length in zip(offset, codes.shape, strict=True)
        )
        codes += padded[window] * np.uint8(weights[offset])
    cells = np.flatnonzero((codes != 0) & (codes != 255))
    indices = np.stack(np.unravel_index(cells, codes.shape), axis=1)
    areas = table.numpy().astype(np.float64)[codes.ravel()[cells]]
    return Surface(positions=indices * np.array(spacing_mm), areas=areas, cells=cells)


def _near_area(surface: Surface, other: Surface, tolerance_mm: float) -> float:
    """Return the area of the pieces of ``surface`` that are near ``other``."""
    from scipy.spatial import cKDTree

    near = np.isin(surface.cells, other.cells, assume_unique=True)
    apart = np.flatnonzero(~near)
    # A distance of exactly the tolerance is within it, whatever rounding made of it.
    reach = tolerance_mm * (1 + 1e-6)
    distances, _ = cKDTree(other.positions, balanced_tree=False).query(
        surface.positions[apart], distance_upper_bound=np.nextafter(reach, np.inf)
    )
    near[apart] = distances <= reach
    return float(surface.areas[near].sum())
