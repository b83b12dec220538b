"""Depthwise convolutions written as grouped ones, for TensorRT 8.6.

For groups of one channel 8.6 has few kernels of its own in 3D. It times all those for groups, too,
each of which runs one group after the other, so that layers of many channels take most of a build.
With up to 32 channels to a group they run as they are made to, although all weights of a kernel but
those of one channel are zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from medptq.graph.editing import add_constant, constant_of, new_node

_MOST, _LEAST = 32, 8
"""Channels of a group."""


def in_groups(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an equal graph in which each group of a convolution in 3D has several channels.

    Only where each group had one, which it made one of, and if their number has a divisor of
    between 8 and 32. Weights may be of floating point or integers behind a DequantizeLinear.
    """
    rewritten = ir.from_proto(model)
    graph = rewritten.graph
    for node in list(graph):
        if node.op_type != "Conv":
            continue
        value = node.inputs[1]
        dequantize = None if value is None else value.producer()
        weights = constant_of(node, 1) if dequantize is None else _integers(dequantize)
        if weights is None or weights.ndim != 5 or weights.shape[1] != 1:
            continue
        channels = len(weights)
        size = max(count for count in range(1, _MOST + 1) if channels % count == 0)
        if node.attributes.get_int("group", 1) != channels or size < _LEAST:
            continue
        own = add_constant(graph, f"{node.name}/in_groups", _block_diagonal(weights, size))
        if dequantize is not None:
            name = f"{node.name}/dequantize_groups"
            attributes = {
                name: attribute.value for name, attribute in dequantize.attributes.items()
            }
            again = new_node("DequantizeLinear", [own, *dequantize.inputs[1:]], name, attributes)
            graph.insert_before(node, again)
            own = again.outputs[0]
        node.replace_input_with(1, own)
        node.attributes["group"] = ir.AttrInt64("group", channels // size)
    RemoveUnusedNodesPass()(rewritten)
    return ir.to_proto(rewritten)


def _integers(node: ir.Node) -> NDArray[Any] | None:
    """Return the constant that a DequantizeLinear reads, in which a zero means zero.

    None if it is none, or if its scales are not per output channel.
    """
    if node.op_type != "DequantizeLinear":
        return None
    scale, zero = constant_of(node, 1), constant_of(node, 2)
    if scale is None or (scale.size > 1 and node.attributes.get_int("axis", 1) != 0):
        return None
    if zero is not None and zero.any():
        return None
    return constant_of(node, 0)


def _block_diagonal(weights: NDArray[Any], size: int) -> NDArray[Any]:
    """Return weights [C, 1, ...] as [C, size, ...], all zero but for each channel's own."""
    channels = len(weights)
    blocks = np.zeros((channels, size, *weights.shape[2:]), weights.dtype)
    places = np.arange(channels)
    blocks[places, places % size] = weights[:, 0]
    return blocks
