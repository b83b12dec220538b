"""A copy of a graph in which each input of each layer has a name of its own.

One activation can be read by layers that quantize it differently. An Identity node before each
reader gives every edge of the graph a value that can be replaced alone; the executor passes
Identity nodes through without a copy, and computes those after weights once and for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir

from medptq.graph.editing import new_node
from medptq.quantization.placement import Placement
from medptq.quantization.scheme import ActivationGranularity
from medptq.quantization.simulation.granularity import Groups, groups_of


@dataclass(frozen=True)
class Edge:
    """An activation as one node reads it.

    Attributes:
        node: Name of the node.
        operand: Which of its inputs.
        tensor: Name of the activation.
        value: Name of the edge's own value.
    """

    node: str
    operand: int
    tensor: str
    value: str


@dataclass(frozen=True)
class WeightEdge:
    """A weight as one node reads it.

    Attributes:
        node: Name of the node.
        value: Name of the edge's own constant.
        axis: Axis of the output channels, or None where the weight has none.
    """

    node: str
    value: str
    axis: int | None


@dataclass(frozen=True)
class EdgedGraph:
    """A graph with a value on each edge that is quantized.

    Attributes:
        model: The graph.
        nodes: The nodes that have such edges, by name, in the order in which they run.
        edges: Activations.
        weights: Weights.
        tied: Groups of activations that share one range.
        rewritten: Names of the nodes of the original graph that others stand for.
    """

    model: onnx.ModelProto
    nodes: dict[str, ir.Node]
    edges: tuple[Edge, ...]
    weights: tuple[WeightEdge, ...]
    tied: tuple[frozenset[str], ...]
    rewritten: tuple[str, ...] = ()

    def groups(self, edge: Edge, granularity: ActivationGranularity) -> Groups:
        """Return how an edge's values are divided."""
        return groups_of(self.nodes[edge.node], edge.operand, granularity)


def with_edges(model: ir.Model, placement: Placement) -> EdgedGraph:
    """Insert the Identity nodes, in place.

    Args:
        model: Simplified graph; every node and value has a name.
        placement: Which inputs of which nodes are quantized.
    """
    nodes = {f"{node.name}": node for node in model.graph}
    edges = []
    for point in placement.inputs:
        value = _insert(model.graph, nodes[point.node], point.index)
        edges.append(Edge(point.node, point.index, point.tensor, value))
    weights = tuple(
        WeightEdge(weight.node, _insert(model.graph, nodes[weight.node], weight.index), weight.axis)
        for weight in placement.weights
    )
    touched = {edge.node for edge in edges} | {weight.node for weight in weights}
    return EdgedGraph(
        ir.to_proto(model),
        {name: node for name, node in nodes.items() if name in touched},
        tuple(edges),
        weights,
        placement.tied,
    )


def _insert(graph: ir.Graph, node: ir.Node, index: int) -> str:
    value = node.inputs[index]
    identity = new_node("Identity", [value], f"{node.name}/operand_{index}")
    if value is not None:  # a kernel's size decides how its layer's input is divided
        identity.outputs[0].shape, identity.outputs[0].type = value.shape, value.type
    graph.insert_before(node, identity)
    node.replace_input_with(index, identity.outputs[0])
    return f"{identity.outputs[0].name}"
