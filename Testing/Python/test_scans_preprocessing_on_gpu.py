"""Steps that are done on a GPU, here on the CPU's device, against the CPU's way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medptq.errors import ScanError
from medptq.scans.linear import interpolated, interpolated_on_gpu
from medptq.scans.patches import pad_to
from medptq.scans.preprocessing import prepare, prepare_on_gpu
from medptq.scans.steps import runs_on_gpu
from preparation_steps import STEPS, make_scan

CPU = torch.device("cpu")


@pytest.mark.parametrize("axis_order", ["IJK", "KJI"])
@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: "-".join(s["step"] for s in steps))
def test_as_on_the_cpu(steps, axis_order):
    scan = make_scan(channels=2)
    before = scan.array.copy()
    expected = prepare(scan, steps, axis_order)
    found = prepare_on_gpu(scan, steps, axis_order, None, CPU)
    assert isinstance(found.array, torch.Tensor)
    assert found.array.is_contiguous()
    assert found.array.dtype == torch.float32
    rounding = 1e-6 * np.abs(expected.array).max()
    np.testing.assert_allclose(found.array.numpy(), expected.array, rtol=0, atol=rounding)
    assert found.axes == expected.axes
    assert found.scan_shape == expected.scan_shape
    assert found.pad_value == expected.pad_value
    found.array.zero_()  # it is a copy
    np.testing.assert_array_equal(scan.array, before)


def test_what_a_gpu_cannot_do_is_done_before():
    can = [runs_on_gpu(step) for steps in STEPS for step in steps]
    assert True in can
    assert False in can
    assert not runs_on_gpu({"step": "spacing", "mm": [1, 1, 1], "interpolation": "nearest"})
    assert not runs_on_gpu({"step": "unheard of"})


def test_what_is_wrong_with_a_step_is_told():
    with pytest.raises(ScanError, match="is not below"):
        prepare_on_gpu(make_scan(), [{"step": "clip", "low": 2, "high": 1}], "KJI", None, CPU)
    with pytest.raises(ScanError, match="the steps that are known"):
        prepare_on_gpu(make_scan(), [{"step": "unheard of"}], "KJI", None, CPU)


@settings(max_examples=100)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
    steps=st.tuples(*[st.floats(0.3, 3)] * 3),
    firsts=st.tuples(*[st.floats(-2, 4)] * 3),
)
def test_interpolates_with_the_same_arithmetic(shape, size, steps, firsts):
    array = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    expected = interpolated(array, steps, firsts, size)
    found = interpolated_on_gpu(torch.from_numpy(array), steps, firsts, size)
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("value", [None, -7.0])
def test_pads_as_an_array_is_padded(value):
    array = np.random.default_rng(0).normal(size=(2, 5, 9, 4)).astype(np.float32)
    expected, margins = pad_to(array, (8, 8, 8), value)
    found, same = pad_to(torch.from_numpy(array), (8, 8, 8), value)
    assert same == margins
    np.testing.assert_array_equal(found.numpy(), expected)
