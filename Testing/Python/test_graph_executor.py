"""Whole graphs in the executor: memory, watched values, gradients, exactness and refusals."""

from __future__ import annotations

import itertools
import weakref

import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from medptq.errors import ModelError
from medptq.graph.executor import GraphExecutor
from medptq.graph.operators import OPERATORS, Node
from medptq.graph.simplify import simplify


def graph_of(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray] | None = None, opset: int = 17
) -> onnx.ModelProto:
    """A model with the input ``x`` and the output ``y``, both float32 of rank 5."""
    sides = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * 5) for n in "xy"]
    tensors = [onnx.numpy_helper.from_array(v, k) for k, v in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", sides[:1], sides[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def in_place_operators() -> list[str]:
    return sorted(name for name, entry in OPERATORS.items() if entry.evaluate_in_place is not None)


@pytest.mark.parametrize("op_type", in_place_operators())
def test_in_place_computes_the_same(op_type: str) -> None:
    torch.manual_seed(0)
    binary = op_type in ("Add", "Sub", "Mul", "Div")
    others = [torch.rand(2, 1, 5), torch.rand(4, 1, 1, 1)] if binary else []
    x = torch.rand(2, 3, 5) + 0.1
    node = Node("node", op_type, ("x",), ("y",), {"alpha": 0.3}, 17)
    function = OPERATORS[op_type].evaluate_in_place
    assert function is not None
    for rest in [[other] for other in others] or [[]]:
        before = x.clone()
        expected = OPERATORS[op_type].evaluate(node, x, *rest)
        assert torch.equal(x, before)
        actual = function(node, x.clone(), *rest)
        torch.testing.assert_close(actual, expected)


def test_nothing_that_is_read_later_is_written_over() -> None:
    """A view, a branch and a watched value each keep what they were."""
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["a"]),
        helper.make_node("Reshape", ["a", "shape"], ["view"]),
        helper.make_node("Relu", ["a"], ["b"]),  # Must not change the view.
        helper.make_node("Neg", ["b"], ["c"]),  # Must not change b, which is read below.
        helper.make_node("Add", ["b", "c"], ["zero"]),
        helper.make_node("Exp", ["view"], ["d"]),  # Must not change a.
        helper.make_node("Add", ["zero", "d"], ["y"]),
    ]
    weights = {"two": np.float32(2), "shape": np.array([1, 1, 2, 2, 2])}
    x = torch.linspace(-1, 1, 8).reshape(1, 1, 2, 2, 2)
    executor = GraphExecutor(graph_of(nodes, weights))
    kept: dict[str, Tensor] = {}
    with torch.inference_mode():
        y = executor.run(x)
        executor.run(x, kept.__setitem__, {"a", "b", "c", "zero", "d", "y"})
    torch.testing.assert_close(y, (2 * x).exp())
    torch.testing.assert_close(kept["a"], 2 * x)
    torch.testing.assert_close(kept["c"], -(2 * x).relu())
    torch.testing.assert_close(kept["zero"], torch.zeros_like(x))


def chain(length: int) -> onnx.ModelProto:
    names = ["x", *(f"v{i}" for i in range(length - 1)), "y"]
    weights = {f"w{i}": np.full((1, 1, 1, 1, 1), 1.5, np.float32) for i in range(length)}
    return graph_of(
        [
            helper.make_node("Conv", [before, f"w{i}"], [after])
            for i, (before, after) in enumerate(itertools.pairwise(names))
        ],
        weights,
    )


def test_values_are_freed_once_their_last_reader_ran() -> None:
    model = chain(12)
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def see(name: str, tensor: Tensor) -> None:
        nonlocal most
        alive.append(weakref.ref(tensor))
        most = max(most, sum(reference() is not None for reference in alive))

    with torch.inference_mode():
        y = GraphExecutor(model).run(
            torch.ones(1, 1, 4, 4, 4), see, {n for node in model.graph.node for n in node.output}
        )
    assert len(alive) == 12
    assert most <= 2
    torch.testing.assert_close(y, torch.full((1, 1, 4, 4, 4), 1.5**12))


def test_watched_values_come_in_order_and_can_be_replaced() -> None:
    model = graph_of(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])]
    )
    executor = GraphExecutor(model)
    x = torch.ones(1, 1, 2, 2, 2)
    seen: list[str] = []

    def double(name: str, tensor: Tensor) -> Tensor | None:
        seen.append(name)
        return None if name == "y" else tensor * 2

    with torch.inference_mode():
        torch.testing.assert_close(executor.run(x, double, ["y", "a", "x"]), -4 * x)
        assert seen == ["x", "a", "y"]
        torch.testing.assert_close(executor.run(x, double), -x)
    assert torch.equal(x, torch.ones_like(x))


def test_gradients_reach_replaced_weights() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Conv3d(2, 1, 3))
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    model = graph_of(
        [
            helper.make_node("Conv", ["x", "0.weight", "0.bias"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "2.weight", "2.bias"], ["c"]),
            # The gradient of Sigmoid needs its output, which Neg must not write over.
            helper.make_node("Sigmoid", ["c"], ["d"]),
            helper.make_node("Neg", ["d"], ["y"]),
        ],
        weights,
    )
    executor = GraphExecutor(model)
    replaced = executor.constants["0.weight"].clone().requires_grad_()
    executor.constants["0.weight"] = replaced
    x = torch.randn(1, 1, 6, 6, 6)
    executor.run(x).square().mean().backward()
    (-network(x).sigmoid()).square().mean().backward()
    assert replaced.grad is not None
    torch.testing.assert_close(replaced.grad, network[0].weight.grad)


def test_constant_parts_are_computed_once() -> None:
    nodes = [
        helper.make_node("Add", ["one", "one"], ["two"]),
        helper.make_node("Mul", ["two", "two"], ["four"]),
        helper.make_node("Mul", ["x", "four"], ["y"]),
    ]
    executor = GraphExecutor(graph_of(nodes, {"one": np.float32(1)}))
    assert set(executor.constants) == {"four"}
    assert executor.constants["four"] == 4


def test_shapes_are_worked_out_without_waiting_for_the_device() -> None:
    """The meta device has no numbers: reading one from it fails, as it would stall a GPU."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "two", "five", "zero"], ["size"]),
        helper.make_node("Cast", ["size"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "half"], ["halved"]),
        helper.make_node("Cast", ["halved"], ["smaller"], to=TensorProto.INT64),
        helper.make_node("Slice", ["shape", "zero", "two", "zero"], ["front"]),
        helper.make_node("Concat", ["front", "smaller"], ["sizes"], axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["a"], mode="linear"),
        helper.make_node("Gather", ["shape", "one"], ["channels"], axis=0),
        helper.make_node("Cast", ["channels"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["a", "count"], ["y"]),
    ]
    weights = {
        **{name: np.array([n]) for name, n in (("zero", 0), ("one", 1), ("two", 2), ("five", 5))},
        "half": np.array([0.5], np.float32),
    }
    model = graph_of(nodes, weights)
    x = torch.rand(1, 2, 4, 6, 8)
    expected = nn.functional.interpolate(x, scale_factor=0.5, mode="trilinear") / 2
    torch.testing.assert_close(GraphExecutor(model).run(x), expected)
    y = GraphExecutor(model, "meta").run(x.to("meta"))
    assert y.shape == expected.shape
    assert y.device.type == "meta"


@pytest.mark.parametrize("opset", [13, 19, 21, 23])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantization_is_exact(opset: int, dtype: type, axis: int | None) -> None:
    """Every bit as ONNX's reference has it, halfway cases and saturation among them."""
    rng = np.random.default_rng(0)
    shape = () if axis is None else (4,)
    scale = rng.uniform(0.01, 0.1, shape).astype(np.float32)
    limits = np.iinfo(dtype)
    zero = rng.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)
    along = {} if axis is None else {"axis": axis}
    model = graph_of(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], **along),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], **along),
        ],
        {"scale": scale, "zero": zero},
        opset,
    )
    model.ir_version = 10
    steps = rng.integers(-600, 600, (4, 4, 5, 5, 5)).astype(np.float32) / 2
    x = steps * scale.reshape([-1 if place == axis else 1 for place in range(5)])
    y = GraphExecutor(model).run(torch.from_numpy(x))
    model.opset_import[0].version = max(opset, 19)  # The reference knows none before.
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(y.numpy(), expected)


def test_wrong_inputs_name_the_node() -> None:
    executor = GraphExecutor(chain(2))
    with pytest.raises(ModelError, match=r"node 'v0' \(Conv\)") as caught:
        executor.run(torch.ones(1, 3, 4, 4, 4))
    assert caught.value.code == "model.operator"


def test_unknown_operators_are_refused() -> None:
    with pytest.raises(ModelError, match="LSTM"):
        GraphExecutor(graph_of([helper.make_node("LSTM", ["x"], ["y"])]))


@pytest.mark.parametrize("opset", [11, 12, 13])
def test_older_opsets(opset: int) -> None:
    """Axes and parts were attributes, and Softmax was of all the axes from one on."""
    if opset < 13:
        nodes = [
            helper.make_node("Split", ["x"], ["a", "b"], axis=1, split=[1, 2]),
            helper.make_node("ReduceSum", ["b"], ["c"], axes=[1], keepdims=0),
            helper.make_node("Unsqueeze", ["c"], ["d"], axes=[1]),
        ]
        weights = {}
    else:
        nodes = [
            helper.make_node("Split", ["x", "parts"], ["a", "b"], axis=1),
            helper.make_node("ReduceSum", ["b", "one"], ["c"], keepdims=0),
            helper.make_node("Unsqueeze", ["c", "one"], ["d"]),
        ]
        weights = {"parts": np.array([1, 2]), "one": np.array([1])}
    nodes += [
        helper.make_node("Sub", ["a", "d"], ["e"]),
        helper.make_node("Softmax", ["e"], ["y"], axis=1),
    ]
    x = torch.randn(2, 3, 2, 3, 4)
    e = x[:, :1] - x[:, 1:].sum(1, keepdim=True)
    expected = e.softmax(1) if opset >= 13 else e.flatten(1).softmax(1).reshape(e.shape)
    model = graph_of(nodes, weights, opset)
    torch.testing.assert_close(GraphExecutor(model).run(x), expected)
    torch.testing.assert_close(GraphExecutor(simplify(model)).run(x), expected)


@pytest.mark.parametrize(("length", "scale", "expected"), [(6, 5 / 3, 10), (10, 0.7, 7)])
def test_resized_lengths_are_those_of_single_precision(length, scale, expected):
    """As PyTorch and OpenVINO make them of the scales, which ONNX keeps in single precision."""
    scales = np.array([1, 1, scale, 1, 1], np.float32)
    model = graph_of(
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear")],
        {"scales": scales},
    )
    x = torch.rand(1, 1, length, 3, 2)
    found = GraphExecutor(model).run(x)
    core = openvino.Core()
    [others] = core.compile_model(core.read_model(model.SerializeToString()), "CPU")(
        x.numpy()
    ).values()
    assert found.shape == others.shape == (1, 1, expected, 3, 2)
    np.testing.assert_allclose(found.numpy(), others, atol=0.01)  # it may run in BF16


# Of ReduceLogSum, ONNX's reference leaves the logarithm out, too.
@pytest.mark.parametrize(
    "op_type",
    sorted(name for name in OPERATORS if name.startswith("Reduce") and name != "ReduceLogSum"),
)
def test_no_axes_may_mean_that_nothing_is_reduced(op_type):
    opset = 20 if op_type in ("ReduceMax", "ReduceMin") else 18
    model = graph_of([helper.make_node(op_type, ["x"], ["y"], noop_with_empty_axes=1)], None, opset)
    x = np.random.default_rng(0).random((1, 2, 3, 2, 2), np.float32) + 0.5
    [expected] = ReferenceEvaluator(model).run(None, {"x": x})
    assert expected.shape == x.shape
    np.testing.assert_allclose(GraphExecutor(model).run(torch.from_numpy(x)).numpy(), expected)
