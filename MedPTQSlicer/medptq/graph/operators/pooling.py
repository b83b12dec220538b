"""Poolings in one to three dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medptq.graph.operators.node import Node
from medptq.graph.operators.registry import operator
from medptq.graph.operators.windows import Windows, windows_of

_MAX: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@operator("MaxPool", allocates=True)
def max_pool(node: Node, x: Tensor) -> Tensor:
    """Take the maximum of each window of x [N, C, *spatial]."""
    if len(node.outputs) > 1:
        raise NotImplementedError("the indices of a MaxPool are not supported")
    if not x.is_floating_point():
        # PyTorch pools floating-point numbers only; float64 holds the others exactly.
        return max_pool(node, x.double()).to(x.dtype)  # type: ignore[union-attr]
    windows = windows_of(node, node.get("kernel_shape"), x.shape[2:])
    padding = windows.begins
    if not _fits_torch(windows):
        x, padding = windows.pad(x, -torch.inf), (0,) * len(padding)
    return _MAX[x.ndim - 2](x, windows.kernel, windows.strides, padding, windows.dilations)


@operator("AveragePool", allocates=True)
def average_pool(node: Node, x: Tensor) -> Tensor:
    """Take the mean of each window of x [N, C, *spatial], pads counted only if asked for."""
    windows = windows_of(node, node.get("kernel_shape"), x.shape[2:])
    count_pads = bool(node.get("count_include_pad", 0))
    rank = x.ndim - 2
    if _fits_torch(windows) and set(windows.dilations) == {1} and not node.get("ceil_mode", 0):
        return _AVERAGE[rank](
            x, windows.kernel, windows.strides, windows.begins, count_include_pad=count_pads
        )
    # Divide each window's sum by the number of its samples that count.
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if count_pads:
        pads = node.get("pads") or [0] * (2 * rank)
        given = Windows((), (), (), tuple(pads[:rank]), tuple(pads[rank:]))
        counted = given.pad(counted, 1.0)
        missing = tuple(all_ - pad for all_, pad in zip(windows.ends, given.ends, strict=True))
        counted = Windows((), (), (), (0,) * rank, missing).pad(counted)
    else:
        counted = windows.pad(counted)
    sums = _window_sums(windows, windows.pad(x).flatten(0, 1).unsqueeze(1))
    return (sums / _window_sums(windows, counted)).reshape(*x.shape[:2], *sums.shape[2:])


@operator("GlobalAveragePool", allocates=True)
def global_average_pool(node: Node, x: Tensor) -> Tensor:  # noqa: ARG001
    """Take the mean of each channel of x [N, C, *spatial]."""
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


@operator("GlobalMaxPool", allocates=True)
def global_max_pool(node: Node, x: Tensor) -> Tensor:  # noqa: ARG001
    """Take the maximum of each channel of x [N, C, *spatial]."""
    return x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)


def _fits_torch(windows: Windows) -> bool:
    """Tell whether PyTorch takes the pads: alike at both ends, and at most half a window."""
    return windows.symmetric and all(
        0 <= pad <= k // 2 for pad, k in zip(windows.begins, windows.kernel, strict=True)
    )


def _window_sums(windows: Windows, x: Tensor) -> Tensor:
    """Sum each window of x [N, 1, *spatial], padded already."""
    ones = torch.ones((1, 1, *windows.kernel), dtype=x.dtype, device=x.device)
    return _CONV[x.ndim - 2](x, ones, None, windows.strides, 0, windows.dilations)
