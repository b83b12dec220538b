"""SmoothQuant: outlying channels of the input of a linear layer are moved into its weights.

Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
Models, ICML 2023 (arXiv 2211.10438).
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from medptq.graph.editing import constant_of, replace_constant
from medptq.progress import Reporter
from medptq.quantization.recovery.channel_ranges import balancing_scales, channel_magnitudes
from medptq.quantization.simulation.makers import multiply_channels
from medptq.quantization.simulation.simulating import Patches


def smooth(
    model: onnx.ModelProto,
    patches: Patches,
    strength: float = 0.5,
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> onnx.ModelProto:
    """Return a graph of the same function whose linear layers have inputs with fewer outliers.

    The layers that read the same activation are smoothed together; for where it is divided, see
    :func:`medptq.quantization.simulation.makers.multiply_channels`.

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
            replace_constant(graph.graph, node, 1, _as_stored(node, weight * scales[:, None]))
        factors = (1 / scales).astype(np.float32)
        factors = factors.reshape(*[1] * (len(source.shape or ()) - 1), -1)
        multiply_channels(graph.graph, source, nodes, factors, {})
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
