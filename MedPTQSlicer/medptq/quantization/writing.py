"""From a simulated network to a graph with Q/DQ nodes that INT8 kernels run.

Integers of fewer than 8 bits are stored and computed as INT8: weights use fewer of its numbers,
and an activation is clipped to its window of them before it is quantized. ONNX could pack weights
of 4 bits, but where they are packed OpenVINO (2026.4) computes in floating point.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import IdentityEliminationPass, RemoveUnusedNodesPass

from medptq.errors import QuantizationError
from medptq.graph.editing import add_constant, constant_of, new_node
from medptq.quantization.qdq import insert_behind, insert_pair, store_weight
from medptq.quantization.simulation.grid import Grid
from medptq.quantization.simulation.layer import LayerWeight, SimulatedLayer
from medptq.quantization.simulation.network import SimulatedNetwork

_LOWEST, _HIGHEST = -128, 127
_BIAS = 2  # operand of Conv, ConvTranspose and Gemm
_VOLUME_AXES = 5


def write_quantized(network: SimulatedNetwork) -> tuple[onnx.ModelProto, dict[str, float]]:
    """Return the graph that computes what a simulated network does, in INT8.

    Args:
        network: Simulated as it is placed for OpenVINO, with its recovery if there was one. What
            it leaves in floating point stays so.

    Returns:
        The graph, and the scale of each activation by name, as it stands in it. An activation
        that is quantized in several ways has several names.

    Raises:
        QuantizationError: Its scales are none that INT8 kernels know.
    """
    model = ir.from_proto(network.graph.model)
    graph = model.graph
    nodes = {node.name: node for node in graph}
    edges = {value.name: node for node in graph for value in node.outputs}
    pairs: dict[tuple[ir.Value, float, bytes], ir.Value] = {}
    scales: dict[str, float] = {}
    for layer in network.layers.values():
        for edge in layer.edges:
            reader = edges[edge.value]
            source = reader.inputs[0]
            if source is None:
                raise ValueError(f"{edge.value} has no source")
            window = _Window(network.grids.get(edge.value), layer.name)
            key = (source, float(window.scale), window.lowest.tobytes())
            if key not in pairs:
                name = edge.value if edge.tensor in scales else edge.tensor
                scales[name] = float(window.scale)
                clipped = _clip(graph, source, window, name)
                pairs[key] = insert_pair(graph, clipped, window.scale, name)
            reader.replace_input_with(0, pairs[key])
        if layer.weight is not None:
            reader = edges[layer.weight.constant]
            reader.replace_input_with(0, _stored(graph, reader, layer.weight))
        _correct(graph, nodes[layer.name], layer)
    IdentityEliminationPass()(model)
    RemoveUnusedNodesPass()(model)
    return ir.to_proto(model), scales


class _Window:
    """The part of the INT8 grid that an activation uses.

    Attributes:
        scale: A scalar.
        lowest: The smallest integer: a scalar, or in a shape that broadcasts to the activation.
        steps: Integers between it and the largest.
    """

    def __init__(self, grid: Grid | None, layer: str) -> None:
        if grid is None or grid.scale.numel() != 1:
            raise _refused(f"the scales of {layer} are not one per activation, known beforehand")
        self.scale: NDArray[np.float32] = grid.scale.cpu().numpy().reshape(())
        lowest = grid.lowest if isinstance(grid.lowest, int) else grid.lowest.cpu().numpy()
        self.lowest = np.asarray(lowest, np.float32)
        self.steps = grid.steps
        if self.lowest.min() == self.lowest.max():
            self.lowest = self.lowest.reshape(-1)[:1].reshape(())
        if self.lowest.min() < _LOWEST or self.lowest.max() + self.steps > _HIGHEST:
            raise _refused(f"what {layer} reads is not symmetric at 8 bits")

    @property
    def is_whole(self) -> bool:
        """Whether it is all that INT8 has."""
        return self.steps == _HIGHEST - _LOWEST

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The smallest and the largest value."""
        return self.lowest * self.scale, (self.lowest + np.float32(self.steps)) * self.scale


def _clip(graph: ir.Graph, value: ir.Value, window: _Window, name: str) -> ir.Value:
    """Return the value within the window, as the quantization after it would not know.

    There is a bound for each channel, even where all are the same: what follows a concatenation of
    integers and has one bound, OpenVINO (2026.4) clips in INT8, with the bound rounded to the
    steps of what was joined.
    """
    if window.is_whole:
        return value
    shape = window.lowest.shape or _channels(value)
    low, high = (
        add_constant(graph, f"{name}/{end}", np.array(np.broadcast_to(bound, shape)))
        for end, bound in zip(("lowest", "highest"), window.bounds, strict=True)
    )
    above = new_node("Max", [value, low], f"{name}/clip_below")
    within = new_node("Min", [above.outputs[0], high], f"{name}/clip_above")
    for node in (above, within):
        node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
    insert_behind(graph, value, [above, within])
    return within.outputs[0]


def _channels(value: ir.Value) -> tuple[int, ...]:
    """Return the shape of a number for each channel, along axis 1 of five axes, else the last."""
    shape = [size for size in value.shape or () if isinstance(size, int)]
    if value.shape is None or len(shape) != len(value.shape):
        return ()
    axis = 1 if len(shape) == _VOLUME_AXES else len(shape) - 1
    return tuple(size if place == axis else 1 for place, size in enumerate(shape))


def _stored(graph: ir.Graph, reader: ir.Node, weight: LayerWeight) -> ir.Value:
    scale = weight.grid.scale
    integers = (weight.quantized / scale).round().cpu().numpy().astype(np.int8)
    name, axis = f"{reader.name}", weight.axis
    if axis is None or scale.numel() == 1:
        return store_weight(graph, reader, name, integers, scale.cpu().numpy().reshape(()), None)
    axis %= integers.ndim
    return store_weight(graph, reader, name, integers, scale.cpu().numpy().reshape(-1), axis)


def _correct(graph: ir.Graph, node: ir.Node, layer: SimulatedLayer) -> None:
    """Add the correction of a layer's output to its bias."""
    if layer.correction is None:
        return
    correction = layer.correction.cpu().numpy().astype(np.float32)
    if layer.op_type == "MatMul":
        _add_behind(graph, node, correction.reshape(-1))
        return
    bias = constant_of(node, _BIAS)
    if bias is None and len(node.inputs) > _BIAS and node.inputs[_BIAS] is not None:
        _add_behind(graph, node, correction)
        return
    if layer.op_type == "Gemm":
        correction = correction / np.float32(node.attributes.get_float("beta", 1.0))
    whole = correction.reshape(-1) if bias is None else bias + correction.reshape(-1)
    if len(node.inputs) <= _BIAS:
        node.resize_inputs(_BIAS + 1)
    name = f"{node.name}/corrected_bias"
    node.replace_input_with(_BIAS, add_constant(graph, name, whole.astype(np.float32)))


def _add_behind(graph: ir.Graph, node: ir.Node, correction: NDArray[np.float32]) -> None:
    """Add to a layer's output: to the constant that is added anyway, or in a node of its own."""
    output, name = node.outputs[0], f"{node.name}/correction"
    uses = list(output.uses())
    follower = uses[0].node if len(uses) == 1 and not output.is_graph_output() else None
    if follower is not None and follower.op_type == "Add":
        other = 1 - uses[0].idx
        bias = constant_of(follower, other)
        if bias is not None:
            whole = (bias + correction).astype(np.float32)
            follower.replace_input_with(other, add_constant(graph, name, whole))
            return
    added = new_node("Add", [output, add_constant(graph, name, correction)], f"{name}/add")
    corrected = added.outputs[0]
    corrected.shape, corrected.type = output.shape, output.type
    output.replace_all_uses_with(corrected, replace_graph_outputs=True)
    added.replace_input_with(0, output)
    graph.insert_after(node, added)
    # The network's output keeps its name.
    output.name, corrected.name = corrected.name, output.name


def _refused(why: str) -> QuantizationError:
    return QuantizationError(
        "scheme", "The network cannot be written for INT8", why=why, todo="Choose another scheme"
    )
