"""Convolutions in one to three dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medptq.graph.operators.node import Node
from medptq.graph.operators.registry import operator
from medptq.graph.operators.windows import pad_spatial, split_padding, windows_of

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


@operator("Conv", allocates=True)
def conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve x [N, C, *spatial] with weight [O, C/group, *kernel]."""
    windows = windows_of(node, weight.shape[2:], x.shape[2:])
    padding = windows.begins
    if not windows.symmetric:
        x, padding = windows.pad(x), (0,) * len(padding)
    return _CONV[x.ndim - 2](
        x, weight, bias, windows.strides, padding, windows.dilations, node.get("group", 1)
    )


@operator("ConvTranspose", allocates=True)
def conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve x [N, C, *spatial] with weight [C, O/group, *kernel], transposed."""
    rank = x.ndim - 2
    group = node.get("group", 1)
    strides = tuple(node.get("strides") or [1] * rank)
    dilations = tuple(node.get("dilations") or [1] * rank)
    extra = tuple(node.get("output_padding") or [0] * rank)
    begins, ends = _transposed_pads(node, x.shape[2:], weight.shape[2:], strides, dilations, extra)
    function = _CONV_TRANSPOSE[rank]
    if begins == ends and all(
        add < max(stride, dilation)
        for add, stride, dilation in zip(extra, strides, dilations, strict=True)
    ):
        return function(x, weight, bias, strides, begins, extra, group, dilations)
    # PyTorch has one pad an axis, so cut the whole result; what is added gets the bias too.
    y = function(x, weight, None, strides, 0, 0, group, dilations)
    y = pad_spatial(
        y, [-n for n in begins], [add - end for add, end in zip(extra, ends, strict=True)]
    )
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


def _transposed_pads(
    node: Node,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    extra: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how many samples are cut off the beginning and the end of each spatial axis."""
    rank = len(size)
    auto_pad = node.get("auto_pad", "NOTSET")
    wanted = node.get("output_shape")
    if wanted is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * stride for n, stride in zip(size, strides, strict=True)]
    if wanted is None:
        pads = node.get("pads") if auto_pad == "NOTSET" else None
        pads = tuple(pads or [0] * (2 * rank))
        return pads[:rank], pads[rank:]
    totals = [
        stride * (n - 1) + add + (k - 1) * dilation + 1 - want
        for n, k, stride, dilation, add, want in zip(
            size, kernel, strides, dilations, extra, wanted[-rank:], strict=True
        )
    ]
    return split_padding(totals, at_end=auto_pad == "SAME_UPPER")
