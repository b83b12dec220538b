"""Which channels of a network can be scaled together without a change of what it computes.

A channel that is divided by s where it is made and multiplied by s where it is used is the same
to the rest of the network, as long as all that lies between is positively homogeneous:
f(s x) = s f(x) for s > 0. That is so of ReLU and its leaky kin, pooling, resizing, addition and
concatenation. What an addition joins must have one s; so channels fall into classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from medptq.graph.editing import constant_of
from medptq.quantization.simulation.makers import HOMOGENEOUS

Indices = NDArray[np.intp]

_HOMOGENEOUS = HOMOGENEOUS | {"Identity", "Dropout"}
_OUTPUT_AXIS_OF_WEIGHT = {"Conv": 0, "ConvTranspose": 1}


@dataclass(frozen=True)
class Maker:
    """A constant that makes channels: dividing it along an axis divides them.

    Attributes:
        constant: Its name.
        axis: Its axis of the channels.
        classes: The class of each.
    """

    constant: str
    axis: int
    classes: Indices


@dataclass(frozen=True)
class User:
    """A weight that uses channels: multiplying it along an axis makes up for them.

    Attributes:
        constant: Its name.
        axis: Its axis of the channels.
        classes: The class of each.
        activation: Name of the activation that has the channels.
    """

    constant: str
    axis: int
    classes: Indices
    activation: str


@dataclass(frozen=True)
class ChannelClasses:
    """The classes of a network's channels, numbered from 0.

    Attributes:
        fixed: For each class, whether it cannot be scaled.
        makers: All that makes channels.
        users: All that uses them.
    """

    fixed: NDArray[np.bool_]
    makers: tuple[Maker, ...]
    users: tuple[User, ...]


def channel_classes(graph: ir.Graph) -> ChannelClasses:
    """Find the classes of the channels of all activations [N, C, D, H, W].

    Args:
        graph: Simplified graph with shapes; constants are initializers.
    """
    return _Finder(graph).found()


class _Finder:
    def __init__(self, graph: ir.Graph) -> None:
        self._parents: list[int] = []
        self._fixed: set[int] = set()
        self._channels: dict[ir.Value, Indices] = {}
        self._makers: list[tuple[str, int, Indices]] = []
        self._users: list[tuple[str, int, Indices, str]] = []
        for value in [*graph.inputs, *graph.outputs]:
            self._fix(value)
        for node in graph:
            self._visit(node)

    def found(self) -> ChannelClasses:
        roots = np.array([self._root(n) for n in range(len(self._parents))], np.intp)
        _, numbers = np.unique(roots, return_inverse=True)
        fixed = np.zeros(numbers.max(initial=-1) + 1, bool)
        fixed[numbers[list(self._fixed)]] = True
        return ChannelClasses(
            fixed,
            tuple(Maker(name, axis, numbers[ids]) for name, axis, ids in self._makers),
            tuple(User(name, axis, numbers[ids], of) for name, axis, ids, of in self._users),
        )

    def _visit(self, node: ir.Node) -> None:
        source = next((v for v in node.inputs if v is not None and v.const_value is None), None)
        output = node.outputs[0]
        if source is None or self._of(source) is None or self._of(output) is None:
            self._fix_all(node)
        elif node.op_type in _HOMOGENEOUS and len(node.outputs) == 1:
            self._join(self._channels[source], self._channels[output])
        elif node.op_type == "Add" and all(_same_shape(value, output) for value in node.inputs):
            for value in node.inputs:
                self._join(self._of(value), self._channels[output])
        elif node.op_type in ("Add", "Mul") and (place := self._place_of_constant(node)):
            # As group normalization ends in.
            if node.op_type == "Add":
                self._join(self._channels[source], self._channels[output])
            else:
                self._fix(source)
            self._make(node, *place)
        elif node.op_type == "Concat" and node.attributes.get_int("axis", 0) == 1:
            parts = [self._of(value) for value in node.inputs]
            if any(part is None for part in parts):
                self._fix_all(node)
            else:
                self._join(np.concatenate([p for p in parts if p is not None]), self._of(output))
        elif node.op_type in _OUTPUT_AXIS_OF_WEIGHT and self._is_scalable(node):
            axis = _OUTPUT_AXIS_OF_WEIGHT[node.op_type]
            weight = f"{node.inputs[1].name}" if node.inputs[1] is not None else ""
            channels = self._channels[source]
            self._users.append((weight, 1 - axis, channels, f"{source.name}"))
            self._make(node, 1, axis)
            self._make(node, 2, 0)
        elif node.op_type == "InstanceNormalization" and self._is_scalable(node):
            self._fix(source)
            self._make(node, 1, 0)
            self._make(node, 2, 0)
        else:
            self._fix_all(node)

    def _is_scalable(self, node: ir.Node) -> bool:
        """Tell whether the node's constants are its alone, and its channels not in groups."""
        constants = [value for value in node.inputs[1:] if value is not None]
        return node.attributes.get_int("group", 1) == 1 and all(
            value.const_value is not None and len(value.uses()) == 1 for value in constants
        )

    def _place_of_constant(self, node: ir.Node) -> tuple[int, int] | None:
        """Return which operand is a constant [C, 1, 1, 1] of the node's own, and its axis of C."""
        channels = len(self._channels[node.outputs[0]])
        for index, value in enumerate(node.inputs):
            constant = constant_of(node, index)
            if value is not None and constant is not None and len(value.uses()) == 1:
                by_channel = constant.shape[-4:] == (channels, 1, 1, 1)
                if by_channel and constant.size == channels:
                    return index, constant.ndim - 4
        return None

    def _make(self, node: ir.Node, index: int, axis: int) -> None:
        if constant_of(node, index) is not None:
            constant = node.inputs[index]
            name = f"{constant.name}" if constant is not None else ""
            self._makers.append((name, axis, self._channels[node.outputs[0]]))

    def _fix_all(self, node: ir.Node) -> None:
        for value in [*node.inputs, *node.outputs]:
            self._fix(value)

    def _fix(self, value: ir.Value | None) -> None:
        channels = self._of(value)
        if channels is not None:
            self._fixed.update(channels.tolist())

    def _of(self, value: ir.Value | None) -> Indices | None:
        """Return the indices of a value's channels, or None if it is none that has channels."""
        if value is None or value.const_value is not None or value.shape is None:
            return None
        dims = list(value.shape)
        if len(dims) != 5 or not isinstance(dims[1], int):
            return None
        if value not in self._channels:
            first = len(self._parents)
            self._parents.extend(range(first, first + dims[1]))
            self._channels[value] = np.arange(first, first + dims[1])
        return self._channels[value]

    def _join(self, some: Indices | None, others: Indices | None) -> None:
        for one, other in _pairs(some, others):
            self._parents[self._root(one)] = self._root(other)

    def _root(self, index: int) -> int:
        while self._parents[index] != index:
            self._parents[index] = self._parents[self._parents[index]]
            index = self._parents[index]
        return index


def _pairs(some: Indices | None, others: Indices | None) -> Iterator[tuple[int, int]]:
    if some is None or others is None:
        raise ValueError("an activation has no channels")
    return zip(some.tolist(), others.tolist(), strict=True)


def _same_shape(value: ir.Value | None, other: ir.Value) -> bool:
    return value is not None and value.const_value is None and value.shape == other.shape
