"""Depthwise convolutions of several channels to a group say the same, and nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from medptq.engines.tensorrt_depthwise import in_groups
from medptq.engines.tensorrt_graph import with_input_shape
from medptq.graph.executor import GraphExecutor
from medptq.models.architectures.building import build_network
from quantization_helpers import export
from small_networks import SMALL
from tensorrt_networks import image, run


def graph_of(
    channels: int,
    *,
    group: int | None = None,
    made: int = 1,
    strides: tuple[int, ...] = (1, 1, 1),
    dilations: tuple[int, ...] = (1, 1, 1),
    kernel: tuple[int, ...] = (3, 3, 3),
    integers: str = "",
) -> onnx.ModelProto:
    """Make a graph of one convolution, depthwise by default; ``integers`` is how they are scaled.

    Args:
        channels: That it reads.
        group: How many groups they are in; one each by default.
        made: Channels that are made of each that is read.
        strides: Of the kernel, and so on.
        dilations: Of the kernel.
        kernel: Its size.
        integers: ``"per tensor"`` or ``"per channel"`` for weights in INT8.
    """
    group = group or channels
    generator = np.random.default_rng(channels)
    shape = (channels * made, channels // group, *kernel)
    nodes, weights = [], "weights"
    if integers:
        scale = generator.uniform(0.01, 0.02, shape[0]).astype(np.float32)
        constants = [
            numpy_helper.from_array(generator.integers(-127, 128, shape, dtype=np.int8), "weights"),
            numpy_helper.from_array(scale if integers == "per channel" else scale[0], "scale"),
        ]
        nodes.append(
            helper.make_node("DequantizeLinear", ["weights", "scale"], ["floats"], "dq", axis=0)
        )
        weights = "floats"
    else:
        array = generator.normal(size=shape).astype(np.float32)
        constants = [numpy_helper.from_array(array, "weights")]
    pads = [size // 2 for size in kernel] * 2
    options = {"group": group, "strides": strides, "dilations": dilations, "pads": pads}
    bias = generator.normal(size=shape[0]).astype(np.float32)
    constants.append(numpy_helper.from_array(bias, "bias"))
    nodes.append(helper.make_node("Conv", ["image", weights, "bias"], ["out"], "conv", **options))
    graph = helper.make_graph(
        nodes,
        "depthwise",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, channels, 6, 5, 4))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def groups(model: onnx.ModelProto) -> int:
    [node] = [node for node in model.graph.node if node.op_type == "Conv"]
    [group] = [attribute.i for attribute in node.attribute if attribute.name == "group"]
    return group


def values(model: onnx.ModelProto, channels: int) -> torch.Tensor:
    noise = torch.randn(1, channels, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return GraphExecutor(model).run(noise)


@given(
    channels=st.integers(8, 200),
    strides=st.tuples(*[st.integers(1, 2)] * 3),
    dilations=st.tuples(*[st.integers(1, 2)] * 3),
    kernel=st.tuples(*[st.sampled_from([1, 3])] * 3),
    integers=st.sampled_from(["", "per tensor", "per channel"]),
)
def test_a_depthwise_convolution_says_the_same(channels, strides, dilations, kernel, integers):
    plain = graph_of(
        channels, strides=strides, dilations=dilations, kernel=kernel, integers=integers
    )
    grouped = in_groups(plain)
    onnx.checker.check_model(grouped)
    size = channels // groups(grouped)
    assert size == 1 or 8 <= size <= 32
    expected = values(plain, channels)
    assert torch.allclose(values(grouped, channels), expected, rtol=1e-5, atol=1e-5)


def test_groups_are_as_large_as_may_be():
    found = {count: groups(in_groups(graph_of(count))) for count in (1024, 320, 48, 20, 37, 14)}
    assert found == {1024: 32, 320: 10, 48: 2, 20: 1, 37: 37, 14: 1}


def test_integers_stay_integers_and_what_is_not_needed_goes():
    grouped = in_groups(graph_of(64, integers="per channel"))
    assert [node.op_type for node in grouped.graph.node] == ["DequantizeLinear", "Conv"]
    constants = {tuple(constant.dims): constant.data_type for constant in grouped.graph.initializer}
    assert constants[64, 32, 3, 3, 3] == TensorProto.INT8
    assert len(constants) == 2  # bias and scale have the same shape


def test_other_convolutions_are_left():
    for plain in (
        graph_of(64, group=1),
        graph_of(64, group=2),
        graph_of(16, made=2),
    ):
        node = plain.graph.node[-1]
        [after] = [node for node in in_groups(plain).graph.node if node.op_type == "Conv"]
        assert after == node


def test_integers_around_another_zero_point_are_left():
    plain = graph_of(64, integers="per channel")
    plain.graph.initializer.append(numpy_helper.from_array(np.full(64, 3, np.int8), "zero"))
    plain.graph.node[0].input.append("zero")
    assert groups(in_groups(plain)) == 64


def test_weights_that_two_convolutions_share_are_each_one_s_own():
    plain = graph_of(64)
    twin = plain.graph.node.add()
    twin.CopyFrom(plain.graph.node[0])
    twin.input[0], twin.output[0], twin.name = "out", "again", "twin"
    plain.graph.output[0].name = "again"
    assert torch.allclose(values(in_groups(plain), 64), values(plain, 64), rtol=1e-5, atol=1e-4)


def test_a_network_of_depthwise_convolutions_says_the_same(tmp_path):
    options, patch = SMALL["medformer"]
    shape = (1, 1, *patch)
    network = build_network("medformer", **options)
    graph = with_input_shape(export(network, shape, tmp_path / "net.onnx"), shape)
    grouped = in_groups(graph)

    def of_one_channel(model: onnx.ModelProto) -> int:
        shapes = {constant.name: tuple(constant.dims) for constant in model.graph.initializer}
        convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        return sum(shapes[node.input[1]][:2][1:] == (1,) for node in convolutions)

    assert of_one_channel(grouped) < of_one_channel(graph)
    assert torch.allclose(
        run(grouped, image(shape)), run(graph, image(shape)), rtol=1e-4, atol=1e-4
    )
