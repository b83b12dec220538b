"""Cropping a scan to what another network has found in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medptq.scans.prepared import AxisMap, Located
from medptq.scans.preprocessing import Started, prepare
from preprocessing_helpers import (
    assert_voxels_are_where_the_map_says,
    on_the_scans_grid,
    ramp,
    scan_indices,
)


@pytest.mark.parametrize("axis_order", ["IJK", "KJI"])
def test_crop_to_model_covers_what_the_model_found(axis_order):
    scan = ramp()
    asked = []

    def locate(started: Started, model: str) -> Located:
        asked.append((started.scan, model))
        labels = np.zeros(scan.shape, np.uint8)
        labels[4:14, 5:9, 6:12] = 2
        labels[0, 0, 0] = 1
        return on_the_scans_grid(labels)

    step = {"step": "crop_to_model", "model": "finder", "labels": [2], "margin": 0.1}
    for code in ("RAS", "PSR", "LIA"):
        prepared = prepare(scan, [{"step": "orient", "to": code}, step], axis_order, locate)
        assert asked[-1] == (scan, "finder")
        indices = scan_indices(prepared)
        # 10 + 2 * 1, 4 + 2 * 0.4 and 6 + 2 * 0.6 voxels, rounded outwards
        assert [indices[n].min() for n in range(3)] == [3, 4, 5]
        assert [indices[n].max() for n in range(3)] == [14, 9, 12]
        assert_voxels_are_where_the_map_says(prepared, scan)
    everything = prepare(scan, [{**step, "labels": [1, 2], "margin": 2}], axis_order, locate)
    assert sorted(everything.array.shape[1:]) == sorted(scan.shape)
    without = {"step": "crop_to_model", "model": "finder", "margin": 0}
    assert prepare(scan, [without], "KJI", locate).array.shape == (1, 14, 9, 12)


def test_crop_to_model_after_resampling():
    scan = ramp()
    labels = np.zeros(scan.shape, np.uint8)
    labels[4:14, 5:9, 6:12] = 1
    steps = [
        {"step": "orient", "to": "LPI"},
        {"step": "resize", "size": [40, 31, 13]},
        {"step": "crop_to_model", "model": "finder", "margin": 0},
    ]
    prepared = prepare(scan, steps, "IJK", lambda *_: on_the_scans_grid(labels))
    for axis, (first, last) in zip((0, 1, 2), ((4, 14), (5, 9), (6, 12)), strict=True):
        along = next(found for found in prepared.axes if found.scan_axis == axis)
        edges = sorted(along.offset + along.scale * n for n in (-0.5, along.length - 0.5))
        assert edges[0] <= first - 0.5 + 1e-6
        assert edges[1] >= last - 0.5 - 1e-6
        assert edges[1] - edges[0] < last - first + 2 * abs(along.scale)


def test_crop_to_model_where_it_was_found_on_another_grid():
    scan = ramp()
    # Two voxels of the scan to one along K, the other way along I.
    axes = AxisMap(2, -1.0, scan.shape[2] - 1.0, scan.shape[2]), AxisMap(1, 1.0, 0.0, 11)
    coarse = AxisMap(0, 2.0, 0.5, scan.shape[0] // 2)
    labels = np.zeros([axis.length for axis in (*axes, coarse)], np.uint8)
    labels[2:5, 3:6, 1:4] = 1
    step = {"step": "crop_to_model", "model": "finder", "margin": 0}
    prepared = prepare(scan, [step], "KJI", lambda *_: Located(labels, (*axes, coarse), 0.0))
    indices = scan_indices(prepared)
    last = scan.shape[2] - 1
    assert [(n.min(), n.max()) for n in indices] == [(2, 7), (3, 5), (last - 4, last - 2)]


@given(
    first=st.sampled_from(["RAS", "LPI", "SRA"]),
    other=st.sampled_from(["RAS", "LPI"]),
    order=st.sampled_from(["IJK", "KJI"]),
    clipped=st.booleans(),
)
def test_what_two_networks_begin_with_is_done_once_and_changes_nothing(
    first, other, order, clipped
):
    scan = ramp()
    low, high = (float(value) for value in np.percentile(scan.array, [20, 80]))
    clip = [{"step": "clip", "low": low, "high": high}] if clipped else []
    begin = [{"step": "orient", "to": first}, *clip]
    finders = [{"step": "orient", "to": other}, *clip, {"step": "zscore"}]
    before = scan.array.copy()

    def locate(started: Started, _: str) -> Located:
        together, apart = prepare(started, finders, order), prepare(scan, finders, order)
        np.testing.assert_array_equal(together.array, apart.array)
        assert together.axes == apart.axes
        return on_the_scans_grid(np.ones(scan.shape, np.uint8))

    step = {"step": "crop_to_model", "model": "finder", "margin": 0}
    prepared = prepare(scan, [*begin, step], "KJI", locate)
    np.testing.assert_array_equal(prepared.array, prepare(scan, begin, "KJI").array)
    np.testing.assert_array_equal(scan.array, before)
