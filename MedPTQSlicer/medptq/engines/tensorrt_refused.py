"""Which layers TensorRT cannot build in INT8, from what it says when a build fails.

It may name them, or a layer that only moves values: what is quantized behind that it quantizes in
front of it, and then has no kernel for it (STU-Net's upsampling). It names one at a time, and would
name each in a build of its own; so one stands for all of its kind. Else what it says stands for a
pattern in the graph that TensorRT 8.6 is known to trip over: the builds that told so are SegResNet,
VISTA3D and MedFormer for the residual additions, UNETR and Swin UNETR for the matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx
import onnx_ir as ir

from medptq.engines.tensorrt_placement import Placement
from medptq.engines.tensorrt_profile import named_in
from medptq.graph.editing import constant_of

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_MOVERS = ("Resize", "MaxPool", "ConvTranspose", "Concat")


def refused_in(message: str, graph: onnx.ModelProto, placement: Placement) -> frozenset[str]:
    """Return the layers of a placement that a failed build's message is about; none if unknown.

    Args:
        message: What TensorRT said.
        graph: The graph that the placement is of, with all its Q/DQ nodes.
        placement: What should have run in INT8.
    """
    named = named_in(message, placement.nodes)
    if named:
        return named
    behind = _behind_what_is_named(message, graph, placement)
    if behind:
        return behind
    for words, is_meant in _PATTERNS.items():
        if words in message:
            return frozenset(
                f"{node.name}"
                for node in ir.from_proto(graph).graph
                if node.name in placement.nodes and is_meant(node, placement)
            )
    return frozenset()


def _behind_what_is_named(
    message: str, graph: onnx.ModelProto, placement: Placement
) -> frozenset[str]:
    """Return the layers of a placement that read what a layer of a named one's kind hands on."""
    movers = [node for node in ir.from_proto(graph).graph if node.op_type in _MOVERS]
    named = named_in(message, [f"{node.name}" for node in movers])
    kinds = {node.op_type for node in movers if node.name in named}
    return frozenset(
        f"{reader.name}"
        for node in movers
        if node.op_type in kinds
        for reader in _readers(node.outputs[0], past=(*_PAIR, "Concat"))
        if reader.name in placement.nodes
    )


def _ends_in_an_addition(node: ir.Node, placement: Placement) -> bool:
    """Tell whether a convolution is added to what stays in floating point.

    TensorRT fuses the two, and has no kernel that computes in INT8 and adds in FP16.
    """
    return node.op_type == "Conv" and any(
        reader.op_type == "Add" and reader.name not in placement.nodes
        for reader in _readers(node.outputs[0])
    )


def _has_integer_weights(node: ir.Node, _: Placement) -> bool:
    """Tell whether it is a matrix product of tokens with weights, not one of attention's."""
    weight = node.inputs[1].producer() if node.op_type in ("Gemm", "MatMul") else None  # type: ignore[union-attr]
    return (
        weight is not None
        and weight.op_type == "DequantizeLinear"
        and constant_of(weight, 0) is not None
    )


def _readers(value: ir.Value, past: tuple[str, ...] = _PAIR) -> Iterator[ir.Node]:
    """Yield what reads a value, past Q/DQ pairs or other nodes of some kinds."""
    for node, _ in value.uses():
        if node.op_type in past:
            yield from _readers(node.outputs[0], past)
        else:
            yield node


_PATTERNS: dict[str, Callable[[ir.Node, Placement], bool]] = {
    "incorrectly marked as an int8 node": _ends_in_an_addition,
    "weights.type() != DataType::kINT8": _has_integer_weights,
}
