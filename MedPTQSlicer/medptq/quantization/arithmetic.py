"""The arithmetic of symmetric INT8 quantization, as ONNX and the engines do it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INT8_MAX = 127

# The smallest normal FP32 number keeps a dead channel's scale above 0 (TensorRT refuses 0) and
# out of the subnormal range that some CPUs flush to 0.
_TINY = float(np.finfo(np.float32).tiny)


def largest_integer(bits: int) -> int:
    """Return the largest integer of a symmetric grid of ``bits`` bits: 127 at 8."""
    return int(2 ** (bits - 1) - 1)


def symmetric_scale(amax: NDArray[np.floating] | float) -> NDArray[np.float32]:
    """Return the scale whose grid reaches ``amax`` at the integer 127.

    Args:
        amax: Largest magnitude to be represented; 0 for a tensor or channel that is all zero.

    Returns:
        float32 scale or scales, each above 0.
    """
    return np.maximum(np.asarray(amax, np.float64) / INT8_MAX, _TINY).astype(np.float32)


def quantize_weight(
    weight: NDArray[np.floating], axis: int | None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize a weight to INT8 by its largest magnitude.

    Rounding is to nearest, ties to even, as in ONNX's QuantizeLinear. -128 is never used, so the
    grid is symmetric, as TensorRT asks.

    Args:
        weight: Weight of any shape.
        axis: Axis that each has its own scale along, or None for one scale.

    Returns:
        The integers, in the weight's shape, and the scale: [channels], or a scalar array.
    """
    if axis is None:
        scale = symmetric_scale(np.abs(weight).max(initial=0.0))
        spread = scale
    else:
        others = tuple(a for a in range(weight.ndim) if a != axis)
        scale = symmetric_scale(np.abs(weight).max(axis=others, initial=0.0))
        spread = np.expand_dims(scale, others)
    integers = np.rint(weight.astype(np.float32) / spread)
    return np.clip(integers, -INT8_MAX, INT8_MAX).astype(np.int8), scale
