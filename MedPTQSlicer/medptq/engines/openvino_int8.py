"""What OpenVINO computes in INT8 on the CPU at hand, found by running it, and what mends it.

Where a CPU has no AMX, OpenVINO holds signed INT8 as unsigned, around a zero point of 128. It loses
that where quantized tensors are concatenated, as in every U-Net (seen in 2026.4.1 on an AMD EPYC,
where a trained network labelled 4 % of the voxels otherwise). A maximum that changes nothing,
behind the concatenation, keeps the zero point and costs nothing: it is computed with the
quantization.

Where a CPU has no VNNI either, two products are added up in 16 bits, which 8-bit weights overflow.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from medptq.graph.editing import add_constant, new_node

_SHAPE = (1, 16, 4, 4, 4)
_CLASSES = 4
_LARGEST = 127
_LOWEST = np.float32(np.finfo(np.float32).min)
_WRONG = 0.01  # error beyond any rounding, as a share of the output


@functools.cache
def multiplies_exactly(core: Any) -> bool:
    """Tell whether the sums of a convolution of large integers are right on this CPU.

    Args:
        core: ``openvino.Core``.
    """
    image = np.full(_SHAPE, _LARGEST)
    return _error(core, image, np.full((_CLASSES, _SHAPE[1]), _LARGEST)) < _WRONG


@functools.cache
def concatenates_exactly(core: Any) -> bool:
    """Tell whether quantized tensors can be concatenated on this CPU.

    Args:
        core: ``openvino.Core``.
    """
    generator = np.random.default_rng(0)
    image = generator.integers(-_LARGEST, _LARGEST + 1, _SHAPE)
    # Small enough for sums that are right in 16 bits, too.
    return _error(core, image, generator.integers(-40, 41, (_CLASSES, 2 * _SHAPE[1]))) < _WRONG


def with_kept_zero_points(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a Q/DQ graph that computes the same, with a barrier behind its concatenations.

    Only behind those that read or make what is quantized; others, such as of shapes, stay.
    """
    rewritten = ir.from_proto(model)
    graph = rewritten.graph
    for node in list(graph):
        if node.op_type != "Concat" or not _is_of_quantized(node):
            continue
        value = node.outputs[0]
        users = list(value.uses())
        lowest = add_constant(graph, f"{value.name}/barrier/lowest", _LOWEST)
        barrier = new_node("Max", [value, lowest], f"{value.name}/barrier")
        graph.insert_after(node, barrier)
        for user, index in users:
            user.replace_input_with(index, barrier.outputs[0])
    return ir.to_proto(rewritten)


def _is_of_quantized(node: ir.Node) -> bool:
    makers = [value.producer() for value in node.inputs if value is not None]
    makes = any(user.op_type == "QuantizeLinear" for user, _ in node.outputs[0].uses())
    return makes or any(maker and maker.op_type == "DequantizeLinear" for maker in makers)


def _error(core: Any, image: NDArray[np.integer[Any]], weight: NDArray[np.integer[Any]]) -> float:
    """Run a convolution in INT8, of an image or, with twice the weights, of two concatenated.

    Args:
        core: ``openvino.Core``.
        image: Integers [1, C, D, H, W].
        weight: Integers [classes, C] or [classes, 2 C], of a kernel of a single voxel.

    Returns:
        The output's error, as a share of the output.
    """
    scale, copies = np.float32(0.03), weight.shape[1] // image.shape[1]
    kernel = weight.astype(np.int8)[:, :, None, None, None]
    constants = {"scale": scale, "zero": np.int8(0), "kernel": kernel}
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["integers"]),
        helper.make_node("DequantizeLinear", ["integers", "scale", "zero"], ["one"]),
        helper.make_node("Concat", ["one"] * copies, ["both"], axis=1),
        helper.make_node("DequantizeLinear", ["kernel", "scale", "zero"], ["weights"]),
        helper.make_node("Conv", ["both", "weights"], ["output"], kernel_shape=[1, 1, 1]),
    ]
    shape = (1, len(weight), *image.shape[2:])
    graph = helper.make_graph(
        nodes,
        "proof",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    try:
        compiled = core.compile_model(
            core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
    except RuntimeError:  # it has no kernel for that, and so none that is exact
        return float("inf")
    found = compiled([image.astype(np.float32) * scale])[0]
    both = np.concatenate([image] * copies, 1)[0]
    expected = scale**2 * np.einsum("oc,cdhw->odhw", weight, both)[None]
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
