"""Computing one node, and saying what went wrong where it cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medptq.errors import EngineError, ModelError, first_line
from medptq.graph.operators.node import Node
from medptq.graph.operators.registry import Evaluate
from medptq.graph.out_of_memory import is_out_of_memory


def evaluate(function: Evaluate, node: Node, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """Compute a node.

    Args:
        function: One of the operator's functions.
        node: The node.
        inputs: Its inputs; None where an optional one is left out.

    Raises:
        ModelError: The operator cannot be computed on these inputs.
        EngineError: The memory does not suffice.
    """
    try:
        outputs = function(node, *inputs)
    except MemoryError as error:
        raise _out_of_memory(node) from error
    except NotImplementedError as error:
        raise _refusal(node, error, "Export the network without it") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise _out_of_memory(node) from error
        todo = "Check that the input's shape is one that the network takes, or export it again"
        raise _refusal(node, error, todo) from error
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _refusal(node: Node, error: Exception, todo: str) -> ModelError:
    return ModelError(
        "operator",
        f"The network cannot be run at its node {node.name!r} ({node.op_type})",
        why=first_line(error),
        todo=todo,
    )


def _out_of_memory(node: Node) -> EngineError:
    return EngineError(
        "memory",
        f"The network ran out of memory at its node {node.name!r} ({node.op_type})",
        why="the values between its layers do not fit",
        todo="Close other programs, or run it on smaller patches or one at a time",
    )
