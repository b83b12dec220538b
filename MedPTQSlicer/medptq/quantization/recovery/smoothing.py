"""SmoothQuant: outlying channels of the input of a linear layer are moved into its weights.

Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
Models, ICML 2023 (arXiv 2211.10438).
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from medptq.graph.editing import add_constant, constant_of, new_node
from medptq.progress import Reporter
from medptq.quantization.recovery.channel_ranges import balancing_scales, channel_magnitudes
from medptq.quantization.simulation.simulating import Patches


def smooth(
    model: onnx.ModelProto,
    patches: Patches,
    strength: float = 0.5,
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> onnx.ModelProto:
    """Return a graph of the same function whose linear layers have inputs with fewer outliers.

    The layers that read the same activation are smoothed together. Where a layer normalization
    makes it for them alone, its scale and bias take the division; elsewhere a multiplication by
    a constant per channel is put before the layers, which an engine joins with the quantization.

    Args:
        model: Simplified FP32 graph.
        patches: What the channels' magnitudes are measured on.
        strength: How much of the channels' difference is moved into the weights.
        reporter: Told of progress; may cancel.

    Raises:
        Cancelled: The user asked to stop.
    """
    graph = ir.from_proto(model)
    readers: dict[ir.Value, list[ir.Node]] = {}
    for node in graph.graph:
        source = node.inputs[0] if node.inputs else None
        if source is not None and _is_linear(node):
            readers.setdefault(source, []).append(node)
    axes = {f"{source.name}": -1 for source in readers}
    magnitudes = channel_magnitudes(model, axes, patches, reporter)
    for source, nodes in readers.items():
        weights = [_input_weight(node) for node in nodes]
        largest = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
        scales = balancing_scales(magnitudes[f"{source.name}"], largest, strength)
        for node, weight in zip(nodes, weights, strict=True):
            _replace(graph.graph, node, 1, _as_stored(node, weight * scales[:, None]))
        _divide(graph.graph, source, nodes, scales)
    return ir.to_proto(graph)


def _is_linear(node: ir.Node) -> bool:
    weight = constant_of(node, 1) if len(node.inputs) > 1 else None
    return (
        node.op_type in ("MatMul", "Gemm")
        and constant_of(node, 0) is None
        and weight is not None
        and weight.ndim == 2
        and node.attributes.get_int("transA", 0) == 0
    )


def _input_weight(node: ir.Node) -> NDArray[np.float64]:
    """Return the layer's weight [inputs, outputs]."""
    weight = constant_of(node, 1)
    if weight is None:
        raise ValueError(f"{node.name} has no constant weight")
    weight = weight.astype(np.float64)
    return weight.T if node.attributes.get_int("transB", 0) else weight


def _as_stored(node: ir.Node, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    return weight.T if node.attributes.get_int("transB", 0) else weight


def _divide(
    graph: ir.Graph, source: ir.Value, nodes: list[ir.Node], scales: NDArray[np.float64]
) -> None:
    norm = source.producer()
    if (
        norm is not None
        and norm.op_type == "LayerNormalization"
        and norm.attributes.get_int("axis", -1) in (-1, len(source.shape or ()) - 1)
        and not source.is_graph_output()
        and {use.node for use in source.uses()} == set(nodes)
        and all(constant_of(norm, index) is not None for index in range(1, len(norm.inputs)))
    ):
        for index in range(1, len(norm.inputs)):
            constant = constant_of(norm, index)
            if constant is not None:
                _replace(graph, norm, index, constant / scales)
        return
    factors = add_constant(graph, f"{source.name}/smoothing", (1 / scales).astype(np.float32))
    product = new_node("Mul", [source, factors], f"{source.name}/smooth")
    graph.insert_before(nodes[0], product)
    product.outputs[0].shape, product.outputs[0].type = source.shape, source.type
    for node in nodes:
        node.replace_input_with(0, product.outputs[0])


def _replace(graph: ir.Graph, node: ir.Node, index: int, array: NDArray[np.float64]) -> None:
    """Give a node a constant of its own; others may read the one that it had."""
    old = node.inputs[index]
    name = f"{node.name}/smoothed_{index}"
    node.replace_input_with(index, add_constant(graph, name, array.astype(np.float32)))
    if old is not None and not old.uses() and old.name is not None:
        del graph.initializers[old.name]
