"""The arithmetic of n-bit quantization in PyTorch, on any device.

At 8 bits it is that of :mod:`medptq.quantization.arithmetic` and of ONNX's QuantizeLinear and
DequantizeLinear, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medptq.quantization.arithmetic import largest_integer

# As in medptq.quantization.arithmetic: a dead channel's scale is above 0.
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Grid:
    """The values ``scale * q`` with whole numbers q from ``lowest`` to ``lowest + steps``.

    Attributes:
        scale: float32, above 0, in a shape that broadcasts to what is quantized.
        lowest: Likewise, or one number for all.
        steps: Whole numbers between the lowest and the highest q.
    """

    scale: Tensor
    lowest: Tensor | int
    steps: int

    def integers(self, x: Tensor) -> Tensor:
        """Return the whole numbers that stand for ``x``, as floating point.

        It divides by the scale, as engines do, and rounds halves to the even number.
        """
        return self.within((x / self.scale).round_())

    def within(self, integers: Tensor) -> Tensor:
        """Return whole numbers, with those beyond the grid moved to its ends."""
        if isinstance(self.lowest, int):
            return integers.clamp(self.lowest, self.lowest + self.steps)
        return integers.clamp(self.lowest, self.lowest + self.steps)

    def nearest(self, x: Tensor) -> Tensor:
        """Return the values of the grid that are nearest to ``x``, in new memory."""
        return self.integers(x).mul_(self.scale)

    def to(self, device: torch.device) -> Grid:
        """Return the grid on a device."""
        lowest = self.lowest if isinstance(self.lowest, int) else self.lowest.to(device)
        return replace(self, scale=self.scale.to(device), lowest=lowest)


def signed_scale(amax: Tensor, bits: int) -> Tensor:
    """Return the scale whose grid reaches ``amax`` at 2^(bits-1) - 1; float32, above 0."""
    return (amax.double() / largest_integer(bits)).clamp_min_(_TINY).float()


def activation_grid(low: Tensor, high: Tensor, bits: int, *, signed: bool) -> Grid:
    """Return the grid of an activation that ranges from ``low`` to ``high``.

    Args:
        low: Lower ends, in a shape that broadcasts to the activation.
        high: Upper ends, likewise.
        bits: From 2 to 8.
        signed: True for the integers -2^(bits-1) to 2^(bits-1) - 1, the last of which stands for
            the larger magnitude of the two ends. False for 2^bits integers that span the two
            ends, 0 among them.
    """
    if signed:
        amax = torch.maximum(-low, high)
        return Grid(signed_scale(amax, bits), -(2 ** (bits - 1)), 2**bits - 1)
    steps = 2**bits - 1
    low, high = low.double().clamp_max(0.0), high.double().clamp_min(0.0)
    scale = ((high - low) / steps).clamp_min_(_TINY)
    return Grid(scale.float(), (low / scale).round_().float(), steps)


def weight_grid(amax: Tensor, bits: int) -> Grid:
    """Return the grid of a weight: symmetric, without -2^(bits-1).

    Args:
        amax: The largest magnitude represented, in a shape that broadcasts to the weight.
        bits: From 2 to 8.
    """
    largest = largest_integer(bits)
    return Grid(signed_scale(amax, bits), -largest, 2 * largest)
