"""Where quantization goes in a graph, for each engine.

What is quantized are the inputs of a node, never its outputs: an activation that several nodes
read is quantized once, and an engine fuses each Q/DQ pair with the node after it.

OpenVINO's policy quantizes convolutions and linear layers, and what joins their results: residual
additions and concatenations. One of these left in floating point breaks the chain: the feature maps
before it are widened and those after it narrowed again, which costs more than the joining itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import onnx_ir as ir

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_MERGING = ("Add", "Concat")


@dataclass(frozen=True)
class QuantizedInput:
    """One input of one node that is to be quantized.

    Attributes:
        node: Name of the node.
        index: Which of its inputs.
        tensor: Name of the value.
    """

    node: str
    index: int
    tensor: str


@dataclass(frozen=True)
class QuantizedWeight:
    """One constant that is to be stored as INT8.

    Attributes:
        node: Name of the node that reads it.
        index: Which of its inputs.
        tensor: Name of the initializer.
        axis: Axis along which each channel has its own scale, or None for one scale.
    """

    node: str
    index: int
    tensor: str
    axis: int | None


@dataclass(frozen=True)
class Placement:
    """What is to be quantized in a graph.

    Attributes:
        inputs: Activations, node by node.
        weights: Weights, node by node.
        tied: Groups of activations that share one scale, so that joining them costs nothing.
    """

    inputs: tuple[QuantizedInput, ...]
    weights: tuple[QuantizedWeight, ...]
    tied: tuple[frozenset[str], ...]

    @property
    def activations(self) -> frozenset[str]:
        """Names of the activations that get a scale."""
        return frozenset(point.tensor for point in self.inputs)


def place_for_openvino(graph: ir.Graph) -> Placement:
    """Choose what OpenVINO's INT8 kernels are to compute.

    Quantized are convolutions, transposed convolutions and linear layers with constant weights,
    the products of attention, residual additions, and concatenations. Weights have a scale per
    output channel, those of transposed convolutions one scale: engines disagree about their axis.
    Left alone are normalizations, activation functions, pooling and resizing, which run in the
    engine's floating-point type and are memory-bound either way.

    Args:
        graph: Simplified graph; every node and value has a name.
    """
    inputs: list[QuantizedInput] = []
    weights: list[QuantizedWeight] = []
    tied: list[frozenset[str]] = []
    made = _made_of_constants(graph)
    for node in graph:
        if made.intersection(value for value in node.inputs if value is not None):
            continue
        if node.op_type in _WEIGHTED and _is_spatial_or_linear(node):
            constant = _is_constant(node, 1)
            if node.op_type != "MatMul" and not constant:
                continue
            inputs.append(_point(node, 0))
            if constant:
                weights.append(
                    QuantizedWeight(f"{node.name}", 1, _name(node, 1), _channel_axis(node))
                )
            else:
                inputs.append(_point(node, 1))
        elif node.op_type in _MERGING and _joins_features(node):
            points = [_point(node, index) for index in range(len(node.inputs))]
            inputs.extend(points)
            if node.op_type == "Concat":
                tied.append(frozenset(point.tensor for point in points))
    return Placement(tuple(inputs), tuple(weights), tuple(_merged(tied)))


def place_at_layers(graph: ir.Graph) -> Placement:
    """Choose the inputs and weights of convolutions and matrix products, and nothing else.

    That is what papers simulate. No engine has a say, so transposed convolutions have a scale per
    output channel as well.

    Args:
        graph: Simplified graph; every node and value has a name.
    """
    everything = place_for_openvino(graph)
    kinds = {f"{node.name}": node.op_type for node in graph}
    return Placement(
        inputs=tuple(point for point in everything.inputs if kinds[point.node] in _WEIGHTED),
        weights=tuple(
            replace(weight, axis=1) if kinds[weight.node] == "ConvTranspose" else weight
            for weight in everything.weights
        ),
        tied=(),
    )


def _is_spatial_or_linear(node: ir.Node) -> bool:
    """Tell whether the node computes on activations rather than on shapes or constants."""
    return not _is_constant(node, 0)


def _joins_features(node: ir.Node) -> bool:
    """Tell whether all inputs are feature maps: floating point, of the same rank, none constant.

    An addition with a constant (a bias, a position) or of shapes is left alone, and so is what
    nothing reads: the network's output stays in floating point, and there is no chain to keep.
    """
    if not node.outputs[0].uses():
        return False
    ranks = set()
    for index, value in enumerate(node.inputs):
        if value is None or _is_constant(node, index) or value.shape is None:
            return False
        if value.dtype is not ir.DataType.FLOAT:
            return False
        ranks.add(len(value.shape))
    return len(ranks) == 1 and ranks.pop() >= 3


def _channel_axis(node: ir.Node) -> int | None:
    if node.op_type == "ConvTranspose":
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    weight = node.inputs[1]
    rank = len(weight.shape) if weight is not None and weight.shape is not None else 0
    # A stack of matrices, or a vector, has no axis that is an output channel throughout.
    return 1 if rank == 2 else None


def _merged(groups: Iterable[frozenset[str]]) -> list[frozenset[str]]:
    merged: list[frozenset[str]] = []
    for group in groups:
        touching = [other for other in merged if other & group]
        merged = [other for other in merged if not other & group]
        merged.append(group.union(*touching))
    return merged


def _point(node: ir.Node, index: int) -> QuantizedInput:
    return QuantizedInput(f"{node.name}", index, _name(node, index))


def _name(node: ir.Node, index: int) -> str:
    value = node.inputs[index]
    return f"{value.name}" if value is not None else ""


def _is_constant(node: ir.Node, index: int) -> bool:
    value = node.inputs[index] if index < len(node.inputs) else None
    return value is not None and value.const_value is not None


def _made_of_constants(graph: ir.Graph) -> set[ir.Value]:
    """Return what is computed from constants but was not folded, such as attention's large biases.

    No patch passes there, so calibration sees nothing of it.
    """
    made: set[ir.Value] = set()
    for node in graph:
        if all(v is None or v.const_value is not None or v in made for v in node.inputs):
            made.update(node.outputs)
    return made
