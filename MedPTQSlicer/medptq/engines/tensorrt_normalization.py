"""InstanceNormalization as TensorRT 8.6 can run it without cuDNN, which its own plugin needs.

GroupNormalization is exported as an InstanceNormalization of groups, so this is its way too. In
FP16 the sums over a volume overflow, which each of the forms avoids in its own way; which is the
fastest depends on the network, so it is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import IdentityEliminationPass, LiftConstantsToInitializersPass

from medptq.engines.protocol import Precision
from medptq.graph.editing import add_constant, constant_of, new_node, replace_by

Form: TypeAlias = Literal["as it is", "written out", "sums in FP32", "own layer"]
"""How normalizations are written.

``"written out"`` is in basic operations, which TensorRT fuses by itself: in FP32 only, as in FP16
its sums overflow. ``"sums in FP32"`` is the same with the sums held in FP32. ``"own layer"`` is
TensorRT's own LayerNormalization over the voxels, whose sums always are. Where normalizations are
in basic operations, so are LeakyReLU and PReLU, which TensorRT then fuses with them, as it does
ReLU in any case; else they are one more pass over the values, and compiled in dozens of ways to be
timed.
"""

IN_FP32 = "/in-fp32"
"""The end of the names of nodes that are to be computed in FP32, whatever the others are."""

_Parameters: TypeAlias = dict[str, NDArray[Any]]


def forms_for(model: onnx.ModelProto, precision: Precision, *, typed: bool) -> tuple[Form, ...]:
    """Return the forms worth measuring, the likely fastest first.

    Args:
        model: The graph.
        precision: What it is built for.
        typed: Whether TensorRT takes the types from the graph, as from version 10 on: it then has
            kernels of its own for what ONNX calls InstanceNormalization.
    """
    if typed or all(node.op_type != "InstanceNormalization" for node in model.graph.node):
        return ("as it is",)
    return ("written out",) if precision == "fp32" else ("sums in FP32", "own layer")


def in_form(model: onnx.ModelProto, form: Form) -> onnx.ModelProto:
    """Return an equal graph with each InstanceNormalization of constant scale and bias in a form.

    Its values' shapes must be known.
    """
    if form == "as it is":
        return model
    rewritten = ir.from_proto(model)
    # Norms without weights, and those of groups, have their ones and zeros from Constant nodes.
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(rewritten)
    IdentityEliminationPass()(rewritten)  # scales that are equal are one, passed on by name
    graph = rewritten.graph
    for node in list(graph):
        value = node.inputs[0] if node.inputs else None
        if node.op_type != "InstanceNormalization" or value is None or value.shape is None:
            continue
        scale, bias = constant_of(node, 1), constant_of(node, 2)
        if scale is None or bias is None:
            continue
        norm = _Normalization(graph, node, value, {"scale": scale, "bias": bias})
        replace_by(graph, node, _WRITERS[form](norm))
    if form != "own layer":
        _write_leaky_relus_out(graph)
    return ir.to_proto(rewritten)


def _write_leaky_relus_out(graph: ir.Graph) -> None:
    for node in list(graph):
        value = node.inputs[0] if node.inputs else None
        slope = _slope_of(node)
        if slope is None or value is None or value.shape is None or (slope > 1).any():
            continue
        name = node.name or f"{node.outputs[0].name}"
        factor = slope.reshape([1] * (len(value.shape) - slope.ndim) + list(slope.shape))
        below = new_node(
            "Mul", [value, add_constant(graph, f"{name}/slope", factor)], f"{name}/below"
        )
        greatest = new_node("Max", [value, below.outputs[0]], f"{name}/greatest")
        graph.insert_before(node, [below, greatest])
        replace_by(graph, node, greatest.outputs[0])


def _slope_of(node: ir.Node) -> NDArray[Any] | None:
    """Return the slope of a LeakyReLU or PReLU; of up to one it is a maximum."""
    if node.op_type == "LeakyRelu":
        return np.array(node.attributes.get_float("alpha", 0.01), np.float32)
    return constant_of(node, 1) if node.op_type == "PRelu" else None


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
        sizes = [] if value.shape is None else list(value.shape)
        self.axes = list(range(2, len(sizes)))
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

    def result(self, centred: ir.Value, variance: ir.Value, end: str = "") -> ir.Value:
        """Divide by the standard deviation, whose nodes' names end so; scale and shift."""
        epsilon = self.constant("epsilon", np.float32(self.epsilon))
        shifted = self.then("Add", f"shifted{end}", variance, epsilon)
        spread = self.then("Sqrt", f"spread{end}", shifted)
        normal = self.then("Div", "normal", centred, spread)
        scaled = self.then("Mul", "scaled", normal, self.parameter("scale"))
        return self.then("Add", "result", scaled, self.parameter("bias"))


def _written_out(norm: _Normalization, end: str = "") -> ir.Value:
    centred = norm.then("Sub", "centred", norm.value, norm.mean(f"mean{end}", norm.value))
    square = norm.then("Mul", f"square{end}", centred, centred)
    return norm.result(centred, norm.mean(f"variance{end}", square), end)


def _with_sums_in_fp32(norm: _Normalization) -> ir.Value:
    return _written_out(norm, IN_FP32)


def _as_layer(norm: _Normalization) -> ir.Value:
    inputs = norm.value, norm.parameter("scale"), norm.parameter("bias")
    attributes: dict[str, int | float | list[int]] = {"axis": 2, "epsilon": norm.epsilon}
    return norm.then("LayerNormalization", "layer", *inputs, attributes=attributes)


_WRITERS: Mapping[Form, Callable[[_Normalization], ir.Value]] = {
    "written out": _written_out,
    "sums in FP32": _with_sums_in_fp32,
    "own layer": _as_layer,
}
