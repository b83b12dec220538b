"""QuantizeLinear and DequantizeLinear, to the last bit."""

from __future__ import annotations

import torch
from torch import Tensor

from medptq.graph.operators.node import DTYPES, Node
from medptq.graph.operators.registry import operator

_RANGES: dict[torch.dtype, tuple[int, int]] = {
    torch.int8: (-128, 127),
    torch.uint8: (0, 255),
    torch.int16: (-32768, 32767),
    torch.uint16: (0, 65535),
}


@operator("QuantizeLinear", allocates=True)
def quantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Return saturate(round(x / scale) + zero), halves rounded to the even number.

    It divides by the scale as ONNX, TensorRT and OpenVINO do; multiplying by its reciprocal, as
    :func:`torch.fake_quantize_per_tensor_affine` does, rounds some values to the next step.
    """
    dtype = zero.dtype if zero is not None else DTYPES.get(node.get("output_dtype", 0), torch.uint8)
    if dtype not in _RANGES:
        raise NotImplementedError(f"quantizing to {dtype} is not supported")
    precision = DTYPES.get(node.get("precision", 0), scale.dtype)
    quotient = x.to(precision) / _along_axis(node, scale, x).to(precision)
    rounded = torch.round(quotient)
    if zero is not None:
        rounded = rounded + _along_axis(node, zero, x).to(precision)
    return rounded.clamp(*_RANGES[dtype]).to(dtype)


@operator("DequantizeLinear", allocates=True)
def dequantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Return (x - zero) * scale."""
    if x.dtype not in _RANGES and x.dtype != torch.int32:
        raise NotImplementedError(f"dequantizing {x.dtype} is not supported")
    dtype = DTYPES.get(node.get("output_dtype", 0), scale.dtype)
    centred = x.to(torch.float32)
    if zero is not None:
        centred = centred - _along_axis(node, zero, x).to(torch.float32)
    return (centred * _along_axis(node, scale, x).to(torch.float32)).to(dtype)


def _along_axis(node: Node, parameter: Tensor, x: Tensor) -> Tensor:
    """Return a scale or zero point in a shape that broadcasts to x's."""
    if parameter.numel() == 1 and parameter.ndim < 2:
        return parameter.reshape(())
    axis = node.get("axis", 1) % x.ndim
    if parameter.ndim == 1:
        return parameter.reshape([-1 if place == axis else 1 for place in range(x.ndim)])
    block = node.get("block_size", 0) or -(-x.shape[axis] // parameter.shape[axis])
    return parameter.repeat_interleave(block, dim=axis).narrow(axis, 0, x.shape[axis])
