"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medptq.graph.operators.node import Node
from medptq.graph.operators.registry import Evaluate, numbers, operator


def _reduction(function: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> Evaluate:
    """Return a reduction whose axes are an input or, in older opsets, an attribute."""

    def evaluate(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        over = numbers(axes) if axes is not None else list(node.get("axes") or [])
        if not over and node.get("noop_with_empty_axes", 0):
            return function(x, (), True) if x.ndim else x
        # PyTorch takes no axes for all of them in some functions, and for none in others.
        dims = tuple(axis % x.ndim for axis in over) or tuple(range(x.ndim))
        return function(x, dims, bool(node.get("keepdims", 1)))

    return evaluate


def _prod(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    dtype = x.dtype
    for dim in sorted(dims, reverse=True):
        x = x.prod(dim, keepdim=keep)
    return x.to(dtype)


def _sum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return x.sum(dims, keepdim=keep, dtype=x.dtype) if dims else x


for _op_type, _function in (
    ("ReduceSum", _sum),
    ("ReduceMean", lambda x, dims, keep: x.mean(dims, keepdim=keep) if dims else x),
    ("ReduceProd", _prod),
    ("ReduceL1", lambda x, dims, keep: _sum(x.abs(), dims, keep)),
    ("ReduceL2", lambda x, dims, keep: _sum(x * x, dims, keep).sqrt()),
    ("ReduceSumSquare", lambda x, dims, keep: _sum(x * x, dims, keep)),
    ("ReduceLogSum", lambda x, dims, keep: _sum(x, dims, keep).log()),
    ("ReduceLogSumExp", lambda x, dims, keep: torch.logsumexp(x, dims, keep) if dims else x),
):
    operator(_op_type, host_inputs=(1,))(_reduction(_function))


def _extreme(
    function: Callable[..., Tensor], lowest: bool
) -> Callable[[Tensor, tuple[int, ...], bool], Tensor]:
    """Return amax or amin with a result for no elements at all: the type's own limit."""

    def reduce(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
        if not dims:
            return x
        if x.numel():
            return function(x, dims, keepdim=keep)
        if x.is_floating_point():
            limit = -torch.inf if lowest else torch.inf
        elif x.dtype == torch.bool:
            limit = 0 if lowest else 1
        else:
            info = torch.iinfo(x.dtype)
            limit = info.min if lowest else info.max
        return x.sum(dims, keepdim=keep, dtype=x.dtype).fill_(limit)

    return reduce


operator("ReduceMax", host_inputs=(1,))(_reduction(_extreme(torch.amax, lowest=True)))
operator("ReduceMin", host_inputs=(1,))(_reduction(_extreme(torch.amin, lowest=False)))


def _arg(function: Callable[..., Tensor]) -> Evaluate:
    def evaluate(node: Node, x: Tensor) -> Tensor:
        axis: int = node.get("axis", 0)
        keep = bool(node.get("keepdims", 1))
        if not node.get("select_last_index", 0):
            return function(x, dim=axis, keepdim=keep)
        return x.shape[axis] - 1 - function(x.flip(axis), dim=axis, keepdim=keep)

    return evaluate


operator("ArgMax", allocates=True)(_arg(torch.argmax))
operator("ArgMin", allocates=True)(_arg(torch.argmin))
