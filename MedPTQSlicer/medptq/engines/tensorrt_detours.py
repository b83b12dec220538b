"""Reshapes and transpositions that undo each other, written as one Reshape for TensorRT.

Nested transformers put blocks of tokens together into a volume, of which the next layer takes the
tokens again. TensorRT 8.6 compiles all of it as one kernel with what lies around. The engines of
UNesT that are right have been built without such detours, and without axes of one, which alone
sufficed where TensorRT timed no kernels (see :mod:`medptq.engines.tensorrt_unit_axes`); where it
times them, as for a user, that is not known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from medptq.graph.editing import add_constant, known_sizes, new_node, replace_by

_RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")

_Order = tuple[tuple[int, int], ...]
"""(size, stride) of the axes, outermost first, that a value's elements are walked along."""


@dataclass(frozen=True)
class _Origin:
    """A value of which another has all elements, in an order of its own.

    Attributes:
        value: The value.
        order: Its elements' strides, as the other has them.
        is_turned: Whether a transposition lies between.
    """

    value: ir.Value
    order: _Order
    is_turned: bool = False


def without_detours(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an equal graph in which transpositions that cancel out are gone.

    Its values' shapes must be known; where they are not, nothing changes.
    """
    rewritten = ir.from_proto(model)
    graph = rewritten.graph
    origins: dict[ir.Value, list[_Origin]] = {}
    for node in list(graph):
        source = node.inputs[0] if node.inputs else None
        if source is None or (node.op_type != "Transpose" and node.op_type not in _RESHAPES):
            continue
        before, after = known_sizes(source), known_sizes(node.outputs[0])
        if before is None or after is None:
            continue
        itself = _Origin(source, _merged([(math.prod(before), 1)]))
        found = [_through(node, origin, before) for origin in (*origins.get(source, ()), itself)]
        known = [origin for origin in found if origin is not None]
        result = node.outputs[0]
        whole = _merged([(math.prod(after), 1)])
        # The first is the farthest back.
        same = (origin for origin in known if origin.is_turned and origin.order == whole)
        if (origin := next(same, None)) is not None:
            name = f"{node.outputs[0].name}/straight"
            shape = add_constant(graph, f"{name}/shape", np.array(after, np.int64))
            reshape = new_node("Reshape", [origin.value, shape], name)
            graph.insert_before(node, reshape)
            result = reshape.outputs[0]
            replace_by(graph, node, result)
        origins[result] = known
    RemoveUnusedNodesPass()(rewritten)
    return ir.to_proto(rewritten)


def _through(node: ir.Node, origin: _Origin, sizes: Sequence[int]) -> _Origin | None:
    """Return an origin of a node's input as its output's; None if the axes do not divide."""
    if node.op_type != "Transpose":
        return origin
    axes = node.attributes.get_ints("perm", list(range(len(sizes)))[::-1])
    moved = [axis for axis in axes if sizes[axis] > 1]
    if moved == sorted(moved):
        return replace(origin, is_turned=True)
    groups = _grouped(origin.order, sizes)
    if groups is None:
        return None
    turned = [part for axis in axes for part in groups[axis]]
    return _Origin(origin.value, _merged(turned), is_turned=True)


def _grouped(order: _Order, sizes: Sequence[int]) -> list[_Order] | None:
    """Divide an order among the axes of a value."""
    rest = list(order)
    groups: list[_Order] = []
    for size in reversed(sizes):
        group: list[tuple[int, int]] = []
        needed = size
        while needed > 1:
            count, stride = rest.pop()
            inner = math.gcd(count, needed)
            if inner not in (count, needed):
                return None
            if inner < count:
                rest.append((count // inner, stride * inner))
            group.insert(0, (inner, stride))
            needed //= inner
        groups.insert(0, tuple(group))
    return groups


def _merged(order: Sequence[tuple[int, int]]) -> _Order:
    """Join axes that are walked along as one."""
    merged: list[tuple[int, int]] = []
    for size, stride in order:
        if size == 1:
            continue
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return tuple(merged)
