"""Factors for an activation's channels, put into the constants that make the channels.

A channel is multiplied for nothing where a weight, a bias or a normalization's scale makes it, and
what lies between is positively homogeneous. Elsewhere it costs a multiplication, which an engine
may join with the quantization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from medptq.graph.editing import add_constant, constant_of, new_node, replace_constant

HOMOGENEOUS = frozenset(
    {
        *("Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool"),
        *("GlobalAveragePool", "GlobalMaxPool", "Resize"),
    }
)
"""Operators of one activation that are positively homogeneous: f(s x) = s f(x) for s > 0."""


@dataclass(frozen=True)
class _Constant:
    """A constant to be multiplied.

    Attributes:
        node: What reads it.
        index: Which of the node's inputs it is.
        axis: Its axis of the channels.
    """

    node: ir.Node
    index: int
    axis: int


def multiply_channels(
    graph: ir.Graph,
    value: ir.Value,
    readers: Sequence[ir.Node],
    factors: NDArray[np.float32],
    weights: Mapping[str, ir.Node],
) -> ir.Value:
    """Multiply the channels of an activation for some of its readers.

    It is done in the constants that make the channels, if these are a layer's or a
    normalization's and nobody else sees the difference; if not, by a multiplication.

    Args:
        graph: The graph that all of it is in.
        value: The activation; of volumes [N, C, D, H, W], or of tokens, whose channels are last.
        readers: What reads it, as their first input, in the order of the graph.
        factors: Above 0; a number for each channel, in a shape of the activation's rank that
            broadcasts to it.
        weights: The convolutions whose weights may be multiplied along their output channels, by
            name, with what their weight is the first input of.

    Returns:
        What the readers read afterwards.
    """
    places = _constants(value, readers, factors, weights)
    if places is None:
        name = f"{readers[0].name}/channels"
        product = new_node("Mul", [value, add_constant(graph, f"{name}/factors", factors)], name)
        graph.insert_before(readers[0], product)
        multiplied = product.outputs[0]
        multiplied.shape, multiplied.type = value.shape, value.type
        for reader in readers:
            reader.replace_input_with(0, multiplied)
        return multiplied
    for place in places:
        array = constant_of(place.node, place.index)
        if array is None:
            raise ValueError(f"{place.node.name} has no constant {place.index}")
        shape = [-1 if axis == place.axis % array.ndim else 1 for axis in range(array.ndim)]
        replace_constant(graph, place.node, place.index, array * factors.reshape(shape))
    return value


def _constants(
    value: ir.Value,
    readers: Sequence[ir.Node],
    factors: NDArray[np.float32],
    weights: Mapping[str, ir.Node],
) -> list[_Constant] | None:
    """Return the constants that make an activation's channels; None if others do."""
    axis = 1 - factors.ndim if factors.shape[1] == factors.size else -1  # counted from the end
    found: list[_Constant] = []
    while not value.is_graph_output() and {use.node for use in value.uses()} <= set(readers):
        node = value.producer()
        source = None if node is None or not node.inputs else node.inputs[0]
        if node is None or source is None:
            return None
        if node.op_type in HOMOGENEOUS and len(node.outputs) == 1:
            value, readers = source, [node]
        elif node.op_type in ("Add", "Mul"):
            index = _constant_operand(node, axis, factors.size)
            other = None if index is None else node.inputs[1 - index]
            if index is None or other is None or other.shape != node.outputs[0].shape:
                return None
            found.append(_Constant(node, index, axis))
            if node.op_type == "Mul":
                return found
            value, readers = other, [node]
        else:
            made = _of_maker(node, axis, factors.ndim, weights)
            return None if made is None else [*found, *made]
    return None


def _constant_operand(node: ir.Node, axis: int, channels: int) -> int | None:
    """Return which operand is a number for each channel."""
    for index in range(2):
        constant = constant_of(node, index)
        if constant is not None and constant.ndim >= -axis:
            is_by_channel = constant.shape[axis] == constant.size == channels
            return index if is_by_channel else None
    return None


def _of_maker(
    node: ir.Node, axis: int, rank: int, weights: Mapping[str, ir.Node]
) -> list[_Constant] | None:
    normalized = node.attributes.get_int("axis", -1)
    by_channel = {
        "InstanceNormalization": axis != -1,
        "LayerNormalization": axis == -1 and normalized in (-1, rank - 1),
    }
    rest = range(1, len(node.inputs))
    if node.op_type == "Conv" and f"{node.name}" in weights:
        found = [_Constant(weights[f"{node.name}"], 0, 0)]
        found += [_Constant(node, index, 0) for index in rest[1:] if node.inputs[index] is not None]
    elif by_channel.get(node.op_type):
        found = [_Constant(node, index, 0) for index in rest if node.inputs[index] is not None]
    else:
        return None
    arrays = [constant_of(place.node, place.index) for place in found]
    return None if any(array is None for array in arrays) else found
