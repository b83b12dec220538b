"""Where ``monai.transforms.Spacing`` places its voxels.

It looks for a corner of the scan from which all of it lies ahead along the new axes, and starts
there, with a voxel's centre on a voxel's centre. If there is none, it takes the middle for fixed;
and there is none where the scan is oblique and the numbers in its header are rounded, as their
axes are not quite at right angles then. So the rounding decides by how much of a voxel the two
grids are apart (``monai.data.utils.compute_shape_offset`` and ``zoom_affine``, MONAI 1.5).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def monai_placement(
    axes: NDArray[np.float64], shape: Sequence[int], spacing: Sequence[float]
) -> tuple[list[float], list[int]]:
    """Return where the first of the new voxels lie, and how many there are.

    Args:
        axes: Steps in mm from voxel to voxel along D, H and W; the columns of [3, 3].
        shape: Voxels along D, H and W.
        spacing: New voxel size in mm along D, H and W.

    Returns:
        Old index of the first new voxel along D, H and W; and the new voxels along them.
    """
    triangle = np.linalg.cholesky(axes.T @ axes).T
    rotation = axes @ np.linalg.inv(triangle)
    to_new = np.linalg.solve(rotation @ np.diag(np.asarray(spacing, dtype=float)), axes)
    ends = [(0.0, length - 1.0) for length in shape]
    corners = to_new @ np.array(list(itertools.product(*ends))).T
    size = [max(1, int(length)) for length in np.round(np.ptp(corners, axis=1) + 1.0)]
    if np.allclose(corners.min(axis=1) - corners[:, 0], 0.0):
        return [0.0, 0.0, 0.0], size
    steps = 1 / np.diag(to_new)
    firsts = [
        0.5 * old - 0.5 * step * new for old, step, new in zip(shape, steps, size, strict=True)
    ]
    return firsts, size
