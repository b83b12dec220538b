"""An exact rewrite of the head of networks that tell one structure from background."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

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
        if node.op_type == "Softmax" and _is_two_class_head(node):
            merged.append(f"{node.name}")
            _merge(model.graph, node)
    return tuple(merged)


def _is_two_class_head(softmax: ir.Node) -> bool:
    scores = softmax.inputs[0]
    layer = scores.producer() if scores is not None else None
    if scores is None or scores.shape is None or layer is None:
        return False
    rank = len(scores.shape)
    return (
        layer.op_type in _CHANNELS_OF_WEIGHT
        and scores.shape[1] == 2
        and softmax.attributes.get_int("axis", -1) in (1, 1 - rank)
        and len(scores.uses()) == 1
        and not scores.is_graph_output()
        and layer.attributes.get_int("group", 1) == 1
        and all(value is None or value.const_value is not None for value in layer.inputs[1:])
    )


def _merge(graph: ir.Graph, softmax: ir.Node) -> None:
    scores = softmax.inputs[0]
    layer = scores.producer() if scores is not None else None
    if scores is None or layer is None:  # as checked; for the types
        return
    name = f"{softmax.name}"
    for index, axis in ((1, _CHANNELS_OF_WEIGHT[layer.op_type]), (2, 0)):
        value = layer.inputs[index] if index < len(layer.inputs) else None
        if value is None or value.const_value is None:
            continue
        background, structure = np.split(value.const_value.numpy(), 2, axis)
        difference = _constant(graph, f"{value.name}/difference", structure - background)
        layer.replace_input_with(index, difference)
    scores.shape = ir.Shape([scores.shape[0], 1, *scores.shape[2:]]) if scores.shape else None

    one = _constant(graph, f"{name}/one", np.array(1, np.float32))
    sigmoid = ir.node("Sigmoid", [scores], name=f"{name}/structure")
    rest = ir.node("Sub", [one, sigmoid.outputs[0]], name=f"{name}/background")
    both = ir.node(
        "Concat", [rest.outputs[0], sigmoid.outputs[0]], {"axis": 1}, name=f"{name}/both"
    )
    for new in (sigmoid, rest, both):
        new.outputs[0].name = f"{new.name}_output"
        new.outputs[0].type, new.outputs[0].shape = scores.type, scores.shape
    graph.insert_before(softmax, [sigmoid, rest, both])

    old, result = softmax.outputs[0], both.outputs[0]
    name_kept, old.name = old.name, None
    result.shape, result.type = old.shape, old.type
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(softmax, safe=True)
    result.name = name_kept


def _constant(
    graph: ir.Graph, name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
    graph.register_initializer(value)
    return value
