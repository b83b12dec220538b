"""Arithmetic, comparison and logic on broadcast tensors, element by element."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medptq.graph.operators.node import DTYPES, Node, element_type_name
from medptq.graph.operators.registry import Evaluate, on_one_device, operator


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Evaluate:
    return lambda _node, a, b: function(*on_one_device(a, b))


def _binary_in_place(function: Any, function_in_place: Any) -> Evaluate:
    """Write over the first input if the result has its shape and element type."""

    def evaluate(_node: Node, a: Tensor, b: Tensor) -> Tensor:
        a, b = on_one_device(a, b)
        same = a.dtype == b.dtype and np.broadcast_shapes(a.shape, b.shape) == a.shape
        result: Tensor = (function_in_place if same else function)(a, b)
        return result

    return evaluate


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _divide_in_place(a: Tensor, b: Tensor) -> Tensor:
    return a.div_(b) if a.is_floating_point() else a.div_(b, rounding_mode="trunc")


for _op_type, _function, _function_in_place in (
    ("Add", torch.add, Tensor.add_),
    ("Sub", torch.sub, Tensor.sub_),
    ("Mul", torch.mul, Tensor.mul_),
    ("Div", _divide, _divide_in_place),
):
    operator(_op_type, in_place=_binary_in_place(_function, _function_in_place))(_binary(_function))

for _op_type, _comparison in (
    ("Equal", torch.eq),
    ("Greater", torch.gt),
    ("GreaterOrEqual", torch.ge),
    ("Less", torch.lt),
    ("LessOrEqual", torch.le),
    ("And", torch.logical_and),
    ("Or", torch.logical_or),
    ("Xor", torch.logical_xor),
):
    operator(_op_type, allocates=True)(_binary(_comparison))


@operator("Pow", allocates=True)
def pow_(node: Node, a: Tensor, b: Tensor) -> Tensor:  # noqa: ARG001
    """Return a to the power of b, in a's element type."""
    a, b = on_one_device(a, b)
    return torch.pow(a, b).to(a.dtype)


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Evaluate:
    return lambda _node, *inputs: reduce(function, on_one_device(*inputs))


operator("Max")(_variadic(torch.maximum))
operator("Min")(_variadic(torch.minimum))
operator("Sum")(_variadic(torch.add))


@operator("Mean", allocates=True)
def mean(node: Node, *inputs: Tensor) -> Tensor:  # noqa: ARG001
    """Return the mean of the inputs."""
    return reduce(torch.add, on_one_device(*inputs)) / len(inputs)


@operator("Mod", allocates=True)
def mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Return the remainder, with the sign of b, or of a if ``fmod`` is set."""
    a, b = on_one_device(a, b)
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


@operator("Not", allocates=True)
def not_(node: Node, x: Tensor) -> Tensor:  # noqa: ARG001
    """Return the logical negation."""
    return torch.logical_not(x)


@operator("Where", allocates=True)
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:  # noqa: ARG001
    """Return a where the condition holds, else b."""
    condition, a, b = on_one_device(condition, a, b)
    return torch.where(condition, a, b)


def _clip_in_place(
    node: Node,  # noqa: ARG001
    x: Tensor,
    low: Tensor | None = None,
    high: Tensor | None = None,
) -> Tensor:
    return x if low is None and high is None else x.clamp_(low, high)


@operator("Clip", in_place=_clip_in_place)
def clip(
    node: Node,  # noqa: ARG001
    x: Tensor,
    low: Tensor | None = None,
    high: Tensor | None = None,
) -> Tensor:
    """Return x, no lower than ``low`` and no higher than ``high``; the latter wins."""
    return x.clone() if low is None and high is None else x.clamp(low, high)


@operator("Cast")
def cast(node: Node, x: Tensor) -> Tensor:
    """Convert to the element type ``to``; fractions are cut off, not rounded."""
    dtype = DTYPES.get(node.get("to"))
    if dtype is None:
        raise NotImplementedError(f"{element_type_name(node.get('to'))} is not supported")
    return x.to(dtype)


@operator("CastLike")
def cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:  # noqa: ARG001
    """Convert to the element type of ``like``."""
    return x.to(like.dtype)
