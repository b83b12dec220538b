"""The GPU's way to the label map, here on the CPU, against the CPU's way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medptq.inference import restoring_on_gpu
from medptq.inference.restoring import restore
from medptq.inference.restoring_on_gpu import restore_on_gpu
from medptq.inference.sliding import Slab
from medptq.scans.prepared import AxisMap, PreparedScan

CPU = torch.device("cpu")


def slabs_of(outputs: np.ndarray, axis: int, cuts: list[int]):
    """Hand slabs on as sliding_window does: each is gone once the next is asked for."""
    values = torch.from_numpy(outputs)
    length = outputs.shape[1 + axis]
    edges = sorted({0, length, *(cut for cut in cuts if cut < length)})
    for start, stop in itertools.pairwise(edges):
        slab = Slab(axis, start, values.narrow(1 + axis, start, stop - start).clone())
        yield slab
        slab.values.fill_(torch.nan)


@st.composite
def grids(draw: st.DrawFn) -> PreparedScan:
    scan_shape = tuple(draw(st.integers(1, 14)) for _ in range(3))
    on_grid = draw(st.booleans())
    axes = []
    for scan_axis in draw(st.permutations([0, 1, 2])):
        scale = 1.0 if on_grid else draw(st.sampled_from([1.0, 0.3, 0.5, 0.77, 1.5, 2.0, 3.3]))
        scale *= draw(st.sampled_from([1, -1]))
        offset = float(draw(st.integers(-4, 16)))
        if not on_grid:
            offset = draw(st.floats(-3, 15).map(lambda number: round(number, 3)))
        nearest = not on_grid and draw(st.booleans())
        axes.append(AxisMap(scan_axis, scale, offset, draw(st.integers(1, 14)), nearest))
    array = np.zeros((1, *(axis.length for axis in axes)), np.float32)
    return PreparedScan(array, tuple(axes), scan_shape)


@settings(max_examples=300)
@given(
    grids(),
    st.integers(1, 4),
    st.integers(0, 2),
    st.lists(st.integers(1, 13), max_size=4),
    st.sampled_from(["outputs", "probabilities", "labels"]),
    st.sampled_from([1, 300, 1 << 25]),
    st.integers(0, 99),
)
def test_as_on_the_cpu(prepared, classes, axis, cuts, interpolated, at_once, seed):
    outputs = np.random.default_rng(seed).normal(size=(classes, *prepared.array.shape[1:]))
    outputs = outputs.astype(np.float32)
    expected = restore(slabs_of(outputs, axis, cuts), prepared, classes, interpolated)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restoring_on_gpu, "_AT_ONCE", at_once)
        found = restore_on_gpu(slabs_of(outputs, axis, cuts), prepared, classes, interpolated, CPU)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("classes", [2, 5, 300])
def test_of_a_whole_volume_next_to_nothing_differs(classes):
    # Structures and noise, so that there are borders of every kind.
    random = np.random.default_rng(classes)
    outputs = random.normal(size=(classes, 24, 20, 22)).astype(np.float32)
    outputs = ndimage.uniform_filter(outputs, (0, 5, 5, 5))
    axes = (AxisMap(2, -0.61, 13.1, 24), AxisMap(0, 0.7, 0.2, 20), AxisMap(1, 1.3, 1.0, 22))
    prepared = PreparedScan(outputs[:1], axes, (15, 31, 16))
    expected = restore(slabs_of(outputs, 0, [7, 13]), prepared, classes)
    found = restore_on_gpu(slabs_of(outputs, 0, [7, 13]), prepared, classes, "outputs", CPU)
    assert found.dtype == expected.dtype == (np.uint16 if classes > 256 else np.uint8)
    assert len(np.unique(expected)) > 1
    assert np.mean(found == expected) > 0.9999


def test_half_precision_is_decided_as_in_the_outputs():
    outputs = np.random.default_rng(0).normal(size=(3, 9, 8, 7)).astype(np.float16)
    axes = tuple(AxisMap(axis, 1.0, 0.0, length) for axis, length in enumerate((9, 8, 7)))
    prepared = PreparedScan(np.zeros((1, 9, 8, 7), np.float32), axes, (9, 8, 7))
    found = restore_on_gpu(slabs_of(outputs, 1, [3]), prepared, 3, "outputs", CPU)
    assert np.array_equal(found, outputs.argmax(0))
