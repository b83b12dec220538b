"""A layer whose operands have few bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir
from torch import Tensor

from medptq.graph.operators import Node
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.edges import Edge, EdgedGraph
from medptq.quantization.simulation.granularity import CONVOLUTIONS
from medptq.quantization.simulation.grid import Grid
from medptq.quantization.simulation.weights import grid_of_weight


@dataclass
class LayerWeight:
    """The weight of a layer.

    Attributes:
        constant: Name of the executor's constant.
        axis: Axis of the output channels, or None.
        full: The weight in floating point.
        grid: Its grid.
        quantized: The value on the grid that each of its elements was given.
    """

    constant: str
    axis: int | None
    full: Tensor
    grid: Grid
    quantized: Tensor


@dataclass
class SimulatedLayer:
    """A node whose operands are quantized.

    Attributes:
        name: The node's name.
        op_type: Its operator.
        scheme: How it is quantized.
        edges: The activations that it reads quantized.
        weight: Its weight, if that is quantized.
        output: Name of its output.
        channel_axis: The axis of the output's channels.
        node: The node as the executor's operators take it.
        correction: Added to its output, in a shape that broadcasts; or None.
    """

    name: str
    op_type: str
    scheme: Scheme
    edges: tuple[Edge, ...]
    weight: LayerWeight | None
    output: str
    channel_axis: int
    node: Node
    correction: Tensor | None = None


def layer_of(
    graph: EdgedGraph, node: ir.Node, scheme: Scheme, constants: Mapping[str, Tensor], opset: int
) -> SimulatedLayer:
    """Return a layer with each weight on the nearest value of its grid.

    Args:
        graph: The network.
        node: A node of it with edges.
        scheme: How it is quantized.
        constants: The executor's constants by name, the weight among them.
        opset: The graph's version of the operators.
    """
    weight, channel_axis = None, 1 if node.op_type in CONVOLUTIONS else -1
    for place in graph.weights:
        if place.node == node.name:
            full = constants[place.value]
            grid = grid_of_weight(full, place.axis, scheme)
            weight = LayerWeight(place.value, place.axis, full, grid, grid.nearest(full))
    return SimulatedLayer(
        name=f"{node.name}",
        op_type=node.op_type,
        scheme=scheme,
        edges=tuple(edge for edge in graph.edges if edge.node == node.name),
        weight=weight,
        output=f"{node.outputs[0].name}",
        channel_axis=channel_axis,
        node=Node.from_proto(ir.to_proto(node), opset),
    )
