"""What of a quantized graph TensorRT shall really run in INT8.

In 3D, INT8 is often no faster than FP16: where there are few channels, where a normalization
follows, in transposed convolutions. Some patterns TensorRT cannot build at all. So the graph that
calibration left, quantized wherever that can pay, is a maximum of which these are parts; which
part is the fastest is measured on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from medptq.graph.editing import add_constant, constant_of

# TensorRT 8.6 has no INT8 kernel for these in 3D, and then finds none for what comes before.
_NO_INT8 = ("MaxPool", "Resize", "ConvTranspose")


@dataclass(frozen=True)
class Placement:
    """One choice of what runs in INT8.

    Attributes:
        name: For a person to read.
        nodes: Names of the nodes whose inputs stay quantized.
    """

    name: str
    nodes: frozenset[str]

    def without(self, nodes: frozenset[str]) -> Placement:
        """Return it with some of its nodes left in floating point."""
        return Placement(self.name, self.nodes - nodes)


def placements(model: onnx.ModelProto) -> list[Placement]:
    """Return the choices worth measuring, the likely fastest first; none is empty or repeated."""
    graph = ir.from_proto(model).graph
    quantized = [node for node in graph if _quantized_inputs(node)]
    choices: tuple[tuple[str, Callable[[ir.Node], bool]], ...] = (
        ("layers of 16 channels and more", lambda node: _is_wide(node, 16)),
        # TensorRT 8.6 builds no matrix product of tokens whose weights are integers.
        (
            "convolutions of 16 channels and more",
            lambda node: node.op_type == "Conv" and _is_wide(node, 16),
        ),
        ("layers of 32 channels and more", lambda node: _is_wide(node, 32)),
        (
            "layers of 16 channels and more, and residual additions",
            lambda node: _is_wide(node, 16) or (node.op_type == "Add" and _joins(node)),
        ),
        ("all that was calibrated", lambda _: True),
    )
    found: list[Placement] = []
    for name, keeps in choices:
        nodes = frozenset(f"{node.name}" for node in quantized if keeps(node))
        if nodes and all(nodes != other.nodes for other in found):
            found.append(Placement(name, nodes))
    return found


def placed(model: onnx.ModelProto, placement: Placement) -> onnx.ModelProto:
    """Return the graph with only the placement's nodes quantized.

    The others read what was there before the Q/DQ pair; their weights become floating point, of
    the values that the integers stood for.
    """
    rewritten = ir.from_proto(model)
    graph = rewritten.graph
    for node in list(graph):
        if node.name in placement.nodes:
            continue
        for index, dequantize in _quantized_inputs(node):
            quantize = _producer(dequantize, 0)
            if quantize is not None and quantize.op_type == "QuantizeLinear":
                node.replace_input_with(index, quantize.inputs[0])
            else:
                node.replace_input_with(index, _dequantized(graph, dequantize))
    RemoveUnusedNodesPass()(rewritten)
    return ir.to_proto(rewritten)


def _quantized_inputs(node: ir.Node) -> list[tuple[int, ir.Node]]:
    """Return the inputs of a node that come from a DequantizeLinear, with that node."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return []
    found = []
    for index in range(len(node.inputs)):
        producer = _producer(node, index)
        if producer is not None and producer.op_type == "DequantizeLinear":
            found.append((index, producer))
    return found


def _producer(node: ir.Node, index: int) -> ir.Node | None:
    value = node.inputs[index]
    return None if value is None else value.producer()


def _sources(node: ir.Node) -> Iterator[ir.Node]:
    """Yield what computes the activations of a node, before their Q/DQ pairs."""
    for _, dequantize in _quantized_inputs(node):
        quantize = _producer(dequantize, 0)
        if quantize is not None and quantize.op_type == "QuantizeLinear":
            source = _producer(quantize, 0)
            while source is not None and _is_of_the_quantization(source):
                source = _producer(source, 0)
            if source is not None:
                yield source


def _is_of_the_quantization(node: ir.Node) -> bool:
    """Tell whether it clips to few bits, or scales channels: what writing puts before a pair."""
    return node.op_type in ("Max", "Min", "Mul") and constant_of(node, 1) is not None


def _is_wide(node: ir.Node, channels: int) -> bool:
    """Tell whether a layer's kernels have channels enough, and come from what INT8 can follow."""
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return False
    if any(source.op_type in _NO_INT8 for source in _sources(node)):
        return False
    weight = _producer(node, 1)
    array = None if weight is None else constant_of(weight, 0)
    if array is None or array.ndim < 2:  # the products of attention
        return True
    return bool(min(array.shape[:2]) >= channels)


def _joins(node: ir.Node) -> bool:
    sources = list(_sources(node))
    return len(sources) == len(node.inputs) and not any(
        source.op_type in _NO_INT8 for source in sources
    )


def _dequantized(graph: ir.Graph, dequantize: ir.Node) -> ir.Value:
    # By the value: it is the only one of its name, which a node need not have.
    name = f"{dequantize.outputs[0].name}/fp32"
    if name in graph.initializers:
        return graph.initializers[name]
    integers, scale = constant_of(dequantize, 0), constant_of(dequantize, 1)
    if integers is None or scale is None:
        raise ValueError(f"{dequantize.name} is of no constant")
    zero = constant_of(dequantize, 2)
    zero = np.zeros_like(scale) if zero is None else zero
    if scale.ndim:
        shape = [1] * integers.ndim
        shape[dequantize.attributes.get_int("axis", 1)] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    values = (integers.astype(np.float32) - zero.astype(np.float32)) * scale
    return add_constant(graph, name, values.astype(np.float32))
