"""Simplified graphs compute the same with less."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from medptq.errors import ModelError
from medptq.graph.executor import GraphExecutor
from medptq.graph.simplify import simplify

BATCH_NORMALIZATION = ["scale", "shift", "mean", "variance"]


def model_of(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray] | None = None,
    *,
    shape: tuple[int | str, ...] = ("N", 4, "D", "H", "W"),
    output_rank: int = 5,
    opset: int = 17,
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * output_rank)
    tensors = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def normalization(rng: np.random.Generator, channels: int) -> dict[str, np.ndarray]:
    return {
        "scale": rng.normal(1, 0.5, channels).astype(np.float32),
        "shift": rng.normal(0, 1, channels).astype(np.float32),
        "mean": rng.normal(0, 1, channels).astype(np.float32),
        "variance": rng.uniform(0.1, 2, channels).astype(np.float32),
    }


def checked(model: onnx.ModelProto, x: torch.Tensor) -> onnx.ModelProto:
    """Simplify, and hold the result against the original."""
    before = model.SerializeToString(deterministic=True)
    result = simplify(model)
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(result, full_check=True)
    expected, actual = GraphExecutor(model).run(x), GraphExecutor(result).run(x)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert [value.name for value in result.graph.output] == ["y"]
    names = [name for node in result.graph.node for name in node.output]
    names += [tensor.name for tensor in result.graph.initializer] + ["x"]
    assert len(set(names)) == len(names)
    node_names = [node.name for node in result.graph.node]
    assert all(node_names)
    assert len(set(node_names)) == len(node_names)
    return result


@settings(max_examples=40)
@given(
    transposed=st.booleans(),
    groups=st.sampled_from([1, 2, 4]),
    per_group=st.integers(1, 3),
    kernel=st.tuples(*[st.integers(1, 3)] * 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    epsilon=st.sampled_from([1e-5, 1e-3]),
    seed=st.integers(0, 100),
)
def test_batch_normalization_is_folded_into_convolutions(
    transposed: bool,
    groups: int,
    per_group: int,
    kernel: tuple[int, int, int],
    stride: int,
    dilation: int,
    bias: bool,
    epsilon: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    outputs = groups * per_group
    shape = (4, per_group, *kernel) if transposed else (outputs, 4 // groups, *kernel)
    weights = {"weight": rng.normal(0, 1, shape).astype(np.float32), **normalization(rng, outputs)}
    if bias:
        weights["bias"] = rng.normal(0, 1, outputs).astype(np.float32)
    nodes = [
        helper.make_node(
            "ConvTranspose" if transposed else "Conv",
            ["x", "weight", "bias"] if bias else ["x", "weight"],
            ["a"],
            group=groups,
            strides=[stride] * 3,
            dilations=[dilation] * 3,
        ),
        helper.make_node("BatchNormalization", ["a", *BATCH_NORMALIZATION], ["y"], epsilon=epsilon),
    ]
    result = checked(model_of(nodes, weights), torch.randn(1, 4, 7, 7, 7))
    assert operators(result) == [nodes[0].op_type]
    assert {tensor.name for tensor in result.graph.initializer} >= {"weight"}
    assert len(result.graph.initializer) == 2


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias_shape", [None, (), (3,), (1, 3)])
def test_batch_normalization_is_folded_into_gemm(
    trans_b: int, bias_shape: tuple[int, ...] | None
) -> None:
    rng = np.random.default_rng(0)
    shape = (3, 4) if trans_b else (4, 3)
    weights = {"weight": rng.normal(0, 1, shape).astype(np.float32), **normalization(rng, 3)}
    inputs = ["x", "weight"]
    if bias_shape is not None:
        weights["bias"] = np.asarray(rng.normal(0, 1, bias_shape), np.float32)
        inputs.append("bias")
    nodes = [
        helper.make_node("Gemm", inputs, ["a"], transB=trans_b, alpha=0.5, beta=2.0),
        helper.make_node("BatchNormalization", ["a", *BATCH_NORMALIZATION], ["y"]),
    ]
    model = model_of(nodes, weights, shape=("N", 4), output_rank=2)
    assert operators(checked(model, torch.randn(5, 4))) == ["Gemm"]


def test_batch_normalization_stays_where_others_read_the_convolution() -> None:
    rng = np.random.default_rng(0)
    weights = {"weight": np.ones((4, 4, 1, 1, 1), np.float32), **normalization(rng, 4)}
    nodes = [
        helper.make_node("Conv", ["x", "weight"], ["a"]),
        helper.make_node("BatchNormalization", ["a", *BATCH_NORMALIZATION], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    result = checked(model_of(nodes, weights), torch.randn(1, 4, 3, 3, 3))
    assert "BatchNormalization" in operators(result)


def test_convolutions_that_share_weights_get_their_own() -> None:
    rng = np.random.default_rng(0)
    weights = {
        "weight": rng.normal(0, 1, (4, 4, 1, 1, 1)).astype(np.float32),
        **normalization(rng, 4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "weight"], ["a"]),
        helper.make_node("BatchNormalization", ["a", *BATCH_NORMALIZATION], ["b"]),
        helper.make_node("Conv", ["b", "weight"], ["y"]),
    ]
    result = checked(model_of(nodes, weights), torch.randn(1, 4, 3, 3, 3))
    assert operators(result) == ["Conv", "Conv"]


def test_what_does_nothing_goes() -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Constant", [], ["three"], value=numpy_helper.from_array(np.float32(3))),
        helper.make_node("Add", ["two", "three"], ["five"]),
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("Dropout", ["a"], ["b"]),
        helper.make_node("Mul", ["b", "five"], ["c"]),
        helper.make_node("Exp", ["c"], ["unused"]),
        helper.make_node("Dropout", ["c"], ["y"]),
    ]
    model = model_of(nodes, {"unused_weight": np.zeros(3, np.float32)})
    result = checked(model, torch.randn(1, 4, 2, 2, 2))
    assert operators(result) == ["Mul"]
    assert len(result.graph.initializer) == 1


def test_the_quantization_of_weights_stays() -> None:
    weights = {
        "weight": np.ones((4, 4, 1, 1, 1), np.int8),
        "scale": np.float32(0.5),
        "zero": np.int8(0),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["weight", "scale", "zero"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    ]
    result = checked(model_of(nodes, weights), torch.randn(1, 4, 2, 2, 2))
    assert operators(result) == ["DequantizeLinear", "Conv"]


def resize_to_input() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a"], kernel_shape=[2, 2, 2], strides=[2, 2, 2]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "places"], ["size"]),
        helper.make_node("Shape", ["a"], ["small"]),
        helper.make_node("Gather", ["small", "front"], ["batch"]),
        helper.make_node("Concat", ["batch", "size"], ["sizes"], axis=0),
        helper.make_node("Resize", ["a", "", "", "sizes"], ["y"], mode="nearest"),
    ]
    return model_of(nodes, {"places": np.array([2, 3, 4]), "front": np.array([0, 1])})


def test_a_fixed_input_shape_makes_shapes_constant() -> None:
    model = resize_to_input()
    assert "Shape" in operators(checked(model, torch.randn(1, 4, 5, 6, 7)))
    result = simplify(model, input_shape=(1, 4, 6, 7, 8))
    assert operators(result) == ["MaxPool", "Resize"]
    onnx.checker.check_model(result, full_check=True)
    x = torch.randn(1, 4, 6, 7, 8)
    torch.testing.assert_close(GraphExecutor(result).run(x), GraphExecutor(model).run(x))
    dims = result.graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [1, 4, 6, 7, 8]


def test_a_shape_that_contradicts_the_graph_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        simplify(resize_to_input(), input_shape=(1, 3, 8, 8, 8))
    assert caught.value.code == "model.shape"


@pytest.mark.parametrize(("opset", "expected"), [(13, 17), (16, 17), (17, 17), (20, 20)])
def test_opsets_are_raised_but_never_lowered(opset: int, expected: int) -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], opset=opset)
    result = checked(model, torch.randn(1, 4, 2, 2, 2))
    assert result.opset_import[0].version == expected


def test_opsets_that_are_too_old_are_refused() -> None:
    with pytest.raises(ModelError, match="opset 10"):
        simplify(model_of([helper.make_node("Relu", ["x"], ["y"])], opset=10))


def test_nodes_without_names_get_them() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    names = [node.name for node in checked(model_of(nodes), torch.randn(1, 4, 2, 2, 2)).graph.node]
    assert all(name.startswith("Relu") for name in names)
