"""Between ITK's way of describing where an image lies and the 4x4 matrix used here.

ITK: origin, spacing and direction cosines in LPS (left, posterior, superior). Here, as in NIfTI
and 3D Slicer: one matrix from voxel indices (i, j, k, 1) to RAS (right, anterior, superior) in mm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medptq.scans.scan import Affine

# Cosine of the angle between two axes that is still taken for rounding (0.06 degrees off square).
SHEAR_TOLERANCE = 1e-3

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ijk_to_ras_of(
    direction: Sequence[float], spacing: Sequence[float], origin: Sequence[float]
) -> Affine:
    """Return the IJK-to-RAS matrix of ITK's geometry.

    Args:
        direction: Direction cosines, row by row, 9 numbers; column n is the axis n in LPS.
        spacing: Voxel size along I, J, K, in mm.
        origin: LPS position of the centre of voxel (0, 0, 0), in mm.
    """
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = np.reshape(direction, (3, 3)) * np.asarray(spacing, dtype=float)
    ijk_to_lps[:3, 3] = origin
    return _LPS_TO_RAS @ ijk_to_lps


def itk_geometry_of(
    ijk_to_ras: Affine,
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return ITK's direction (9 numbers), spacing and origin of an IJK-to-RAS matrix."""
    ijk_to_lps = _LPS_TO_RAS @ ijk_to_ras
    spacing = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    direction = ijk_to_lps[:3, :3] / spacing
    return (
        tuple(direction.ravel().tolist()),
        tuple(spacing.tolist()),
        tuple(ijk_to_lps[:3, 3].tolist()),
    )


def is_singular(matrix: Affine) -> bool:
    """Tell whether the axes of an affine matrix do not span space (or are not numbers)."""
    if not np.isfinite(matrix).all():
        return True
    sizes = np.linalg.norm(matrix[:3, :3], axis=0)
    if (sizes <= 0).any():
        return True
    return bool(abs(np.linalg.det(matrix[:3, :3] / sizes)) < SHEAR_TOLERANCE)


def is_sheared(matrix: Affine) -> bool:
    """Tell whether the axes of a regular affine matrix are not at right angles."""
    cosines = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    return bool(np.abs(cosines.T @ cosines - np.eye(3)).max() > SHEAR_TOLERANCE)


def closest_axes(ijk_to_ras: Affine) -> tuple[tuple[int, int], ...]:
    """Return the patient axis that each image axis runs along most nearly.

    The same choice as ``nibabel.io_orientation``: image axes are given their patient axis in the
    order of how clearly they have one.

    Returns:
        For I, J and K: (0, 1 or 2 for right, anterior, superior; +1 or -1 for the way it runs).
    """
    # The nearest matrix without shear, so that rounding in the header cannot decide.
    left, _, right = np.linalg.svd(
        ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0), full_matrices=False
    )
    rotation = left @ right
    found = [(0, 0)] * 3
    for axis in np.argsort(-(rotation**2).max(axis=0), kind="stable"):
        patient = int(np.argmax(np.abs(rotation[:, axis])))
        found[axis] = (patient, 1 if rotation[patient, axis] > 0 else -1)
        rotation[patient, :] = 0.0
    return tuple(found)
