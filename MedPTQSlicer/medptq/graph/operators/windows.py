"""Where the windows of convolutions and poolings lie: pads, and the sizes that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medptq.graph.operators.node import Node


@dataclass(frozen=True)
class Windows:
    """Sliding windows over the spatial axes; every field has one entry an axis.

    Attributes:
        kernel: Samples a window takes.
        strides: Samples from one window to the next.
        dilations: Samples from one tap of a window to the next.
        begins: Samples added before the first.
        ends: Samples added after the last; negative where the last ones are in no window.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        """True if PyTorch's ``padding`` can express the pads."""
        return self.begins == self.ends

    def pad(self, x: Tensor, value: float = 0.0) -> Tensor:
        """Return ``x`` [N, C, *spatial] with the pads added, and negative ones cut off."""
        if not any(self.begins) and not any(self.ends):
            return x
        return pad_spatial(x, self.begins, self.ends, value)


def windows_of(node: Node, kernel: Sequence[int], size: Sequence[int]) -> Windows:
    """Work out the windows of a Conv, MaxPool or AveragePool node.

    Args:
        node: The node; ``strides``, ``dilations``, ``pads``, ``auto_pad`` and ``ceil_mode`` are
            read.
        kernel: The window's size.
        size: The input's spatial shape.
    """
    rank = len(size)
    strides = tuple(node.get("strides") or [1] * rank)
    dilations = tuple(node.get("dilations") or [1] * rank)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto_pad = node.get("auto_pad", "NOTSET")
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((math.ceil(n / stride) - 1) * stride + span - n, 0)
            for n, stride, span in zip(size, strides, spans, strict=True)
        ]
        begins, ends = split_padding(totals, at_end=auto_pad == "SAME_UPPER")
    else:
        pads = node.get("pads") if auto_pad == "NOTSET" else None
        pads = tuple(pads or [0] * (2 * rank))
        begins, ends = pads[:rank], pads[rank:]
        if node.get("ceil_mode", 0):
            ends = tuple(
                _ceil_end(n, stride, span, begin, end)
                for n, stride, span, begin, end in zip(
                    size, strides, spans, begins, ends, strict=True
                )
            )
    return Windows(tuple(kernel), strides, dilations, begins, ends)


def split_padding(
    totals: Sequence[int], *, at_end: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Share out padding between both ends; the odd sample goes to the end or the beginning."""
    small = tuple(total // 2 for total in totals)
    large = tuple(total - half for total, half in zip(totals, small, strict=True))
    return (small, large) if at_end else (large, small)


def pad_spatial(
    x: Tensor, begins: Sequence[int], ends: Sequence[int], value: float = 0.0
) -> Tensor:
    """Pad, or cut where negative, the last ``len(begins)`` axes of ``x``."""
    # F.pad starts with the last axis.
    pairs = [pad for pair in zip(reversed(begins), reversed(ends), strict=True) for pad in pair]
    return F.pad(x, pairs, value=value)


def _ceil_end(size: int, stride: int, span: int, begin: int, end: int) -> int:
    """Return the end pad with which rounding down gives what ``ceil_mode`` asks for."""
    count = math.ceil((size + begin + end - span) / stride) + 1
    if (count - 1) * stride >= size + begin:
        # A window that starts in the end pad is left out.
        count -= 1
    return (count - 1) * stride + span - size - begin
