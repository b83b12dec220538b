"""Rewriting a graph into the plain form that the rest of the program works on."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import (
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    NameFixPass,
    RemoveInitializersFromInputsPass,
    RemoveUnusedNodesPass,
    ShapeInferencePass,
)

from medptq.errors import ModelError, first_line
from medptq.graph.opset import CURRENT, opset_of
from medptq.graph.passes import (
    DropoutToIdentityPass,
    FoldBatchNormalizationPass,
    FoldConstantsPass,
)


class _NamesByOperator:
    """Names nodes that have no name by their operator."""

    def generate_node_name(self, node: ir.Node) -> str:
        return node.name or node.op_type

    def generate_value_name(self, value: ir.Value) -> str:
        producer = value.producer()
        return value.name or ("value" if producer is None else f"{producer.op_type}_output")


_BEFORE_FOLDING: tuple[ir.passes.InPlacePass, ...] = (
    RemoveInitializersFromInputsPass(),
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    DropoutToIdentityPass(),
    IdentityEliminationPass(),
)
_AFTER_FOLDING: tuple[ir.passes.InPlacePass, ...] = (
    FoldBatchNormalizationPass(),
    RemoveUnusedNodesPass(),
    NameFixPass(_NamesByOperator()),
)
_ROUNDS = 8
"""How often known shapes may make constants, and those more known shapes."""


def simplify(
    model: onnx.ModelProto, *, input_shape: tuple[int, int, int, int, int] | None = None
) -> onnx.ModelProto:
    """Return an equal graph without what only training and exporting needed.

    Constants become initializers, what depends on them alone is computed, Identity and Dropout
    go, BatchNormalization is folded into the convolution before it, unused nodes and weights are
    removed, every node and value has a name of its own, and shapes are written beside the values
    as far as they can be inferred. Opsets older than 17 are converted; newer ones are kept. So
    are the names of the input and the output, and those of weights as far as they are unique.

    Args:
        model: The graph, with its data inside; it is left as it is.
        input_shape: (N, C, D, H, W) to fix the input's shape to. What the graph works out from
            its input's shape then becomes constant too.

    Raises:
        ModelError: The opset is older than 11 or cannot be converted, or the graph declares that
            its input has another shape than ``input_shape``.
    """
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for entry in copied.opset_import:
        # Both names mean the default domain; the passes know one.
        if entry.domain == "ai.onnx":
            entry.domain = ""
    if opset_of(copied) < CURRENT:
        copied = _converted(copied)
    if input_shape is not None:
        _fix_input_shape(copied, input_shape)
    graph = ir.from_proto(copied)
    for rewrite in _BEFORE_FOLDING:
        rewrite(graph)
    infer_shapes = ShapeInferencePass(check_type=False, strict_mode=False)
    for _ in range(_ROUNDS):
        infer_shapes(graph)
        if not FoldConstantsPass()(graph).modified:
            break
    for rewrite in _AFTER_FOLDING:
        rewrite(graph)
    infer_shapes(graph)
    return ir.to_proto(graph)


def _fix_input_shape(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    declared = next(value for value in model.graph.input if value.name not in weights)
    dims = declared.type.tensor_type.shape.dim
    if len(dims) != len(shape) or any(
        dim.HasField("dim_value") and dim.dim_value != size
        for dim, size in zip(dims, shape, strict=True)
    ):
        takes = [dim.dim_value or dim.dim_param for dim in dims]
        raise ModelError(
            "shape",
            f"The network cannot be run on patches of shape {list(shape)}",
            why=f"it takes {takes}",
            todo="Choose another patch size, or export the network for this one",
        )
    for dim, size in zip(dims, shape, strict=True):
        dim.dim_value = size
    # What was inferred for any shape is inferred again for this one.
    del model.graph.value_info[:]


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.version_converter.convert_version(model, CURRENT)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            "operator",
            f"The network cannot be converted from opset {opset_of(model)} to {CURRENT}",
            why=first_line(error),
            todo=f"Export the network again with opset {CURRENT} or newer",
        ) from error
