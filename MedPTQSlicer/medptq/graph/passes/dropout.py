"""Dropout does nothing at inference."""

from __future__ import annotations

import onnx_ir as ir


class DropoutToIdentityPass(ir.passes.InPlacePass):
    """Replace each Dropout that is not in training mode, and whose mask is unused, by Identity."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        modified = False
        for node in model.graph:
            if node.op_type != "Dropout" or any(_is_used(mask) for mask in node.outputs[1:]):
                continue
            training = node.inputs[2] if len(node.inputs) > 2 else None
            if training is not None:
                value = ir.convenience.get_const_tensor(training)
                if value is None or bool(value.numpy()):
                    continue
            identity = ir.Node("", "Identity", [node.inputs[0]], name=node.name)
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], [identity], [node.outputs[0]], [identity.outputs[0]]
            )
            modified = True
        return ir.passes.PassResult(model, modified)


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()
