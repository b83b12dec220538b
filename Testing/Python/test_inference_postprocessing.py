from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from medptq.errors import ModelError
from medptq.inference.postprocessing import postprocess

label_maps = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7),
    elements=st.sampled_from([0, 0, 1, 1, 1, 3]),
)


@given(label_maps)
def test_largest_component_keeps_one_part_and_other_labels(labels):
    before = labels.copy()
    postprocess(labels, [{"step": "largest_component", "labels": [1, 2]}])
    assert (labels[before != 1] == before[before != 1]).all()
    parts, count = ndimage.label(before == 1)
    sizes = np.bincount(parts.ravel())[1:]
    _, left = ndimage.label(labels == 1)
    assert left == min(count, 1)
    assert (labels == 1).sum() == (sizes.max() if count else 0)


@given(label_maps)
def test_fill_holes_fills_enclosed_background_only(labels):
    before = labels.copy()
    postprocess(labels, [{"step": "fill_holes", "labels": [1]}])
    filled = ndimage.binary_fill_holes(before == 1) & (before == 0)
    assert (labels == np.where(filled, 1, before)).all()


def test_steps_run_in_order_on_each_label():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:6, 1:6, 1:6] = 2
    labels[3, 3, 3] = 0
    labels[8, 8, 8] = 2
    labels[8, 0, 0] = 5
    postprocess(
        labels,
        [
            {"step": "largest_component", "labels": [2, 5, 200]},
            {"step": "fill_holes", "labels": [2, 5]},
        ],
    )
    assert labels[3, 3, 3] == 2
    assert labels[8, 8, 8] == 0
    assert labels[8, 0, 0] == 5
    assert (labels == 2).sum() == 125


def test_a_shell_with_another_label_inside_keeps_it():
    labels = np.ones((5, 5, 5), np.uint16)
    labels[1:4, 1:4, 1:4] = 0
    labels[2, 2, 2] = 7
    postprocess(labels, [{"step": "fill_holes", "labels": [1]}])
    assert labels[2, 2, 2] == 7
    assert (labels == 1).sum() == 124


def test_an_unknown_step_is_named():
    with pytest.raises(ModelError, match="'sharpen'"):
        postprocess(np.zeros((2, 2, 2), np.uint8), [{"step": "sharpen", "labels": [1]}])
