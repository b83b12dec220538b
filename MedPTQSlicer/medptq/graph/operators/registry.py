"""The table of operators, and how a function gets into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

Evaluate: TypeAlias = Callable[..., Tensor | tuple[Tensor, ...]]
"""``function(node, *inputs)``: inputs in ONNX's order, None where an optional one is left out."""


@dataclass(frozen=True)
class Operator:
    """How one ONNX operator is computed in PyTorch.

    Attributes:
        evaluate: Computes its outputs, and leaves its inputs as they are.
        evaluate_in_place: Likewise, but may write the output over the first input.
        host_inputs: Positions of the inputs whose numbers Python reads (shapes, axes, pads): they
            are kept in CPU memory, so that reading them never waits for a GPU.
        allocates: True if the output never shares memory with an input, so that what comes next
            may write over it.
    """

    evaluate: Evaluate
    evaluate_in_place: Evaluate | None
    host_inputs: frozenset[int]
    allocates: bool


OPERATORS: dict[str, Operator] = {}
"""Operators of the default ONNX domain by name; importing ``medptq.graph.operators`` fills it."""


def operator(
    *op_types: str,
    in_place: Evaluate | None = None,
    host_inputs: tuple[int, ...] = (),
    allocates: bool = False,
) -> Callable[[Evaluate], Evaluate]:
    """Enter the decorated function into :data:`OPERATORS` under each of ``op_types``."""

    def enter(function: Evaluate) -> Evaluate:
        for op_type in op_types:
            OPERATORS[op_type] = Operator(
                function, in_place, frozenset(host_inputs), allocates or in_place is not None
            )
        return function

    return enter


def numbers(tensor: Tensor | None) -> list[int]:
    """Return the numbers of a small 0-D or 1-D tensor; none for an input that is left out."""
    return [] if tensor is None else [int(number) for number in tensor.reshape(-1).tolist()]


def on_one_device(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Move CPU tensors to the GPU that another of ``tensors`` is on, if one is."""
    for tensor in tensors:
        if tensor.device.type != "cpu":
            return tuple(other.to(tensor.device) for other in tensors)
    return tensors
