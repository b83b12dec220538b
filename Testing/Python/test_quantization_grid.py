"""The grids that weights and activations of few bits are rounded to, and what shares one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medptq.errors import QuantizationError
from medptq.quantization.arithmetic import quantize_weight
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.granularity import Groups, groups_of
from medptq.quantization.simulation.grid import activation_grid, signed_scale, weight_grid
from medptq.quantization.simulation.group_histogram import GroupHistogram
from medptq.quantization.simulation.ranges import extremes

BITS = st.integers(2, 8)
VALUES = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=1, max_side=6), elements=st.floats(-1e3, 1e3, width=32)
)


# The arithmetic


@given(VALUES, BITS, st.booleans())
def test_values_within_the_range_are_off_by_half_a_step_at_most(array, bits, signed):
    values = torch.from_numpy(array)
    grid = activation_grid(values.min(), values.max(), bits, signed=signed)
    scale = float(grid.scale)
    # Of a range that is not symmetric the beginning is rounded to the grid, which 0 is on.
    most = 0.5 if signed else 1.0
    assert float((grid.nearest(values) - values).abs().max()) <= most * scale * (1 + 1e-4)


@given(VALUES, BITS, st.booleans())
def test_there_are_no_more_values_than_the_bits_can_tell_apart(array, bits, signed):
    values = torch.from_numpy(array)
    grid = activation_grid(values.min(), values.max(), bits, signed=signed)
    integers = grid.integers(values * 3)
    assert float(integers.max() - integers.min()) <= 2**bits - 1
    assert torch.equal(integers, integers.round())
    assert float(grid.nearest(torch.zeros(1))) == 0.0
    rounded = grid.nearest(values)
    assert torch.equal(grid.nearest(rounded), rounded)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=5, max_side=4),
        elements=st.floats(-1e3, 1e3, width=32),
    ),
    st.booleans(),
)
def test_weights_of_eight_bits_are_those_that_are_written_into_files(weight, per_channel):
    axis = 0 if per_channel else None
    integers, scale = quantize_weight(weight, axis)
    values = torch.from_numpy(weight)
    others = tuple(range(0 if axis is None else 1, weight.ndim))
    grid = weight_grid(values.abs().amax(others, keepdim=True), 8)
    np.testing.assert_array_equal(grid.integers(values).numpy(), integers)
    np.testing.assert_array_equal(grid.scale.numpy().reshape(-1), scale.reshape(-1))


@given(BITS, st.floats(0, 1e30))
def test_more_bits_never_make_a_coarser_grid(bits, amax):
    scales = [float(signed_scale(torch.tensor(amax), b)) for b in range(2, bits + 1)]
    assert scales == sorted(scales, reverse=True)
    assert scales[-1] > 0


def test_halves_are_rounded_to_the_even_number():
    grid = activation_grid(torch.tensor(-7.0), torch.tensor(7.0), 4, signed=True)
    halves = torch.tensor([-8.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 7.5])
    assert grid.nearest(halves).tolist() == [-8, -2, -2, 0, 0, 2, 2, 7]


@settings(max_examples=10)
@given(st.integers(2, 6), st.booleans(), st.integers(0, 1000))
def test_fitted_ranges_are_better_than_the_extremes(bits, signed, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 20_000, generator=generator) * torch.tensor([[1.0], [30.0], [0.1]])
    values[1] = torch.nn.functional.leaky_relu(values[1], 0.01)
    values[2, 0] = 5.0
    histogram = GroupHistogram(3, values.device)
    for part in values.split(7_000, dim=1):
        histogram.add(part)
    fitted = histogram.least_squared_error(bits, signed=signed)
    ends = values.amin(1), values.amax(1)

    def error(low, high):
        grid = activation_grid(low[:, None], high[:, None], bits, signed=signed)
        return (grid.nearest(values) - values).square().mean(1)

    assert torch.all(error(*fitted) <= error(*ends) * 1.01)
    if bits in (3, 4, 5):
        assert error(*fitted)[2] < 0.5 * error(*ends)[2], "the outlier was not clipped"


def test_a_range_that_is_not_symmetric_wastes_no_values_on_one_sign():
    values = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    low, high = values.min(), values.max()
    error = [
        float((activation_grid(low, high, 4, signed=s).nearest(values) - values).square().mean())
        for s in (True, False)
    ]
    assert error[1] < 0.3 * error[0]


# Granularity


def _node(op_type, weight_shape, **attributes):
    return ir.node(
        op_type,
        [ir.val("x"), ir.val("w", shape=ir.Shape(weight_shape))],
        attributes,
        name="layer",
    )


CONV, POINTWISE = _node("Conv", [4, 3, 3, 3, 3]), _node("Conv", [4, 3, 1, 1, 1])
PRODUCT = _node("MatMul", [6, 5])


@pytest.mark.parametrize(
    ("node", "operand", "shape", "expected"),
    [
        (CONV, 0, (1, 3, 4, 5, 6), {"channel": (1, 3, 1, 1, 1), "voxel": (1, 1, 4, 5, 6)}),
        (CONV, 0, (1, 3, 4, 5, 6), {"token": (1, 3, 1, 1, 1), "adaptive": (1, 3, 1, 1, 1)}),
        (POINTWISE, 0, (1, 3, 4, 5, 6), {"adaptive": (1, 1, 4, 5, 6), "token": (1, 3, 1, 1, 1)}),
        (PRODUCT, 0, (2, 7, 6), {"channel": (1, 1, 6), "token": (2, 7, 1), "voxel": (2, 7, 1)}),
        (PRODUCT, 1, (2, 6, 7), {"channel": (1, 6, 1), "adaptive": (2, 1, 7)}),
        (_node("Gemm", [6, 5], transA=1), 0, (6, 7), {"channel": (6, 1), "token": (1, 7)}),
        (_node("Add", [3]), 0, (1, 3, 4, 5, 6), {"channel": (1, 1, 1, 1, 1)}),
    ],
)
def test_scales_lie_along_the_axes_that_the_granularity_says(node, operand, shape, expected):
    x = torch.randn(shape)
    assert extremes(x, groups_of(node, operand, "tensor"))[0].numel() == 1
    for granularity, scales in expected.items():
        low, high = extremes(x, groups_of(node, operand, granularity))
        assert low.shape == high.shape == scales


def test_groups_are_counted_from_either_end():
    assert Groups("channels", -1).inner_axes(3) == (0, 1)
    assert Groups("positions", -2).inner_axes(4) == (2,)
    assert Groups("positions", -2).inner_axes(1) == (0,), "a vector has no other axis"


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight_bits": 1},
        {"activation_bits": 9},
        {"activation_granularity": "block"},
        {"observer": "entropy", "activation_granularity": "channel"},
        {"observer": "entropy", "activation_granularity": "token"},
        {"observer": "percentile", "signed": False},
        {
            "observer": "entropy",
            "activation_granularity": "channel",
            "activation_bits": 4,
            "signed": False,
            "placing": "openvino",
        },
        {"scales": "dynamic"},
        {"placing": "openvino", "signed": False},
        {"placing": "openvino", "activation_granularity": "token"},
        {"placing": "openvino", "scales": "dynamic", "observer": "max"},
        {"percentile": 20.0},
    ],
)
def test_impossible_schemes_are_refused(wrong):
    with pytest.raises(QuantizationError) as caught:
        Scheme(**wrong)
    assert caught.value.code == "quantize.scheme"
