"""Resampling to another size."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medptq.graph.operators.node import Node
from medptq.graph.operators.registry import numbers, operator

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@operator("Resize", host_inputs=(1, 2, 3))
def resize(
    node: Node,
    x: Tensor,
    roi: Tensor | None = None,  # noqa: ARG001
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    """Resample x to ``sizes``, or to its own size times ``scales``, rounded down."""
    if node.get("antialias", 0) or node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotImplementedError("antialias and keep_aspect_ratio_policy are not supported")
    axes = [axis % x.ndim for axis in node.get("axes") or range(x.ndim)]
    lengths, factors = list(x.shape), [1.0] * x.ndim
    if scales is not None and scales.numel():
        for axis, factor in zip(axes, scales.tolist(), strict=True):
            # In single precision, as its makers do: 5/3 of 6 voxels are 10.
            lengths[axis] = math.floor(np.float32(x.shape[axis]) * np.float32(factor))
            factors[axis] = factor
    else:
        for axis, length in zip(axes, numbers(sizes), strict=True):
            lengths[axis], factors[axis] = length, length / x.shape[axis]
    fast = _torch_mode(node, x, lengths, factors)
    if fast is not None:
        mode, align_corners = fast
        return F.interpolate(x, size=lengths[2:], mode=mode, align_corners=align_corners)
    for axis in range(x.ndim):
        if lengths[axis] != x.shape[axis] or factors[axis] != 1.0:
            x = _resize_axis(node, x, axis, lengths[axis], factors[axis])
    return x


def _torch_mode(
    node: Node, x: Tensor, lengths: list[int], factors: list[float]
) -> tuple[str, bool | None] | None:
    """Return the mode and ``align_corners`` with which F.interpolate does the same, if any."""
    exact = all(
        n * factor == length for n, factor, length in zip(x.shape, factors, lengths, strict=True)
    )
    if (
        x.ndim not in _LINEAR
        or list(x.shape[:2]) != lengths[:2]
        or not x.is_floating_point()
        or not exact
    ):
        return None
    transform = node.get("coordinate_transformation_mode", "half_pixel")
    match node.get("mode", "nearest"):
        case "linear" if transform in ("half_pixel", "half_pixel_symmetric"):
            return _LINEAR[x.ndim], False
        case "linear" if transform == "pytorch_half_pixel" and min(lengths[2:]) > 1:
            return _LINEAR[x.ndim], False
        case "linear" if transform == "align_corners" and min(lengths[2:]) > 1:
            return _LINEAR[x.ndim], True
        case "nearest" if (
            transform == "asymmetric" and node.get("nearest_mode", "round_prefer_floor") == "floor"
        ):
            return "nearest", None
    return None


def _resize_axis(node: Node, x: Tensor, axis: int, length: int, factor: float) -> Tensor:
    """Resample one axis; the weights of all modes are separable."""
    n = x.shape[axis]
    at = _source_positions(node, n, length, factor)
    mode = node.get("mode", "nearest")
    if mode == "nearest":
        indices = _nearest(node, at).clamp(0, n - 1).long()
        return x.index_select(axis, indices.to(x.device))
    weights = _linear_weights(at, n) if mode == "linear" else _cubic_weights(node, at, n)
    weights = weights.to(x.device, x.dtype)
    return (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)


def _source_positions(node: Node, n: int, length: int, factor: float) -> Tensor:
    """Return where, in samples of the input, each sample of the output lies; float64 [length]."""
    at = torch.arange(length, dtype=torch.float64)
    transform = node.get("coordinate_transformation_mode", "half_pixel")
    if transform == "pytorch_half_pixel" and length == 1:
        return at
    if transform in ("half_pixel", "pytorch_half_pixel"):
        return (at + 0.5) / factor - 0.5
    if transform == "half_pixel_symmetric":
        # The middle of the output stays in the middle of the input, however the size is rounded.
        return n / 2 * (1 - length / (n * factor)) + (at + 0.5) / factor - 0.5
    if transform == "asymmetric":
        return at / factor
    if transform == "align_corners":
        return at * (n - 1) / max(n * factor - 1, 1)
    raise NotImplementedError(f"the coordinate transformation {transform!r} is not supported")


def _nearest(node: Node, at: Tensor) -> Tensor:
    match node.get("nearest_mode", "round_prefer_floor"):
        case "round_prefer_floor":
            return torch.ceil(at - 0.5)
        case "round_prefer_ceil":
            return torch.floor(at + 0.5)
        case "floor":
            return torch.floor(at)
        case _:
            return torch.ceil(at)


def _linear_weights(at: Tensor, n: int) -> Tensor:
    """Return the weights [output, input] of linear interpolation, the edges repeated."""
    at = at.clamp(0, n - 1)
    return (1 - (at[:, None] - torch.arange(n)).abs()).clamp_min(0)


def _cubic_weights(node: Node, at: Tensor, n: int) -> Tensor:
    """Return the weights [output, input] of cubic convolution (Keys 1981)."""
    a = node.get("cubic_coeff_a", -0.75)
    taps = at.floor()[:, None] + torch.arange(-1, 3)
    s = (at[:, None] - taps).abs()
    near = ((a + 2) * s - (a + 3)) * s * s + 1
    far = ((a * s - 5 * a) * s + 8 * a) * s - 4 * a
    values = torch.where(s <= 1, near, torch.where(s < 2, far, torch.zeros_like(s)))
    if node.get("exclude_outside", 0):
        values = values * ((taps >= 0) & (taps < n))
        values = values / values.sum(1, keepdim=True)
    weights = torch.zeros(len(at), n, dtype=torch.float64)
    return weights.scatter_add_(1, taps.clamp(0, n - 1).long(), values)
