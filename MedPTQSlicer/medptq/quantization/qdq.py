"""Writing QuantizeLinear and DequantizeLinear nodes, and weights as INT8, into a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from medptq.graph.editing import add_constant, new_node
from medptq.quantization.arithmetic import quantize_weight, symmetric_scale
from medptq.quantization.placement import Placement, QuantizedWeight


def insert_qdq(
    model: ir.Model, placement: Placement, thresholds: Mapping[str, float]
) -> dict[str, float]:
    """Quantize a graph in place.

    Each activation of the placement gets one QuantizeLinear/DequantizeLinear pair, shared by all
    the nodes that read it quantized; nodes that read it unquantized keep the original. Each
    weight is stored as INT8 with a DequantizeLinear after it. Zero points are 0 throughout.

    Args:
        model: Graph of opset 13 or newer whose constants are initializers.
        placement: What to quantize.
        thresholds: For each activation of the placement, the magnitude that becomes 127.

    Returns:
        The scale of each activation by name, as it stands in the graph.
    """
    graph = model.graph
    nodes = {node.name: node for node in graph}
    tied = {name: group for group in placement.tied for name in group}
    scales: dict[str, float] = {}
    pairs: dict[str, ir.Value] = {}
    for point in placement.inputs:
        node = nodes[point.node]
        if point.tensor not in pairs:
            group = tied.get(point.tensor, frozenset([point.tensor]))
            scale = symmetric_scale(max(thresholds[name] for name in group))
            scales[point.tensor] = float(scale)
            value = node.inputs[point.index]
            if value is None:
                raise ValueError(f"{point.node} has no input {point.index}")
            pairs[point.tensor] = insert_pair(graph, value, scale, point.tensor)
        node.replace_input_with(point.index, pairs[point.tensor])
    dequantized: dict[tuple[str, int | None], ir.Value] = {}
    for weight in placement.weights:
        node = nodes[weight.node]
        key = (weight.tensor, weight.axis)
        if key not in dequantized:
            dequantized[key] = _stored(graph, node, weight)
        node.replace_input_with(weight.index, dequantized[key])
    # What was a weight in FP32, here or before a rewrite, must not stay in the file.
    RemoveUnusedNodesPass()(model)
    return scales


def insert_pair(
    graph: ir.Graph, value: ir.Value, scale: NDArray[np.float32], name: str
) -> ir.Value:
    """Insert QuantizeLinear and DequantizeLinear behind the maker of a value.

    Args:
        graph: Is changed; what reads the value still does.
        value: An activation.
        scale: A scalar.
        name: What the new nodes and constants are named after; new in the graph.

    Returns:
        The value as it comes from the pair.
    """
    operands = [
        add_constant(graph, f"{name}/scale", scale),
        add_constant(graph, f"{name}/zero_point", np.int8(0)),
    ]
    quantize = new_node("QuantizeLinear", [value, *operands], f"{name}/quantize")
    dequantize = new_node(
        "DequantizeLinear", [quantize.outputs[0], *operands], f"{name}/dequantize"
    )
    insert_behind(graph, value, [quantize, dequantize])
    dequantize.outputs[0].shape, dequantize.outputs[0].type = value.shape, value.type
    return dequantize.outputs[0]


def insert_behind(graph: ir.Graph, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
    """Insert nodes behind the maker of a value, or at the beginning if that is the input."""
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], nodes)
    else:
        graph.insert_after(producer, nodes)


def store_weight(
    graph: ir.Graph,
    reader: ir.Node,
    name: str,
    integers: NDArray[np.int8],
    scale: NDArray[np.float32],
    axis: int | None,
) -> ir.Value:
    """Put a weight into the graph as INT8 with a DequantizeLinear.

    Args:
        graph: Is changed.
        reader: The node before which the new one is put.
        name: What it and its constants are named after; new in the graph.
        integers: The weight, from -127 to 127.
        scale: [channels], or a scalar where ``axis`` is None.
        axis: Axis that each has its own scale along.

    Returns:
        The weight as it comes from the new node.
    """
    operands = [
        add_constant(graph, f"{name}/int8", integers),
        add_constant(graph, f"{name}/scale", scale),
        add_constant(graph, f"{name}/zero_point", np.zeros(scale.shape, np.int8)),
    ]
    attributes = {} if axis is None else {"axis": axis}
    dequantize = new_node("DequantizeLinear", operands, f"{name}/dequantize", attributes)
    graph.insert_before(reader, dequantize)
    return dequantize.outputs[0]


def _stored(graph: ir.Graph, node: ir.Node, weight: QuantizedWeight) -> ir.Value:
    constant = graph.initializers[weight.tensor].const_value
    if constant is None:
        raise ValueError(f"{weight.tensor} is no constant")
    integers, scale = quantize_weight(constant.numpy(), weight.axis)
    return store_weight(graph, node, weight.tensor, integers, scale, weight.axis)
