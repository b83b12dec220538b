"""Scales, rounding and clipping, against ONNX's definition."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper
from onnx.reference import ReferenceEvaluator

from medptq.quantization.arithmetic import INT8_MAX, quantize_weight, symmetric_scale

weights = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=5, max_side=4),
    elements=st.floats(-1e3, 1e3, width=32),
)


@given(weights, st.booleans())
def test_weights_are_what_quantizelinear_makes_of_them(weight, per_channel):
    axis = 0 if per_channel else None
    integers, scale = quantize_weight(weight, axis)
    attributes = {} if axis is None else {"axis": axis}
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], **attributes)],
        "quantize",
        [
            helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, weight.shape),
            helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, scale.shape),
            helper.make_tensor_value_info("z", onnx.TensorProto.INT8, scale.shape),
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT8, weight.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    zero_point = np.zeros(scale.shape, np.int8)
    [expected] = ReferenceEvaluator(model).run(None, {"x": weight, "s": scale, "z": zero_point})
    np.testing.assert_array_equal(integers, expected)


@given(weights)
def test_no_weight_is_off_by_more_than_half_a_step(weight):
    integers, scale = quantize_weight(weight, 0)
    spread = scale.reshape(-1, *[1] * (weight.ndim - 1)).astype(np.float64)
    error = np.abs(integers * spread - weight)
    assert np.all(error <= 0.5 * spread * (1 + 1e-5))
    assert integers.min() >= -INT8_MAX


def test_a_dead_channel_has_a_positive_scale_and_zeros():
    weight = np.zeros((2, 3, 1, 1, 1), np.float32)
    weight[0] = 1.0
    integers, scale = quantize_weight(weight, 0)
    assert scale[1] > 0
    assert not integers[1].any()
    assert integers[0].tolist() == [[[[127]]]] * 3


@pytest.mark.parametrize("amax", [0.0, 1e-45, 1.0, 3e38])
def test_scales_are_positive_and_finite(amax):
    scale = symmetric_scale(amax)
    assert scale > 0
    assert np.isfinite(scale)
