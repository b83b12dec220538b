"""Reshapes and transpositions that cancel out are one Reshape, and nothing else changes."""

from __future__ import annotations

import math

import onnx
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from medptq.engines.tensorrt_detours import without_detours
from medptq.engines.tensorrt_graph import with_input_shape
from medptq.graph.executor import GraphExecutor
from medptq.models.architectures.building import build_network
from quantization_helpers import export
from small_networks import SMALL
from tensorrt_networks import image, run

Step = tuple[str, tuple[int, ...]]


def graph_of(shape: tuple[int, ...], steps: list[Step]) -> onnx.ModelProto:
    """Make a graph of reshapes and transpositions, with a ReLU before and behind."""
    nodes = [helper.make_node("Relu", ["image"], ["v"])]
    constants, value = [], "v"
    for place, (kind, numbers) in enumerate(steps):
        result = f"v{place}"
        if kind == "Transpose":
            nodes.append(helper.make_node(kind, [value], [result], perm=numbers))
        else:
            target = torch.tensor(numbers, dtype=torch.int64).numpy()
            constants.append(numpy_helper.from_array(target, f"shape{place}"))
            nodes.append(helper.make_node(kind, [value, f"shape{place}"], [result]))
        value = result
    nodes.append(helper.make_node("Relu", [value], ["out"]))
    graph = helper.make_graph(
        nodes,
        "steps",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def values(model: onnx.ModelProto, shape: tuple[int, ...]) -> torch.Tensor:
    image = torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)
    with torch.inference_mode():
        return GraphExecutor(model).run(image)


@st.composite
def any_steps(draw: st.DrawFn, of: tuple[int, ...]) -> tuple[tuple[int, ...], list[Step]]:
    """Draw shapes of the same factors in any grouping, and permutations of their axes."""
    factors = draw(st.lists(st.sampled_from(of), min_size=2, max_size=5))

    def grouping() -> tuple[int, ...]:
        order = draw(st.permutations(factors))
        parts: list[int] = []
        for factor in order:
            if parts and draw(st.booleans()):
                parts[-1] *= factor
            else:
                parts.append(factor)
        return tuple(parts)

    shape = now = grouping()
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.booleans()):
            now = grouping()
            steps.append(("Reshape", now))
        else:
            axes = tuple(draw(st.permutations(range(len(now)))))
            steps.append(("Transpose", axes))
            now = tuple(now[axis] for axis in axes)
    return shape, steps


@given(any_steps((1, 2, 3, 4)))
def test_the_elements_keep_their_order(drawn):
    shape, steps = drawn
    plain = graph_of(shape, steps)
    straight = without_detours(plain)
    onnx.checker.check_model(straight)
    assert torch.equal(values(straight, shape), values(plain, shape))
    assert kinds(straight).count("Transpose") <= kinds(plain).count("Transpose")


@given(any_steps((1, 2)))  # so that axes always divide
def test_what_is_undone_step_by_step_is_gone(drawn):
    shape, steps = drawn
    back: list[Step] = []
    now = shape
    for kind, numbers in steps:
        if kind == "Transpose":
            back.append((kind, tuple(numbers.index(axis) for axis in range(len(numbers)))))
            now = tuple(now[axis] for axis in numbers)
        else:
            back.append((kind, now))
            now = numbers
    plain = graph_of(shape, [*steps, *reversed(back)])
    straight = without_detours(plain)
    assert torch.equal(values(straight, shape), values(plain, shape))
    assert "Transpose" not in kinds(straight)


def test_tokens_of_one_block_are_read_as_they_are():
    # As at the end of UNesT: a block of 2³ tokens becomes a volume, and tokens again.
    steps: list[Step] = [
        ("Reshape", (1, 1, 1, 1, 2, 2, 2, 5)),
        ("Transpose", (0, 7, 1, 4, 2, 5, 3, 6)),
        ("Reshape", (1, 5, 2, 2, 2)),
        ("Transpose", (0, 2, 3, 4, 1)),
    ]
    plain = graph_of((1, 8, 5), steps)
    straight = without_detours(plain)
    assert kinds(straight) == ["Relu", "Reshape", "Relu"]
    assert torch.equal(values(straight, (1, 8, 5)), values(plain, (1, 8, 5)))
    # Of the volume itself nothing is taken away.
    assert kinds(without_detours(graph_of((1, 8, 5), steps[:3]))) == kinds(
        graph_of((1, 8, 5), steps[:3])
    )


def test_unknown_shapes_are_left_alone():
    plain = graph_of((1, 8, 5), [("Transpose", (0, 2, 1)), ("Transpose", (0, 2, 1))])
    del plain.graph.value_info[:]
    plain.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "tokens"
    assert kinds(without_detours(plain)) == kinds(plain)


def test_a_nested_transformer_says_the_same(tmp_path):
    options, patch = SMALL["unest"]
    shape = (1, 1, *patch)
    network = build_network("unest", **options)
    graph = with_input_shape(export(network, shape, tmp_path / "net.onnx"), shape)
    straight = without_detours(graph)
    assert kinds(straight).count("Transpose") < kinds(graph).count("Transpose")
    assert torch.equal(run(straight, image(shape)), run(graph, image(shape)))
