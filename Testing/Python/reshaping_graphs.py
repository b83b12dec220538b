"""Graphs of reshapes and transpositions, any that there can be."""

from __future__ import annotations

import math

import onnx
import torch
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from medptq.graph.executor import GraphExecutor

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
