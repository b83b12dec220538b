from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from medptq.inference.windows import gaussian_importance, window_positions, window_starts

overlaps = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.625, 0.8, 0.95])


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    patch = tuple(draw(st.integers(1, 12)) for _ in range(3))
    shape = tuple(size + draw(st.integers(0, 25)) for size in patch)
    return shape, patch


@given(layouts(), overlaps, st.integers(0, 2))
def test_windows_lie_where_monai_puts_them(layout, overlap, axis):
    shape, patch = layout
    interval = _get_scan_interval(shape, patch, 3, (overlap,) * 3)
    expected = {
        tuple(part.start for part in box) for box in dense_patch_slices(shape, patch, interval)
    }
    found = window_positions(shape, patch, overlap, axis)
    assert set(found) == expected
    assert len(found) == len(expected)
    along = [position[axis] for position in found]
    assert along == sorted(along)


@given(st.integers(1, 20), st.integers(0, 60), overlaps)
def test_windows_cover_the_axis_and_end_flush(patch, more, overlap):
    starts = window_starts(patch + more, patch, overlap)
    covered = np.zeros(patch + more, bool)
    for start in starts:
        covered[start : start + patch] = True
    assert covered.all()
    assert starts[0] == 0
    assert starts[-1] == more


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, 24)] * 3))
def test_importance_is_monais(patch):
    found = gaussian_importance(patch, torch.device("cpu"))
    expected = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125)
    assert found.shape == patch
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
