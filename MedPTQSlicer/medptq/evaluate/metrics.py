"""How alike two label maps are: Dice, normalized surface Dice, and where they disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from medptq.evaluate.pieces import centre_of, connected_pieces
from medptq.evaluate.surfaces import Mask, surface_dice
from medptq.scans.scan import LabelArray

Box: TypeAlias = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Disagreement:
    """The largest connected piece of a class's disagreement (face-connected voxels).

    Attributes:
        voxels: Its size.
        centre: Index (k, j, i) of the piece's own voxel nearest to its centre of mass, so that a
            viewer that jumps there always lands on a voxel that differs.
    """

    voxels: int
    centre: tuple[int, int, int]


@dataclass(frozen=True)
class Agreement:
    """Where two label maps of one scan, a and b, agree, voxel by voxel.

    Attributes:
        share: Share of all voxels with the same label, from 0 to 1.
        foreground_share: The same over the voxels that are foreground in a or b; None if there
            are none.
        disagreeing_voxels: Number of voxels whose labels differ.
        volumes_ml: For each class in a or b (volume in a, volume in b), in ml.
        largest: For each class that has a disagreement, its largest connected piece.
    """

    share: float
    foreground_share: float | None
    disagreeing_voxels: int
    volumes_ml: Mapping[int, tuple[float, float]]
    largest: Mapping[int, Disagreement]


def dice(a: LabelArray, b: LabelArray, labels: Iterable[int]) -> dict[int, float | None]:
    """Return the Dice similarity coefficient of each class, computed by MONAI.

    Dice, "Measures of the amount of ecologic association between species", Ecology 1945.

    Args:
        a: Label map, integers [K, J, I].
        b: Label map of the same shape.
        labels: The classes to measure; 0, the background, is none.

    Returns:
        For each class a number from 0 to 1; 0.0 if it is in one map only, None if in neither.

    Raises:
        ValueError: The shapes differ.
    """
    import torch
    from monai.metrics.meandice import compute_dice

    def measure(x: Mask, y: Mask) -> float:
        pair = (torch.from_numpy(mask.copy())[None, None] for mask in (x, y))
        return float(compute_dice(*pair, include_background=True))

    return _per_class(a, b, labels, measure)


def nsd(
    a: LabelArray,
    b: LabelArray,
    labels: Iterable[int],
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float,
) -> dict[int, float | None]:
    """Return the normalized surface Dice of each class, as MONAI defines it.

    The share of both surfaces' area that lies within ``tolerance_mm`` of the other surface.
    Surface elements are weighted with their area in mm², which matters where slices are thick.
    Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for
    radiotherapy", J Med Internet Res 2021;23(7):e26151.

    Args:
        a: Label map, integers [K, J, I].
        b: Label map of the same shape.
        labels: The classes to measure; 0, the background, is none.
        spacing_mm: Voxel size in mm along (K, J, I).
        tolerance_mm: Distance up to which surfaces count as the same.

    Returns:
        For each class a number from 0 to 1; 0.0 if it is in one map only, None if in neither.

    Raises:
        ValueError: The shapes differ.
    """

    def measure(x: Mask, y: Mask) -> float:
        if np.array_equal(x, y):
            return 1.0
        return surface_dice(x, y, spacing_mm, tolerance_mm)

    return _per_class(a, b, labels, measure)


def agreement(a: LabelArray, b: LabelArray, spacing_mm: tuple[float, float, float]) -> Agreement:
    """Compare two label maps voxel by voxel.

    Args:
        a: Label map, integers [K, J, I].
        b: Label map of the same shape.
        spacing_mm: Voxel size in mm along (K, J, I).

    Raises:
        ValueError: The shapes differ.
    """
    _check_shapes(a, b)
    differs = a != b
    disagreeing = int(np.count_nonzero(differs))
    foreground = int(np.count_nonzero((a != 0) | (b != 0)))
    millilitres = float(np.prod(spacing_mm)) / 1000
    in_a, in_b = _counts(a), _counts(b)
    classes = sorted((in_a.keys() | in_b.keys()) - {0})
    return Agreement(
        share=1 - disagreeing / a.size,
        foreground_share=1 - disagreeing / foreground if foreground else None,
        disagreeing_voxels=disagreeing,
        volumes_ml={
            label: (in_a.get(label, 0) * millilitres, in_b.get(label, 0) * millilitres)
            for label in classes
        },
        largest=_largest_disagreements(a, b, differs, classes),
    )


def _per_class(
    a: LabelArray,
    b: LabelArray,
    labels: Iterable[int],
    measure: Callable[[Mask, Mask], float],
) -> dict[int, float | None]:
    """Apply ``measure`` to each class's masks, cropped to the box around both of them."""
    _check_shapes(a, b)
    boxes_a, boxes_b = _boxes(a), _boxes(b)
    values: dict[int, float | None] = {}
    for label in labels:
        box_a, box_b = boxes_a.get(label), boxes_b.get(label)
        if box_a is None and box_b is None:
            values[label] = None
        elif box_a is None or box_b is None:
            values[label] = 0.0
        else:
            box = _union(box_a, box_b)
            values[label] = measure(a[box] == label, b[box] == label)
    return values


def _largest_disagreements(
    a: LabelArray, b: LabelArray, differs: Mask, labels: Sequence[int]
) -> dict[int, Disagreement]:
    flat = np.flatnonzero(differs)
    of_a, of_b = a.ravel()[flat], b.ravel()[flat]
    found: dict[int, Disagreement] = {}
    for label in labels:
        pieces = connected_pieces(flat[(of_a == label) | (of_b == label)], a.shape)
        if pieces:
            found[label] = Disagreement(len(pieces[0]), centre_of(pieces[0], a.shape))
    return found


def _boxes(labels: LabelArray) -> dict[int, Box]:
    """Return the bounding box of each class that is there, found in one pass."""
    from scipy import ndimage

    found = ndimage.find_objects(labels)
    return {label: box for label, box in enumerate(found, start=1) if box is not None}


def _counts(labels: LabelArray) -> dict[int, int]:
    """Return the number of voxels of each class, without an int64 copy of the whole map."""
    total = np.zeros(int(labels.max()) + 1, dtype=np.int64)
    for plane in labels:
        total += np.bincount(plane.ravel(), minlength=len(total))
    return {label: int(count) for label, count in enumerate(total) if count}


def _union(a: Box, b: Box) -> Box:
    k, j, i = (slice(min(x.start, y.start), max(x.stop, y.stop)) for x, y in zip(a, b, strict=True))
    return k, j, i


def _check_shapes(a: LabelArray, b: LabelArray) -> None:
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"label maps of one scan have one shape, not {a.shape} and {b.shape}")
