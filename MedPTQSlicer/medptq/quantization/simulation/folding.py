"""Scales of an activation's channels, moved into the weights that read them.

A sum of products over channels has one scale in integer arithmetic. So each channel is divided by
its own scale before all are quantized by one, and the weights that read it are multiplied by it
before they are quantized: the layer computes what it did. (As SmoothQuant does with a part of the
scale, arXiv 2211.10438; here it is all of it.) A channel is divided where it is made, if nothing
else reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from medptq.graph.editing import constant_of, replace_constant
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.edges import Edge, EdgedGraph
from medptq.quantization.simulation.grid import Grid
from medptq.quantization.simulation.makers import multiply_channels

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
    graph: EdgedGraph, grids: Mapping[str, Grid], schemes: Mapping[str, Scheme]
) -> tuple[EdgedGraph, dict[str, Grid]]:
    """Give each edge whose channels have scales of their own one scale, and the same function.

    Args:
        graph: The network, which is left as it is.
        grids: The grid of each edge's value; those with several scales are of edges that can be
            folded.
        schemes: How each quantized node is.

    Returns:
        The network with other weights, and with channels that are scaled where they are made, or,
        where that cannot be, by a multiplication before such edges, from which their ``tensor``
        then comes; and all grids.
    """
    model = ir.from_proto(graph.model)
    makers = {node.outputs[0].name: node for node in model.graph}
    factors_of: dict[str, NDArray[np.float32]] = {}
    found = dict(grids)
    for edge in graph.edges:
        grid = grids.get(edge.value)
        if grid is None or grid.scale.numel() == 1:
            continue
        whole = grid.scale.max()
        factors = (whole / grid.scale).clamp(max=_LARGEST_FACTOR).cpu().numpy()
        factors_of[edge.value] = factors
        found[edge.value] = replace(grid, scale=whole)
        [place] = (place for place in graph.weights if place.node == edge.node)
        _divide_weight(model.graph, makers[place.value], graph.nodes[edge.node], factors)
    if not factors_of:
        return graph, found
    by_channel = {
        place.node: makers[place.value]
        for place in graph.weights
        if place.node not in schemes
        or (place.axis is not None and schemes[place.node].weight_granularity == "channel")
    }
    tensors: dict[str, str] = {}
    for group in _alike(graph.edges, factors_of):
        factors = factors_of[group[0].value]
        readers = [makers[edge.value] for edge in group]
        source = readers[0].inputs[0]
        if source is None:
            raise ValueError(f"{group[0].value} has no source")
        read = multiply_channels(model.graph, source, readers, factors, by_channel)
        tensors |= dict.fromkeys((edge.value for edge in group), f"{read.name}")
    RemoveUnusedNodesPass()(model)
    edges = [replace(edge, tensor=tensors.get(edge.value, edge.tensor)) for edge in graph.edges]
    return replace(graph, model=ir.to_proto(model), edges=tuple(edges)), found


def _alike(
    edges: Iterable[Edge], factors_of: Mapping[str, NDArray[np.float32]]
) -> Iterable[list[Edge]]:
    """Group the edges that have factors by what they come from and the factors."""
    groups: dict[tuple[str, bytes], list[Edge]] = {}
    for edge in edges:
        if edge.value in factors_of:
            key = edge.tensor, factors_of[edge.value].tobytes()
            groups.setdefault(key, []).append(edge)
    return groups.values()


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
    replace_constant(graph, reader, 0, weight / shares)
