from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medptq.inference.restoring import restore
from medptq.inference.sliding import Slab
from medptq.scans.prepared import AxisMap, PreparedScan


def prepared_on(
    axes: tuple[AxisMap, AxisMap, AxisMap], scan_shape: tuple[int, int, int]
) -> PreparedScan:
    lengths = [axis.length for axis in axes]
    return PreparedScan(np.zeros((1, *lengths), np.float32), axes, scan_shape)


def slabs_of(outputs: np.ndarray, axis: int, cuts: list[int]) -> list[Slab]:
    values = torch.from_numpy(outputs)
    edges = sorted({0, outputs.shape[1 + axis], *(c for c in cuts if c < outputs.shape[1 + axis])})
    return [
        Slab(axis, start, values.narrow(1 + axis, start, stop - start).clone())
        for start, stop in itertools.pairwise(edges)
    ]


def spoiled(slabs: list[Slab]):
    """Hand slabs on as sliding_window does: each is gone once the next is asked for."""
    for slab in slabs:
        yield slab
        slab.values.fill_(torch.nan)


def brute_force(outputs: np.ndarray, prepared: PreparedScan) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate all outputs at all scan voxels.

    Returns:
        Labels [K, J, I] and how far the best output is above the second best.
    """
    grid = np.indices(prepared.scan_shape).astype(np.float64)
    places, inside = [], np.ones(prepared.scan_shape, bool)
    for axis in prepared.axes:
        place = (grid[axis.scan_axis] - axis.offset) / axis.scale
        inside &= (place >= -0.5 - 1e-9) & (place <= axis.length - 0.5 + 1e-9)
        places.append(place)
    values = np.stack(
        [
            ndimage.map_coordinates(channel.astype(np.float64), places, order=1, mode="nearest")
            for channel in outputs
        ]
    )
    ranked = np.sort(values, axis=0)
    return np.where(inside, values.argmax(0), 0), ranked[-1] - ranked[-2]


@st.composite
def grids(draw: st.DrawFn, scales: st.SearchStrategy[float], whole: bool) -> PreparedScan:
    scan_shape = tuple(draw(st.integers(1, 14)) for _ in range(3))
    order = draw(st.permutations([0, 1, 2]))
    axes = []
    for scan_axis in order:
        scale = draw(scales) * draw(st.sampled_from([1, -1]))
        length = draw(st.integers(1, 14))
        if whole:
            offset = float(draw(st.integers(-4, 16)))
        else:
            offset = draw(st.floats(-3, 15).map(lambda number: round(number, 3)))
        axes.append(AxisMap(scan_axis, float(scale), offset, length))
    return prepared_on(tuple(axes), scan_shape)


def check(prepared, classes, axis, cuts, seed):
    generator = np.random.default_rng(seed)
    lengths = [a.length for a in prepared.axes]
    outputs = generator.normal(size=(classes, *lengths)).astype(np.float32)
    # Much background, so that the box around the foreground matters.
    outputs[0] += 2 * (ndimage.uniform_filter(generator.normal(size=lengths), 3) > 0)
    expected, margin = brute_force(outputs, prepared)
    found = restore(spoiled(slabs_of(outputs, axis, cuts)), prepared, classes)
    assert found.shape == prepared.scan_shape
    assert found.dtype == np.uint8
    differs = (found != expected) & (margin > 1e-4)
    assert not differs.any()


@settings(max_examples=150)
@given(
    grids(st.just(1.0), whole=True),
    st.integers(2, 4),
    st.integers(0, 2),
    st.lists(st.integers(1, 13), max_size=4),
    st.integers(0, 99),
)
def test_on_the_scans_grid_as_brute_force(prepared, classes, axis, cuts, seed):
    check(prepared, classes, axis, cuts, seed)


@settings(max_examples=250)
@given(
    grids(st.sampled_from([1.0, 0.3, 0.5, 0.77, 1.5, 2.0, 3.3]), whole=False),
    st.integers(2, 4),
    st.integers(0, 2),
    st.lists(st.integers(1, 13), max_size=4),
    st.integers(0, 99),
)
def test_resampled_as_brute_force(prepared, classes, axis, cuts, seed):
    check(prepared, classes, axis, cuts, seed)


def test_the_fields_edge_is_where_the_outermost_voxels_end():
    # Four network voxels, each two scan voxels wide, over scan voxels 2 to 9 of 12.
    axes = (AxisMap(0, 2.0, 2.5, 4), AxisMap(1, 1.0, 0.0, 1), AxisMap(2, 1.0, 0.0, 1))
    outputs = np.zeros((2, 4, 1, 1), np.float32)
    outputs[1] = 1
    labels = restore(slabs_of(outputs, 0, []), prepared_on(axes, (12, 1, 1)), 2)
    assert labels.ravel().tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize(
    ("classes", "dtype"), [(255, np.uint8), (256, np.uint8), (257, np.uint16), (300, np.uint16)]
)
def test_more_than_256_classes_need_two_bytes(classes, dtype, scale):
    axes = tuple(AxisMap(axis, scale, 0.0, 2) for axis in range(3))
    outputs = np.zeros((classes, 2, 2, 2), np.float32)
    outputs[classes - 1] = 1
    outputs[classes - 2, 0] = 2
    labels = restore(slabs_of(outputs, 0, []), prepared_on(axes, (2, 2, 2)), classes)
    assert labels.dtype == dtype
    assert (labels[0] == classes - 2).all()
    assert (labels[1] == classes - (2 if scale == 2 else 1)).all()


def test_equal_outputs_give_the_first_class():
    axes = tuple(AxisMap(axis, 1.0, 0.0, 2) for axis in range(3))
    for classes in (2, 3):
        outputs = np.ones((classes, 2, 2, 2), np.float32)
        assert not restore(slabs_of(outputs, 1, [1]), prepared_on(axes, (2, 2, 2)), classes).any()
