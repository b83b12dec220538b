"""Scans whose preprocessing shows where every voxel has gone."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates

from medptq.scans.prepared import AxisMap, Located, PreparedScan
from medptq.scans.scan import Scan

SPACING_IJK = np.array([0.8, 1.5, 2.5])


def make_scan(linear: np.ndarray | None = None, shape=(7, 6, 5), channels: int = 1) -> Scan:
    """A scan [C, K, J, I] of noise, with its axes along the columns of ``linear``."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if linear is None else linear) * SPACING_IJK
    matrix[:3, 3] = [-30, 40, 12]
    noise = np.random.default_rng(0).random((channels, *shape), dtype=np.float32)
    return Scan(noise, matrix, "scan")


def ramp(shape=(24, 20, 16), linear: np.ndarray | None = None) -> Scan:
    """A scan whose intensity is ``k + 0.7 j - 0.4 i``, which linear interpolation keeps."""
    k, j, i = np.indices(shape, dtype=np.float32)
    return Scan((k + 0.7 * j - 0.4 * i)[np.newaxis], make_scan(linear).ijk_to_ras, "ramp")


def scan_indices(prepared: PreparedScan) -> np.ndarray:
    """Scan index (k, j, i) of every network voxel, [3, D, H, W]."""
    grid = np.indices(prepared.array.shape[1:]).astype(float)
    indices = np.empty_like(grid)
    for n, axis in enumerate(prepared.axes):
        indices[axis.scan_axis] = axis.offset + axis.scale * grid[n]
        assert axis.length == prepared.array.shape[1 + n]
    return indices


def assert_voxels_are_where_the_map_says(prepared: PreparedScan, scan: Scan) -> None:
    expected = map_coordinates(scan.array[0], scan_indices(prepared), order=1, mode="nearest")
    np.testing.assert_allclose(prepared.array[0], expected, atol=1e-4)


def on_the_scans_grid(labels: np.ndarray) -> Located:
    k, j, i = (AxisMap(n, 1.0, 0.0, length) for n, length in enumerate(labels.shape))
    return Located(labels, (k, j, i), 0.0)
