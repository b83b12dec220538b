"""Scales of an activation's channels, moved into the weights that read them.

A sum of products over channels has one scale in integer arithmetic. So each channel is divided by
its own scale before all are quantized by one, and the weights that read it are multiplied by it
before they are quantized: the layer computes what it did. (As SmoothQuant does with a part of the
scale, arXiv 2211.10438; here it is all of it.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from medptq.graph.editing import add_constant, constant_of, new_node
from medptq.quantization.simulation.edges import Edge, EdgedGraph
from medptq.quantization.simulation.grid import Grid

_LARGEST_FACTOR = 2.0**12
"""A channel that hardly lives is not enlarged beyond what BF16 and FP16 can hold."""


def can_fold(graph: EdgedGraph, edge: Edge) -> bool:
    """Tell whether the scales of an edge's channels can be moved into a weight."""
    node = graph.nodes[edge.node]
    weight = node.inputs[1] if edge.operand == 0 and len(node.inputs) > 1 else None
    if weight is None or all(place.node != edge.node for place in graph.weights):
        return False
    if node.op_type == "MatMul":
        return weight.shape is not None and len(weight.shape) == 2
    return node.attributes.get_int("transA", 0) == 0


def fold_channel_scales(
    graph: EdgedGraph, grids: Mapping[str, Grid]
) -> tuple[EdgedGraph, dict[str, Grid]]:
    """Give each edge whose channels have scales of their own one scale, and the same function.

    Args:
        graph: The network, which is left as it is.
        grids: The grid of each edge's value; those with several scales are of edges that can be
            folded.

    Returns:
        The network with a multiplication before each such edge, from which the edge's ``tensor``
        then comes, and with other weights; and all grids.
    """
    model = ir.from_proto(graph.model)
    makers = {node.outputs[0].name: node for node in model.graph}
    scaled: dict[tuple[str, bytes], ir.Value] = {}
    edges, found = [], dict(grids)
    for edge in graph.edges:
        grid = grids.get(edge.value)
        if grid is None or grid.scale.numel() == 1:
            edges.append(edge)
            continue
        whole = grid.scale.max()
        factors = (whole / grid.scale).clamp(max=_LARGEST_FACTOR).cpu().numpy()
        found[edge.value] = replace(grid, scale=whole)
        reader = makers[edge.value]
        key = (edge.tensor, factors.tobytes())
        if key not in scaled:
            scaled[key] = _insert_product(model.graph, reader, factors)
        reader.replace_input_with(0, scaled[key])
        edges.append(replace(edge, tensor=f"{scaled[key].name}"))
        [place] = (place for place in graph.weights if place.node == edge.node)
        _divide_weight(model.graph, makers[place.value], graph.nodes[edge.node], factors)
    if len(scaled) == 0:
        return graph, found
    RemoveUnusedNodesPass()(model)
    return replace(graph, model=ir.to_proto(model), edges=tuple(edges)), found


def _insert_product(graph: ir.Graph, reader: ir.Node, factors: NDArray[np.float32]) -> ir.Value:
    source, name = reader.inputs[0], f"{reader.name}/channels"
    product = new_node("Mul", [source, add_constant(graph, f"{name}/factors", factors)], name)
    graph.insert_before(reader, product)
    if source is not None:
        product.outputs[0].shape, product.outputs[0].type = source.shape, source.type
    return product.outputs[0]


def _divide_weight(
    graph: ir.Graph, reader: ir.Node, layer: ir.Node, factors: NDArray[np.float32]
) -> None:
    weight = constant_of(reader, 0)
    if weight is None:
        raise ValueError(f"{layer.name} has no constant weight")
    shares = factors.astype(np.float64).reshape(-1)
    if layer.op_type == "Conv":
        # [O, C / groups, *kernel], where each group's filters read its channels.
        groups = layer.attributes.get_int("group", 1)
        shares = np.repeat(shares.reshape(groups, -1), len(weight) // groups, axis=0)
        shares = shares.reshape(*shares.shape, *[1] * (weight.ndim - 2))
    elif not layer.attributes.get_int("transB", 0):
        shares = shares.reshape(-1, *[1] * (weight.ndim - 1))
    folded = (weight / shares).astype(np.float32)
    reader.replace_input_with(0, add_constant(graph, f"{reader.name}/folded", folded))
