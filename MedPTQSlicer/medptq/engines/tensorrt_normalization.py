"""InstanceNormalization as TensorRT 8.6 can run it without cuDNN, which its own plugin needs.

GroupNormalization is exported as an InstanceNormalization of groups, so this is its way too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from medptq.graph.editing import add_constant, constant_of, new_node, replace_by

_Parameters: TypeAlias = dict[str, NDArray[Any]]


def lower_instance_normalization(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an equal graph with InstanceNormalization written out in basic operations.

    TensorRT fuses them by itself. In FP32 only: in FP16 their sums overflow.
    """
    return _rewritten(model, _written_out)


def with_layer_normalization(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an equal graph with InstanceNormalization as LayerNormalization over the voxels.

    TensorRT has a layer of its own for this, whose sums are in FP32 also where the rest runs in
    FP16. Scale and bias are [1, C, 1, ...].
    """
    return _rewritten(model, _as_layer)


class _Normalization:
    """One InstanceNormalization of constant scale and bias; adds nodes before it."""

    def __init__(
        self, graph: ir.Graph, node: ir.Node, value: ir.Value, parameters: _Parameters
    ) -> None:
        self._graph = graph
        self._node = node
        self._parameters = parameters
        self._name = node.name or f"{node.outputs[0].name}"
        self.value = value
        self.axes = list(range(2, 0 if value.shape is None else len(value.shape)))
        self.epsilon = node.attributes.get_float("epsilon", 1e-5)

    def constant(self, part: str, array: NDArray[Any] | np.generic) -> ir.Value:
        return add_constant(self._graph, f"{self._name}/{part}", array)

    def parameter(self, part: str) -> ir.Value:
        """Add the scale or bias, [channels], as [1, channels, 1, ...]."""
        array = self._parameters[part]
        return self.constant(part, array.reshape(1, -1, *[1] * len(self.axes)))

    def then(
        self,
        operator: str,
        part: str,
        *inputs: ir.Value,
        attributes: dict[str, int | float | list[int]] | None = None,
    ) -> ir.Value:
        made = new_node(operator, inputs, f"{self._name}/{part}", attributes)
        self._graph.insert_before(self._node, made)
        return made.outputs[0]

    def mean(self, part: str, value: ir.Value) -> ir.Value:
        return self.then("ReduceMean", part, value, attributes={"axes": self.axes, "keepdims": 1})


def _rewritten(
    model: onnx.ModelProto, write: Callable[[_Normalization], ir.Value]
) -> onnx.ModelProto:
    rewritten = ir.from_proto(model)
    graph = rewritten.graph
    for node in list(graph):
        value = node.inputs[0] if node.inputs else None
        if node.op_type != "InstanceNormalization" or value is None or value.shape is None:
            continue
        scale, bias = constant_of(node, 1), constant_of(node, 2)
        if scale is None or bias is None:
            continue
        norm = _Normalization(graph, node, value, {"scale": scale, "bias": bias})
        replace_by(graph, node, write(norm))
    return ir.to_proto(rewritten)


def _written_out(norm: _Normalization) -> ir.Value:
    centred = norm.then("Sub", "centred", norm.value, norm.mean("mean", norm.value))
    variance = norm.mean("variance", norm.then("Mul", "square", centred, centred))
    epsilon = norm.constant("epsilon", np.float32(norm.epsilon))
    spread = norm.then("Sqrt", "spread", norm.then("Add", "shifted", variance, epsilon))
    normal = norm.then("Div", "normal", centred, spread)
    scaled = norm.then("Mul", "scaled", normal, norm.parameter("scale"))
    return norm.then("Add", "result", scaled, norm.parameter("bias"))


def _as_layer(norm: _Normalization) -> ir.Value:
    inputs = norm.value, norm.parameter("scale"), norm.parameter("bias")
    attributes: dict[str, int | float | list[int]] = {"axis": 2, "epsilon": norm.epsilon}
    return norm.then("LayerNormalization", "layer", *inputs, attributes=attributes)
