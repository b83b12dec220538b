"""Moving elements: joining, cutting, padding, reordering."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medptq.graph.operators.node import Node
from medptq.graph.operators.registry import numbers, on_one_device, operator


@operator("Transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    """Reorder the axes by ``perm``, or turn their order round."""
    return x.permute(node.get("perm") or tuple(reversed(range(x.ndim))))


@operator("Concat", allocates=True)
def concat(node: Node, *inputs: Tensor) -> Tensor:
    """Join the inputs along ``axis``."""
    return torch.cat(on_one_device(*inputs), dim=node.get("axis"))


@operator("Split", host_inputs=(1,))
def split(node: Node, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    """Cut x along ``axis`` into pieces of the given sizes, or of equal sizes but the last."""
    axis = node.get("axis", 0)
    lengths = list(node.get("split") or []) if sizes is None else numbers(sizes)
    if not lengths:
        length = math.ceil(x.shape[axis] / len(node.outputs))
        lengths = [length] * (len(node.outputs) - 1)
        lengths.append(x.shape[axis] - sum(lengths))
    return torch.split(x, lengths, dim=axis)


@operator("Slice", host_inputs=(1, 2, 3, 4))
def slice_(
    node: Node,  # noqa: ARG001
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """Cut x from ``starts`` to ``ends``, left out, in ``steps`` along ``axes``."""
    firsts = numbers(starts)
    over = numbers(axes) if axes is not None else list(range(len(firsts)))
    strides = numbers(steps) if steps is not None else [1] * len(firsts)
    for axis, first, last, step in zip(over, firsts, numbers(ends), strides, strict=True):
        # Python clamps a slice to the axis just as ONNX does.
        indices = range(x.shape[axis])[slice(first, last, step)]
        if len(indices) == 0:
            x = x.narrow(axis, 0, 0)
        elif step > 0:
            x = x.movedim(axis, 0)[indices.start : indices[-1] + 1 : step].movedim(0, axis)
        else:
            chosen = torch.tensor(list(indices), device=x.device)
            x = x.index_select(axis, chosen)
    return x


@operator("Gather")
def gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """Pick the slices ``indices`` of x along ``axis``; negative ones count from the end."""
    x, indices = on_one_device(x, indices)
    axis = node.get("axis", 0) % x.ndim
    flat = indices.reshape(-1).long()
    flat = torch.where(flat < 0, flat + x.shape[axis], flat)
    picked = x.index_select(axis, flat)
    return picked.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


@operator("GatherND", allocates=True)
def gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """Pick the slices of x at ``indices`` [..., K]; the first ``batch_dims`` axes are shared."""
    x, indices = on_one_device(x, indices)
    batch_dims: int = node.get("batch_dims", 0)
    places = [
        torch.arange(x.shape[axis], device=x.device).reshape(
            [-1 if place == axis else 1 for place in range(indices.ndim - 1)]
        )
        for axis in range(batch_dims)
    ]
    return x[(*places, *indices.unbind(-1))]


@operator("ScatterND", allocates=True)
def scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Return x with the slices at ``indices`` [..., K] replaced by ``updates``, or those added."""
    reduction = node.get("reduction", "none")
    if reduction not in ("none", "add"):
        raise NotImplementedError(f"the reduction {reduction!r} is not supported")
    x, indices, updates = on_one_device(x, indices, updates)
    return x.index_put(indices.unbind(-1), updates, accumulate=reduction == "add")


@operator("Tile", host_inputs=(1,))
def tile(node: Node, x: Tensor, repeats: Tensor) -> Tensor:  # noqa: ARG001
    """Repeat x along each of its axes."""
    return x.repeat(numbers(repeats))


@operator("Pad", host_inputs=(1, 2, 3))
def pad(
    node: Node,
    x: Tensor,
    pads: Tensor,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    """Add samples around x, or cut some off where a pad is negative."""
    amounts = numbers(pads)
    over = numbers(axes) if axes is not None else list(range(x.ndim))
    befores, afters = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(over):
        befores[axis], afters[axis] = amounts[place], amounts[place + len(over)]
    mode = node.get("mode", "constant")
    if mode == "constant":
        fill = 0 if value is None else value.item()
        pairs = [n for pair in zip(reversed(befores), reversed(afters), strict=True) for n in pair]
        return F.pad(x, pairs, value=fill)
    for axis, (before, after) in enumerate(zip(befores, afters, strict=True)):
        if before or after:
            x = x.index_select(axis, _mirrored(mode, x.shape[axis], before, after).to(x.device))
    return x


def _mirrored(mode: str, length: int, before: int, after: int) -> Tensor:
    """Return the index in the axis that each sample of the padded axis is a copy of."""
    indices = torch.arange(-before, length + after)
    if mode == "edge":
        return indices.clamp(0, length - 1)
    if mode == "wrap":
        return indices % length
    if mode == "reflect":
        period = max(2 * (length - 1), 1)
        indices = indices % period
        return torch.where(indices < length, indices, period - indices)
    raise NotImplementedError(f"the mode {mode!r} is not supported")


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    """Move blocks of channels of x [N, C, H, W] into H and W (pixel shuffle)."""
    block = node.get("blocksize")
    n, c, h, w = x.shape
    if node.get("mode", "DCR") == "DCR":
        shape: Sequence[int] = (n, block, block, c // block**2, h, w)
        order = (0, 3, 4, 1, 5, 2)
    else:
        shape = (n, c // block**2, block, block, h, w)
        order = (0, 1, 4, 2, 5, 3)
    return x.reshape(shape).permute(order).reshape(n, c // block**2, h * block, w * block)


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    """Move blocks of H and W of x [N, C, H, W] into channels."""
    block = node.get("blocksize")
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // block, block, w // block, block)
    order = (0, 3, 5, 1, 2, 4) if node.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return x.permute(order).reshape(n, c * block**2, h // block, w // block)
