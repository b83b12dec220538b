"""Transpositions written without their axes of one, for TensorRT 8.6.

A nested transformer puts blocks of tokens together into a volume by transpositions of up to eight
axes, that of a batch of one among them. 8.6 compiles such a transposition together with what lies
around it, and the engines of UNesT that came of that were wrong, for one patch only. An axis of one
never moves an element, so a transposition without it, between two Reshapes, is the same.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from medptq.graph.editing import add_constant, known_sizes, new_node, replace_by


def without_unit_axes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an equal graph in which no transposition has an axis of one.

    One that moves nothing but such axes becomes a Reshape. Its values' shapes must be known; where
    they are not, nothing changes.
    """
    rewritten = ir.from_proto(model)
    graph = rewritten.graph
    for node in list(graph):
        value = node.inputs[0] if node.inputs else None
        sizes = known_sizes(value)
        if node.op_type != "Transpose" or value is None or sizes is None or 1 not in sizes:
            continue
        order = node.attributes.get_ints("perm", list(range(len(sizes)))[::-1])
        name = node.name or f"{node.outputs[0].name}"
        kept = [axis for axis, size in enumerate(sizes) if size > 1]
        moved = [kept.index(axis) for axis in order if axis in kept]
        if moved != sorted(moved):
            small = _reshaped(graph, node, value, [sizes[axis] for axis in kept], f"{name}/small")
            turned = new_node("Transpose", [small], f"{name}/turned", {"perm": moved})
            graph.insert_before(node, turned)
            value = turned.outputs[0]
        whole = _reshaped(graph, node, value, [sizes[axis] for axis in order], f"{name}/large")
        replace_by(graph, node, whole)
    return ir.to_proto(rewritten)


def _reshaped(
    graph: ir.Graph, before: ir.Node, value: ir.Value, sizes: list[int], name: str
) -> ir.Value:
    shape = add_constant(graph, f"{name}/shape", np.array(sizes, np.int64))
    node = new_node("Reshape", [value, shape], name)
    graph.insert_before(before, node)
    return node.outputs[0]
