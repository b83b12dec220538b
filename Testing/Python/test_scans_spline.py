from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medptq.scans.grid import Grid
from medptq.scans.scan import Scan
from medptq.scans.spline import separate_axis, stretch

lengths = st.tuples(*[st.integers(1, 14)] * 3)


def volume(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).normal(100, 40, (2, *shape)).astype(np.float32)


@settings(max_examples=40)
@given(lengths, lengths)
def test_stretched_as_scipy_and_scikit_image_do(shape, size):
    array = volume(shape)
    for found, before in zip(stretch(array, size, None), array, strict=True):
        expected = ndimage.zoom(
            before.astype(float),
            np.divide(size, shape),
            order=3,
            mode="nearest",
            grid_mode=True,
        )
        np.testing.assert_allclose(
            found, np.clip(expected, before.min(), before.max()), rtol=2e-5, atol=2e-4
        )


@settings(max_examples=40)
@given(lengths, lengths, st.integers(0, 2))
def test_planes_are_stretched_and_the_nearest_is_taken(shape, size, axis):
    array = volume(shape)
    flat = list(shape)
    for n in set(range(3)) - {axis}:
        flat[n] = size[n]
    # Each plane by itself, as its intensities limit it.
    planes = [stretch(part, (*flat[:axis], 1, *flat[axis + 1 :]), None)
              for part in np.split(array, shape[axis], axis=1 + axis)]  # fmt: skip
    places = shape[axis] / size[axis] * (np.arange(size[axis]) + 0.5) - 0.5
    nearest = ndimage.map_coordinates(
        np.arange(shape[axis], dtype=float), [places], order=0, mode="nearest"
    )
    expected = np.concatenate([planes[int(n)] for n in nearest], axis=1 + axis)
    np.testing.assert_allclose(stretch(array, size, axis), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("spacing", "new_spacing", "axis"),
    [
        ((1, 1, 1), (3, 1, 1), None),  # three times is not more than three times
        ((1, 1, 1), (1, 3.1, 1), 1),
        ((1, 1, 5), (1, 3.1, 1), 2),  # the scan's voxels come first
        ((5, 5, 1), (1, 3.1, 1), None),  # two long axes
        ((0.24, 1.25, 1.2500001), (1, 1, 1), None),  # likewise, but for rounding
    ],
)
def test_which_axis_is_separate(spacing, new_spacing, axis):
    assert separate_axis(spacing, new_spacing) == axis


def test_the_whole_field_is_stretched_to_whole_voxels():
    scan = Scan(volume((10, 9, 8))[:1], np.diag([1.0, 1.0, 5.0, 1.0]), "scan")
    grid = Grid(scan, "KJI")
    grid.respace_as_nnunet((4.0, 0.7, 1.0), separate=True)
    assert grid.size == (12, 13, 8)
    assert [axis.nearest for axis in grid.axes] == [True, False, False]
    for axis, length in zip(grid.axes, scan.shape, strict=True):
        edges = [axis.offset + axis.scale * place for place in (-0.5, axis.length - 0.5)]
        np.testing.assert_allclose(edges, [-0.5, length - 0.5])


def test_what_keeps_its_size_is_left_alone():
    scan = Scan(volume((10, 9, 8))[:1], np.diag([1.0, 1.0, 5.0, 1.0]), "scan")
    grid = Grid(scan, "KJI")
    grid.respace_as_nnunet((5.01, 1.0, 1.01), separate=True)
    assert np.shares_memory(grid.array, scan.array)
    assert not any(axis.nearest for axis in grid.axes)
