"""An exact rewrite of the head of networks that tell one structure from background."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from medptq.graph.editing import add_constant, constant_of, new_node, replace_by

_CHANNELS_OF_WEIGHT = {"Conv": 0, "ConvTranspose": 1}


def merge_two_class_softmax(model: ir.Model) -> tuple[str, ...]:
    """Let a last convolution of two channels and its softmax compute one channel, in place.

    The softmax of two values is the sigmoid of their difference, and the difference of two
    channels of a convolution is a convolution with the difference of their weights. So half of
    the work at the network's finest resolution, where it costs most, is left out; the second
    channel is one minus the first.

    Args:
        model: Graph with constants as initializers.

    Returns:
        Names of the softmax nodes that were replaced.
    """
    merged = []
    for node in list(model.graph):
        layer = _head_of(node)
        if layer is not None:
            merged.append(f"{node.name}")
            _merge(model.graph, layer, node)
    return tuple(merged)


def _head_of(softmax: ir.Node) -> ir.Node | None:
    """Return the convolution before a softmax over two channels, if that is what it is."""
    scores = softmax.inputs[0] if softmax.op_type == "Softmax" else None
    layer = scores.producer() if scores is not None else None
    if scores is None or scores.shape is None or layer is None:
        return None
    is_head = (
        layer.op_type in _CHANNELS_OF_WEIGHT
        and scores.shape[1] == 2
        and softmax.attributes.get_int("axis", -1) in (1, 1 - len(scores.shape))
        and len(scores.uses()) == 1
        and not scores.is_graph_output()
        and layer.attributes.get_int("group", 1) == 1
        and all(value is None or value.const_value is not None for value in layer.inputs[1:])
    )
    return layer if is_head else None


def _merge(graph: ir.Graph, layer: ir.Node, softmax: ir.Node) -> None:
    for index, axis in ((1, _CHANNELS_OF_WEIGHT[layer.op_type]), (2, 0)):
        array = constant_of(layer, index)
        if array is not None:
            first, second = np.split(array, 2, axis)
            name = f"{layer.name}/difference_{index}"
            layer.replace_input_with(index, add_constant(graph, name, second - first))
    scores = layer.outputs[0]
    if scores.shape is not None:
        scores.shape = ir.Shape([scores.shape[0], 1, *scores.shape[2:]])

    name = f"{softmax.name}"
    one = add_constant(graph, f"{name}/one", np.float32(1))
    structure = new_node("Sigmoid", [scores], f"{name}/structure")
    background = new_node("Sub", [one, structure.outputs[0]], f"{name}/background")
    both = new_node(
        "Concat", [background.outputs[0], structure.outputs[0]], f"{name}/both", {"axis": 1}
    )
    for node in (structure, background):
        node.outputs[0].type, node.outputs[0].shape = scores.type, scores.shape
    graph.insert_before(softmax, [structure, background, both])
    replace_by(graph, softmax, both.outputs[0])
