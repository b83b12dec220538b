"""Axial, coronal and sagittal planes of a volume, as a radiologist looks at them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medptq.scans.scan import Affine

AXIAL, CORONAL, SAGITTAL = "axial", "coronal", "sagittal"
Name: TypeAlias = Literal["axial", "coronal", "sagittal"]
Box: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

_R, _A, _S = 0, 1, 2
_MARGIN_MM = 15.0


@dataclass(frozen=True)
class Plane:
    """How one of the three planes is shown: the patient's right is on the viewer's left.

    Attributes:
        name: What it is called.
        normal: The axis of the volume (0 R, 1 A, 2 S) that runs through the plane.
        down: The axis that runs up the picture; rows go against it.
        across: The axis that runs to the left of the picture; columns go against it.
        edges: What lies at the picture's left, right, top and bottom.
        towards: What the normal axis points to and away from.
    """

    name: Name
    normal: int
    down: int
    across: int
    edges: tuple[str, str, str, str]
    towards: tuple[str, str]


PLANES = (
    Plane("axial", _S, _A, _R, ("R", "L", "A", "P"), ("S", "I")),
    Plane("coronal", _A, _S, _R, ("R", "L", "S", "I"), ("A", "P")),
    Plane("sagittal", _R, _S, _A, ("A", "P", "S", "I"), ("R", "L")),
)


@dataclass(frozen=True)
class Orientation:
    """How a volume's axes [K, J, I] lie along right, anterior and superior, as close as may be.

    Attributes:
        order: The volume's axes (0 K, 1 J, 2 I) that run along R, A and S.
        flipped: Whether each of them runs the other way.
        spacing: Voxel size in mm along R, A and S.
    """

    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    spacing: tuple[float, float, float]

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of ``array`` [K, J, I] with axes [R, A, S], each increasing that way."""
        steps = tuple(slice(None, None, -1 if flip else None) for flip in self.flipped)
        return array.transpose(self.order)[steps]


def orientation_of(ijk_to_ras: Affine) -> Orientation:
    """Return the orientation closest to the scan's; an oblique scan is not resampled."""
    columns = ijk_to_ras[:3, 2::-1]  # of K, J, I
    spacing = np.linalg.norm(columns, axis=0)
    cosines = columns / spacing

    def closeness(order: tuple[int, ...]) -> float:
        return float(sum(abs(cosines[world, axis]) for world, axis in enumerate(order)))

    r, a, s = max(permutations(range(3)), key=closeness)
    return Orientation(
        order=(r, a, s),
        flipped=(bool(cosines[_R, r] < 0), bool(cosines[_A, a] < 0), bool(cosines[_S, s] < 0)),
        spacing=(float(spacing[r]), float(spacing[a]), float(spacing[s])),
    )


def cut(volume: NDArray[Any], plane: Plane, index: int, field: Box) -> NDArray[Any]:
    """Return one plane of a volume, as it is shown.

    Args:
        volume: [R, A, S], each axis increasing that way.
        plane: Which plane.
        index: Where along ``plane.normal``.
        field: First and last-but-one index to show along R, A and S.

    Returns:
        [rows, columns]: the first row is the picture's top, the first column its left.
    """
    where: list[Any] = [slice(lo, hi) for lo, hi in field]
    where[plane.normal] = index
    picture = volume[tuple(where)]
    if plane.down > plane.across:
        picture = picture.T
    shown: NDArray[Any] = picture[::-1, ::-1]
    return shown


def busiest(foreground: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return, along R, A and S, the index of the plane with the largest foreground area.

    Where several are equal it is the middle one of them; without foreground, of the volume.

    Args:
        foreground: [R, A, S].
    """

    def middle_of_best(axis: int) -> int:
        others = tuple(other for other in range(3) if other != axis)
        area = foreground.sum(axis=others)
        best = np.flatnonzero(area == area.max())
        return int(best[len(best) // 2])

    return middle_of_best(_R), middle_of_best(_A), middle_of_best(_S)


def field_around(foreground: NDArray[np.bool_], spacing: tuple[float, float, float]) -> Box:
    """Return the part of the volume to show: the foreground, with enough around it to know where.

    That is a margin of 15 mm, and not less than half of the volume along each axis, so that a
    small structure is shown larger but never out of its surroundings.

    Args:
        foreground: [R, A, S].
        spacing: Voxel size in mm along R, A and S.
    """

    def along(axis: int) -> tuple[int, int]:
        others = tuple(other for other in range(3) if other != axis)
        length = foreground.shape[axis]
        inside = np.flatnonzero(foreground.any(axis=others))
        if not len(inside):
            return 0, length
        margin = round(_MARGIN_MM / spacing[axis])
        lo, hi = int(inside[0]) - margin, int(inside[-1]) + 1 + margin
        missing = max((length + 1) // 2 - (hi - lo), 0)
        lo, hi = lo - missing // 2, hi + missing - missing // 2
        shift = max(-lo, 0) - max(hi - length, 0) if hi - lo <= length else 0
        return max(lo + shift, 0), min(hi + shift, length)

    return along(_R), along(_A), along(_S)


def position_mm(ijk_to_ras: Affine, shape: tuple[int, int, int], plane: Plane, index: int) -> float:
    """Return where a plane lies along its normal, in patient coordinates (mm), at its centre.

    Args:
        ijk_to_ras: Of the scan.
        shape: Voxels along (K, J, I).
        plane: Which plane.
        index: Its index along the oriented volume's axis ``plane.normal``.
    """
    orientation = orientation_of(ijk_to_ras)
    axis, flip = orientation.order[plane.normal], orientation.flipped[plane.normal]
    kji = [(length - 1) / 2 for length in shape]
    kji[axis] = shape[axis] - 1 - index if flip else index
    return float((ijk_to_ras @ [*kji[::-1], 1.0])[plane.normal])
