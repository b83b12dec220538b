"""Dice, NSD and agreement against plain definitions and against MONAI."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics.surface_dice import compute_surface_dice
from scipy import ndimage

from medptq.evaluate.metrics import agreement, dice, nsd
from medptq.evaluate.surfaces import surface_of

CLASSES = (1, 2, 3)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7))
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    values = st.integers(0, 3)
    a, b = (draw(hnp.arrays(dtype, shape, elements=values, fill=st.just(0))) for _ in "ab")
    return a, b


spacings = st.tuples(*[st.sampled_from([0.5, 0.795, 1.0, 2.0, 5.0])] * 3)


def ball(shape: tuple[int, int, int], radius: float, shift: float = 0.0) -> np.ndarray:
    k, j, i = np.indices(shape)
    centre = [(length - 1) / 2 for length in shape]
    distance = (k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2] - shift) ** 2
    return (distance <= radius**2).astype(np.uint8)


@given(pairs())
def test_dice_is_twice_the_overlap_over_the_sum(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    for label, value in dice(a, b, CLASSES).items():
        total = int((a == label).sum() + (b == label).sum())
        if total == 0:
            assert value is None
        else:
            both = int(((a == label) & (b == label)).sum())
            assert value == pytest.approx(2 * both / total, abs=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@settings(max_examples=60)
@given(pairs(), spacings, st.sampled_from([0.0, 0.3, 1.0, 1.7, 4.0]))
def test_nsd_is_that_of_monai(
    pair: tuple[np.ndarray, np.ndarray],
    spacing: tuple[float, float, float],
    tolerance: float,
) -> None:
    a, b = pair
    for label, value in nsd(a, b, CLASSES, spacing, tolerance).items():
        x, y = (torch.from_numpy(labels == label)[None, None] for labels in (a, b))
        if not (x.any() and y.any()):
            assert value == (0.0 if x.any() or y.any() else None)
            continue
        expected = compute_surface_dice(
            x, y, [tolerance], include_background=True, spacing=spacing, use_subvoxels=True
        )
        # Rounding decides in MONAI whether a distance of exactly the tolerance is within it.
        wider = compute_surface_dice(
            x, y, [tolerance + 1e-5], include_background=True, spacing=spacing, use_subvoxels=True
        )
        assert value == pytest.approx(float(expected), abs=1e-5) or value == pytest.approx(
            float(wider), abs=1e-5
        )


@settings(max_examples=40)
@given(pairs(), spacings)
def test_nsd_is_symmetric_bounded_and_grows_with_the_tolerance(
    pair: tuple[np.ndarray, np.ndarray], spacing: tuple[float, float, float]
) -> None:
    a, b = pair
    values = [nsd(a, b, [1], spacing, tolerance)[1] for tolerance in (0.0, 0.8, 2.0, 100.0)]
    assert nsd(b, a, [1], spacing, 0.8)[1] == pytest.approx(values[1])
    if values[0] is not None:
        assert all(0 <= value <= 1 + 1e-12 for value in values)
        assert values == sorted(values)
        assert values[-1] == pytest.approx(1.0 if (a == 1).any() and (b == 1).any() else 0.0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.8, 0.8), (1.0, 2.5, 0.5)])
def test_a_cube_has_its_area_whatever_the_voxels(spacing: tuple[float, float, float]) -> None:
    shape = [round(60 / mm) for mm in spacing]
    box = np.zeros(shape, dtype=bool)
    box[tuple(slice(round(10 / mm), round(50 / mm)) for mm in spacing)] = True
    assert surface_of(box, spacing).areas.sum() == pytest.approx(6 * 40 * 40, rel=0.06)


def test_nsd_counts_a_shift_of_exactly_the_tolerance_as_near() -> None:
    spacing = (0.795, 0.795, 0.795)
    a, b = ball((20, 20, 20), 6), ball((20, 20, 20), 6, shift=1)
    assert nsd(a, b, [1], spacing, 0.795)[1] == pytest.approx(1.0)
    assert nsd(a, b, [1], spacing, 0.3)[1] < 0.9


def test_a_class_at_the_border_of_the_volume_is_measured_whole() -> None:
    a = np.ones((4, 4, 4), dtype=np.uint8)
    b = a.copy()
    b[0] = 0
    assert dice(a, b, [1])[1] == pytest.approx(2 * 48 / 112)
    assert nsd(a, b, [1], (1.0, 1.0, 1.0), 0.5)[1] < 1
    assert nsd(a, b, [1], (1.0, 1.0, 1.0), 1.0)[1] == pytest.approx(1.0)


@given(pairs(), spacings)
def test_agreement_counts_voxels(
    pair: tuple[np.ndarray, np.ndarray], spacing: tuple[float, float, float]
) -> None:
    a, b = pair
    result = agreement(a, b, spacing)
    differs = a != b
    foreground = (a > 0) | (b > 0)
    assert result.disagreeing_voxels == differs.sum()
    assert result.share == pytest.approx((a == b).mean())
    if foreground.any():
        assert result.foreground_share == pytest.approx((a == b)[foreground].mean())
    else:
        assert result.foreground_share is None
    for label in CLASSES:
        expected = [(labels == label).sum() * np.prod(spacing) / 1000 for labels in (a, b)]
        if any(expected):
            assert result.volumes_ml[label] == pytest.approx(tuple(expected))
        else:
            assert label not in result.volumes_ml


@given(pairs())
def test_the_largest_disagreement_is_the_largest_and_its_centre_is_in_it(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    a, b = pair
    largest = agreement(a, b, (1.0, 1.0, 1.0)).largest
    for label in CLASSES:
        mask = (a == label) != (b == label)
        if not mask.any():
            assert label not in largest
            continue
        pieces, count = ndimage.label(mask)
        sizes = ndimage.sum_labels(mask, pieces, range(1, count + 1))
        assert largest[label].voxels == sizes.max()
        at = pieces[largest[label].centre]
        assert at > 0
        assert sizes[at - 1] == sizes.max()


def test_maps_of_different_scans_are_refused() -> None:
    a, b = np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3, 4), np.uint8)
    for measure in (
        lambda: dice(a, b, [1]),
        lambda: nsd(a, b, [1], (1.0, 1.0, 1.0), 1.0),
        lambda: agreement(a, b, (1.0, 1.0, 1.0)),
    ):
        with pytest.raises(ValueError, match="one shape"):
            measure()
