"""Which values of a layer's input share a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from medptq.quantization.scheme import ActivationGranularity

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
PRODUCTS = frozenset({"Gemm", "MatMul"})


@dataclass(frozen=True)
class Groups:
    """A partition of an activation's values: those of a group share a scale.

    Attributes:
        of: What a group is: the whole ``tensor``; one of the ``channels``, which sees many values
            in each patch; or one of the ``positions``, which sees few.
        channel_axis: The axis of the channels, from the front or from the end.
    """

    of: Literal["tensor", "channels", "positions"]
    channel_axis: int = 1

    def inner_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes of a tensor of that rank that lie within its groups."""
        channel = max(self.channel_axis, -rank) % rank
        if self.of == "positions":
            return (channel,)
        return tuple(axis for axis in range(rank) if self.of == "tensor" or axis != channel)


WHOLE = Groups("tensor")


def groups_of(node: ir.Node, operand: int, granularity: ActivationGranularity) -> Groups:
    """Return how an operand of a node is divided.

    Args:
        node: A node that reads the activation; anything but a convolution or a matrix product
            has one scale.
        operand: Which of its inputs the activation is.
        granularity: See :class:`medptq.quantization.scheme.Scheme`.
    """
    if granularity == "tensor" or node.op_type not in CONVOLUTIONS | PRODUCTS:
        return WHOLE
    if node.op_type in CONVOLUTIONS:
        by_position = granularity == "voxel" or (granularity == "adaptive" and _is_pointwise(node))
        return Groups("positions" if by_position else "channels", 1)
    summed = _summed_axis(node, operand)
    return Groups("channels" if granularity == "channel" else "positions", summed)


def _is_pointwise(node: ir.Node) -> bool:
    weight = node.inputs[1]
    return (
        weight is not None
        and weight.shape is not None
        and all(size == 1 for size in list(weight.shape)[2:])
    )


def _summed_axis(node: ir.Node, operand: int) -> int:
    """Return the axis that a matrix product sums over."""
    if operand == 0:
        return 0 if node.attributes.get_int("transA", 0) else -1
    return -2
