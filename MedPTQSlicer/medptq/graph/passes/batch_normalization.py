"""BatchNormalization after a linear operator is only another scale and shift of its weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from medptq.graph.editing import add_constant

_Array = npt.NDArray[np.generic]
_Float64 = npt.NDArray[np.float64]


class FoldBatchNormalizationPass(ir.passes.InPlacePass):
    """Fold each BatchNormalization into the Conv, ConvTranspose or Gemm that feeds it alone.

    With s = scale / sqrt(variance + epsilon), the weights of output channel c are multiplied by
    s[c], and its bias b becomes (b - mean) * s + shift (Jacob 2018, section 3.2). It is computed
    in float64 and rounded once.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        modified = False
        for node in model.graph:
            if node.op_type == "BatchNormalization":
                modified = _fold(model.graph, node) or modified
        return ir.passes.PassResult(model, modified)


def _fold(graph: ir.Graph, normalization: ir.Node) -> bool:
    """Fold one BatchNormalization if that changes nothing else; return whether it did."""
    source = normalization.inputs[0]
    linear = None if source is None else source.producer()
    if (
        source is None
        or linear is None
        or linear.op_type not in ("Conv", "ConvTranspose", "Gemm")
        or len(source.uses()) != 1
        or source.is_graph_output()
        or normalization.attributes.get_int("training_mode", 0) != 0
        or any(output.uses() for output in normalization.outputs[1:])
    ):
        return False
    parameters = [_constant(value) for value in normalization.inputs[1:]]
    weight = _constant(linear.inputs[1])
    old_bias = linear.inputs[2] if len(linear.inputs) > 2 else None
    bias = _constant(old_bias)
    if weight is None or any(p is None for p in parameters) or (old_bias and bias is None):
        return False
    scale, shift, mean, variance = (np.asarray(p, dtype=np.float64) for p in parameters)
    epsilon = normalization.attributes.get_float("epsilon", 1e-5)
    factor = scale / np.sqrt(variance + epsilon)
    beta = linear.attributes.get_float("beta", 1.0) if linear.op_type == "Gemm" else 1.0
    offset = np.zeros(1) if bias is None else beta * bias.astype(np.float64)
    if "beta" in linear.attributes:
        linear.attributes["beta"] = ir.AttrFloat32("beta", 1.0)

    name = normalization.outputs[0].name
    new_weight = weight.astype(np.float64) * _per_output_channel(linear, weight, factor)
    new_bias = (offset - mean) * factor + shift
    _replace_constant(graph, linear, 1, f"{name}.weight", new_weight.astype(weight.dtype))
    _replace_constant(graph, linear, 2, f"{name}.bias", new_bias.astype(weight.dtype))
    graph.remove(_bypassed(normalization, linear), safe=True)
    return True


def _per_output_channel(linear: ir.Node, weight: _Array, factor: _Float64) -> _Float64:
    """Return ``factor`` in a shape that broadcasts along the weight's output channels."""
    if linear.op_type == "Conv":
        return factor.reshape(-1, *[1] * (weight.ndim - 1))
    if linear.op_type == "Gemm":
        return factor[:, None] if linear.attributes.get_int("transB", 0) else factor
    # ConvTranspose's weight is [inputs, outputs / groups, *kernel].
    groups = linear.attributes.get_int("group", 1)
    by_group = factor.reshape(groups, -1).repeat(weight.shape[0] // groups, axis=0)
    return by_group.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))


def _replace_constant(graph: ir.Graph, node: ir.Node, place: int, name: str, array: _Array) -> None:
    """Give a node a constant of its own, under the old one's name if nothing else reads that."""
    old = node.inputs[place] if place < len(node.inputs) else None
    if old is not None and old.name and len(old.uses()) == 1 and old.is_initializer():
        name = old.name
        graph.initializers.pop(name)
    value = add_constant(graph, name, array)
    if place >= len(node.inputs):
        node.resize_inputs(place + 1)
    node.replace_input_with(place, value)


def _bypassed(normalization: ir.Node, linear: ir.Node) -> ir.Node:
    """Let the linear node's output take the place and the name of the normalization's."""
    old, new = normalization.outputs[0], linear.outputs[0]
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    new.name, old.name = old.name, None
    new.shape = new.shape or old.shape
    return normalization


def _constant(value: ir.Value | None) -> _Array | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
