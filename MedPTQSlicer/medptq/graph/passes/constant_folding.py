"""What depends on constants alone is computed once, before the network is run or quantized."""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch import Tensor

from medptq.graph.operators import OPERATORS, Node, tensor_from_proto
from medptq.graph.operators.evaluation import evaluate

_KEPT = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""Never computed away: they say how the weights are quantized."""

_LARGEST = 1 << 20
"""Elements above which a result is only stored if its inputs were as large together."""


class FoldConstantsPass(ir.passes.InPlacePass):
    """Replace each node whose inputs are constant, or a shape that is known, by its result."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        modified = False
        opset = model.opset_imports[""]
        for node in model.graph:
            if (
                node.op_type in _KEPT
                or node.op_type not in OPERATORS
                or any(output.is_graph_output() for output in node.outputs)
            ):
                continue
            results = _known_shape(node, opset) if node.op_type == "Shape" else None
            results = results or _computed(node, opset)
            if results is None:
                continue
            for output, result in zip(node.outputs, results, strict=False):
                constant = ir.Value(
                    name=output.name,
                    shape=ir.Shape(result.shape),
                    type=ir.TensorType(ir.DataType.from_numpy(result.numpy().dtype)),
                    const_value=ir.tensor(result.contiguous().numpy(), name=output.name),
                )
                output.name = None
                model.graph.register_initializer(constant)
                output.replace_all_uses_with(constant)
            model.graph.remove(node, safe=True)
            modified = True
        return ir.passes.PassResult(model, modified)


def _known_shape(node: ir.Node, opset: int) -> tuple[Tensor, ...] | None:
    source = node.inputs[0]
    if source is None or source.shape is None or source.shape.has_unknown_dim():
        return None
    if not source.shape.is_static():
        return None
    proto = ir.to_proto(node)
    x = torch.empty(source.shape.numpy(), device="meta")
    return evaluate(OPERATORS["Shape"].evaluate, Node.from_proto(proto, opset), [x])


def _computed(node: ir.Node, opset: int) -> tuple[Tensor, ...] | None:
    """Return the outputs of a node whose inputs are all constant, if that is worth storing."""
    inputs: list[Tensor | None] = []
    for value in node.inputs:
        constant = None if value is None else ir.convenience.get_const_tensor(value)
        if value is not None and constant is None:
            return None
        inputs.append(
            None if constant is None else tensor_from_proto(ir.serde.serialize_tensor(constant))
        )
    given = sum(x.numel() for x in inputs if x is not None)
    with torch.no_grad():
        outputs = evaluate(
            OPERATORS[node.op_type].evaluate, Node.from_proto(ir.to_proto(node), opset), inputs
        )
    if sum(y.numel() for y in outputs) > max(given, _LARGEST) or any(
        y.dtype == torch.bfloat16 for y in outputs
    ):
        return None
    return outputs
