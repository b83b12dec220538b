"""Shapes as data, constants, and changes of shape that keep the order of the elements."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from medptq.graph.operators.node import Node
from medptq.graph.operators.registry import numbers, operator


@operator("Shape", allocates=True)
def shape(node: Node, x: Tensor) -> Tensor:
    """Return x's shape, from ``start`` to ``end``, in CPU memory."""
    return torch.tensor(x.shape[node.get("start", 0) : node.get("end")], dtype=torch.int64)


@operator("Size", allocates=True)
def size(node: Node, x: Tensor) -> Tensor:  # noqa: ARG001
    """Return the number of x's elements, in CPU memory."""
    return torch.tensor(x.numel())


@operator("Constant")
def constant(node: Node) -> Tensor:
    """Return the value that one of the attributes holds."""
    if "value" in node.attributes:
        value: Tensor = node.attributes["value"]
        return value
    for kind, dtype in (("float", torch.float32), ("int", torch.int64)):
        for name in (f"value_{kind}", f"value_{kind}s"):
            if name in node.attributes:
                return torch.tensor(node.attributes[name], dtype=dtype)
    raise NotImplementedError(f"constants of the kind {list(node.attributes)} are not supported")


@operator("ConstantOfShape", host_inputs=(0,))
def constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    """Return a tensor of the given shape, filled with ``value``."""
    value: Tensor = node.get("value", torch.zeros(1))
    return value.reshape(()).expand(numbers(shape)).clone()


@operator("Range", host_inputs=(0, 1, 2), allocates=True)
def range_(node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:  # noqa: ARG001
    """Return the numbers from ``start`` in steps of ``delta``, up to ``limit``, left out."""
    first, last, step = start.item(), limit.item(), delta.item()
    count = max(math.ceil((last - first) / step), 0)
    return start + torch.arange(count, dtype=start.dtype) * delta


@operator("Identity")
def identity(node: Node, x: Tensor) -> Tensor:  # noqa: ARG001
    """Return x."""
    return x


@operator("Dropout", host_inputs=(1, 2))
def dropout(
    node: Node,
    x: Tensor,
    ratio: Tensor | None = None,  # noqa: ARG001
    training: Tensor | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """Return x: nothing is dropped at inference."""
    if training is not None and bool(training):
        raise NotImplementedError("it is in training mode; export the network in eval mode")
    if len(node.outputs) > 1:
        return x, torch.ones_like(x, dtype=torch.bool)
    return x


@operator("Reshape", host_inputs=(1,))
def reshape(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    """Return x in another shape; -1 is worked out, 0 is copied from x unless ``allowzero``."""
    sizes = numbers(shape)
    if not node.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    """Return x as a matrix; the axes before ``axis`` become its rows."""
    axis = node.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


@operator("Squeeze", host_inputs=(1,))
def squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Drop the given axes, or all axes of length 1."""
    if axes is None and node.get("axes") is None:
        return x.squeeze()
    return x.squeeze(tuple(node.get("axes") if axes is None else numbers(axes)))


@operator("Unsqueeze", host_inputs=(1,))
def unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Insert axes of length 1, at the given places of the result."""
    places = list(node.get("axes") if axes is None else numbers(axes))
    rank = x.ndim + len(places)
    for place in sorted(place % rank for place in places):
        x = x.unsqueeze(place)
    return x


@operator("Expand", host_inputs=(1,))
def expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:  # noqa: ARG001
    """Broadcast x and the shape against each other."""
    return x.expand(np.broadcast_shapes(x.shape, tuple(numbers(shape))))
