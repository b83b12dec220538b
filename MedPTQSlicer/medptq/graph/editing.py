"""The small steps that every rewrite of a graph is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def add_constant(graph: ir.Graph, name: str, array: NDArray[np.generic] | np.generic) -> ir.Value:
    """Add an initializer of that name, which must be new, and return it."""
    tensor = ir.tensor(np.array(array, order="C"), name=name)
    value = ir.val(name, const_value=tensor)
    graph.register_initializer(value)
    return value


def constant_of(node: ir.Node, index: int) -> NDArray[Any] | None:
    """Return the array that a node's input is, or None if it is none or not constant."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def known_sizes(value: ir.Value | None) -> list[int] | None:
    """Return the sizes of a value's axes, or None if one of them or their number is not known."""
    shape = None if value is None else value.shape
    if shape is None:
        return None
    sizes = [size for size in shape if isinstance(size, int)]
    return sizes if len(sizes) == len(shape) else None


def replace_constant(graph: ir.Graph, node: ir.Node, index: int, array: NDArray[Any]) -> None:
    """Give a node a constant of its own, in FP32; others may read the one that it had."""
    old, name = node.inputs[index], f"{node.name}/own_{index}"
    while name in graph.initializers:
        name += "_"
    node.replace_input_with(index, add_constant(graph, name, array.astype(np.float32)))
    if old is not None and old.name in graph.initializers and not old.uses():
        del graph.initializers[f"{old.name}"]


def new_node(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    attributes: dict[str, Any] | None = None,
) -> ir.Node:
    """Return a node of one output, which is named after it; it is in no graph yet."""
    node = ir.node(op_type, inputs, attributes, name=name)
    node.outputs[0].name = f"{name}_output"
    return node


def replace_by(graph: ir.Graph, node: ir.Node, result: ir.Value) -> None:
    """Let ``result`` take the place and the name of the node's only output; remove the node."""
    old = node.outputs[0]
    name, old.name = old.name, None
    result.shape, result.type = old.shape, old.type
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    result.name = name
