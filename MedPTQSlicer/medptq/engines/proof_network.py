"""A small network of 3D convolutions, plain or with Q/DQ nodes, to prove engines with."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

PROOF_SHAPE = (1, 1, 32, 32, 32)
"""(N, C, D, H, W) that the network is run at."""

# Channels per layer: as many as INT8 kernels need to be chosen over floating point.
_CHANNELS = (32, 32, 2)
# Of each layer's input, so that nothing is cut off: an engine that takes FP16 for some of the
# layers, as TensorRT does where that is faster, computes nearly the same.
_ACTIVATION_SCALES = (0.024, 0.07, 0.055)


def proof_network(*, quantized: bool) -> onnx.ModelProto:
    """Make the network: 3x3x3 convolutions with a ReLU between them, and seeded weights.

    Args:
        quantized: Put Q/DQ pairs on each convolution's input (per tensor) and on its weights (per
            output channel, stored as INT8).

    Returns:
        A graph with the input ``image`` [1, 1, D, H, W] and the output ``logits``
        [1, 2, D, H, W].
    """
    generator = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: NDArray[np.generic]) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    value, channels = "image", PROOF_SHAPE[1]
    for layer, width in enumerate(_CHANNELS):
        spread = np.sqrt(2 / (channels * 27))
        weights = generator.normal(0, spread, (width, channels, 3, 3, 3)).astype(np.float32)
        if quantized:
            scale = constant(f"scale{layer}", np.array(_ACTIVATION_SCALES[layer], np.float32))
            zero = constant(f"zero{layer}", np.array(0, np.int8))
            rounded, restored = f"{value}_int8", f"{value}_restored"
            nodes += [
                helper.make_node("QuantizeLinear", [value, scale, zero], [rounded]),
                helper.make_node("DequantizeLinear", [rounded, scale, zero], [restored]),
            ]
            value = restored
            scales = np.abs(weights).max(axis=(1, 2, 3, 4)) / 127
            steps = np.rint(weights / scales[:, None, None, None, None]).astype(np.int8)
            inputs = [
                constant(f"weights{layer}_int8", steps),
                constant(f"weights{layer}_scale", scales),
                constant(f"weights{layer}_zero", np.zeros(width, np.int8)),
            ]
            nodes.append(helper.make_node("DequantizeLinear", inputs, [f"weights{layer}"], axis=0))
        else:
            constant(f"weights{layer}", weights)
        last = layer == len(_CHANNELS) - 1
        output = "logits" if last else f"conv{layer}"
        nodes.append(
            helper.make_node(
                "Conv",
                [value, f"weights{layer}"],
                [output],
                kernel_shape=[3, 3, 3],
                pads=[1] * 6,
            )
        )
        value, channels = output, width
        if not last:
            value = f"relu{layer}"
            nodes.append(helper.make_node("Relu", [output], [value]))
    graph = helper.make_graph(
        nodes,
        "proof",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, PROOF_SHAPE)],
        [
            helper.make_tensor_value_info(
                "logits", onnx.TensorProto.FLOAT, (1, channels, *PROOF_SHAPE[2:])
            )
        ],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
