from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import _get_scan_interval
from scipy.ndimage import gaussian_filter

from medptq.inference.windows import (
    even_window_starts,
    gaussian_importance,
    importance_of,
    window_positions,
    window_starts,
)

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


@given(st.integers(1, 40), st.integers(0, 90), overlaps)
def test_even_windows_are_as_few_as_can_be(patch, more, overlap):
    starts = even_window_starts(patch + more, patch, overlap)
    gaps = np.diff(starts)
    assert (starts[0], starts[-1]) == (0, more)
    assert (gaps < patch * (1 - overlap) + 1).all()
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
    assert (len(starts) - 2) * patch * (1 - overlap) < more or len(starts) == 1


def test_even_windows_lie_where_nnunet_puts_them():
    # Its own example: three windows of 64 on 110 voxels.
    assert even_window_starts(110, 64, 0.5) == (0, 23, 46)
    shape, patch = (110, 64, 70), (64, 64, 64)
    found = window_positions(shape, patch, 0.5, 0, "nnunet")
    assert found == [(d, 0, w) for d in (0, 23, 46) for w in (0, 6)]


@settings(max_examples=25)
@given(st.tuples(*[st.integers(1, 24)] * 3))
def test_importance_is_nnunets(patch):
    # compute_gaussian of nnunetv2, which keeps it in half precision.
    spike = np.zeros(patch)
    spike[tuple(size // 2 for size in patch)] = 1
    bell = gaussian_filter(spike, [size / 8 for size in patch], 0, mode="constant", cval=0)
    bell = torch.from_numpy(bell / (bell.max() / 10)).to(torch.float16)
    bell[bell == 0] = bell[bell != 0].min()
    found = importance_of("nnunet", patch, torch.device("cpu"))
    torch.testing.assert_close(10 * found, bell.float(), rtol=1e-3, atol=1e-6)


@settings(max_examples=25)
@given(st.tuples(*[st.integers(1, 24)] * 3))
def test_importance_is_monais(patch):
    found = gaussian_importance(patch, torch.device("cpu"))
    expected = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125)
    assert found.shape == patch
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
