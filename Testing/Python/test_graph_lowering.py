"""Rewritten layers compute what they computed before."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medptq.graph.executor import GraphExecutor
from medptq.graph.lowering import lower_for_integer_kernels
from medptq.graph.simplify import simplify
from medptq.graph.two_class_head import merge_two_class_softmax
from medptq.quantization.placement import place_for_openvino
from quantization_helpers import export


def _lowered(network, shape, path):
    model = simplify(export(network, shape, path), input_shape=shape)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)[2:]
        for value in [*inferred.input, *inferred.value_info, *inferred.output]
    }
    graph = ir.from_proto(model)
    lowered = lower_for_integer_kernels(graph, shapes)
    result = ir.to_proto(graph)
    onnx.checker.check_model(result, full_check=True)
    return model, result, lowered


def _same(model, lowered, shape):
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = GraphExecutor(model).run(image), GraphExecutor(lowered).run(image)
    assert before.shape == after.shape
    np.testing.assert_allclose(after.numpy(), before.numpy(), rtol=1e-4, atol=1e-5)


@settings(max_examples=40)
@given(
    kernel=st.tuples(*[st.integers(2, 7)] * 3),
    padding=st.tuples(*[st.integers(0, 3)] * 3),
    size=st.tuples(*[st.sampled_from([8, 10, 12])] * 3),
    channels=st.integers(1, 4),
)
def test_strided_first_convolutions(kernel, padding, size, channels, tmp_path_factory):
    assume(all(p < k for p, k in zip(padding, kernel, strict=True)))
    network = torch.nn.Conv3d(channels, 5, kernel, stride=2, padding=padding)
    shape = (1, channels, *size)
    path = tmp_path_factory.mktemp("lowering") / "net.onnx"
    model, result, lowered = _lowered(network, shape, path)
    assert list(lowered.same_values.values()) == ["image"]
    [convolution] = [node for node in result.graph.node if node.op_type == "Conv"]
    assert convolution.input[0] in lowered.same_values
    _same(model, result, shape)


@settings(max_examples=15)
@given(
    kernel=st.tuples(*[st.integers(1, 3)] * 3),
    channels=st.integers(1, 6),
    classes=st.integers(1, 8),
    bias=st.booleans(),
)
def test_narrow_transposed_convolutions(kernel, channels, classes, bias, tmp_path_factory):
    assume(max(kernel) > 1)
    network = torch.nn.Sequential(
        torch.nn.Conv3d(2, channels, 1),
        torch.nn.ConvTranspose3d(channels, classes, kernel, kernel, bias=bias),
    )
    shape = (1, 2, 4, 5, 6)
    path = tmp_path_factory.mktemp("lowering") / "net.onnx"
    model, result, lowered = _lowered(network, shape, path)
    assert len(lowered.rewritten) == 1
    assert not any(node.op_type == "ConvTranspose" for node in result.graph.node)
    assert result.graph.output[0].name == "logits"
    _same(model, result, shape)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layer", [torch.nn.Conv3d, torch.nn.ConvTranspose3d])
def test_a_two_class_head_computes_one_channel(tmp_path, layer, bias):
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, 6, 3, padding=1),
        torch.nn.ReLU(),
        layer(6, 2, 2, stride=2, bias=bias),
        torch.nn.Softmax(dim=1),
    )
    shape = (1, 1, 8, 6, 4)
    model = simplify(export(network, shape, tmp_path / "net.onnx"), input_shape=shape)
    graph = ir.from_proto(model)
    assert len(merge_two_class_softmax(graph)) == 1
    result = ir.to_proto(graph)
    onnx.checker.check_model(result, full_check=True)
    assert not any(node.op_type == "Softmax" for node in result.graph.node)
    assert result.graph.output[0].name == "logits"
    _same(model, result, shape)
    placement = place_for_openvino(graph.graph)
    assert len(placement.inputs) == 2, "the two convolutions, and not the joining of the output"


def test_other_heads_are_left_alone(tmp_path):
    for number, classes, axis in ((0, 3, 1), (1, 2, 2)):
        network = torch.nn.Sequential(torch.nn.Conv3d(1, classes, 1), torch.nn.Softmax(dim=axis))
        model = simplify(export(network, (1, 1, 4, 4, 4), tmp_path / f"{number}.onnx"))
        assert merge_two_class_softmax(ir.from_proto(model)) == ()


def test_layers_that_have_channels_enough_are_left_alone(tmp_path):
    network = torch.nn.Sequential(
        torch.nn.Conv3d(8, 8, 3, 2, 1),
        torch.nn.Conv3d(8, 16, 3, 1, 1),
        torch.nn.ConvTranspose3d(16, 16, 2, 2),
        torch.nn.ConvTranspose3d(16, 4, 3, 2, 1, 1),
    )
    shape = (1, 8, 8, 8, 8)
    model, result, lowered = _lowered(network, shape, tmp_path / "net.onnx")
    assert lowered.rewritten == ()
    assert [n.op_type for n in result.graph.node] == [n.op_type for n in model.graph.node]
