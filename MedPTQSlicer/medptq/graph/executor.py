"""Running an ONNX graph in PyTorch, with a view of every value on the way.

Calibration, simulated quantization and rounding need the values inside a network, on CPU and GPU,
some with gradients; no inference library offers that. The operators are held against ONNX's own
backend tests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import onnx
import torch
from torch import Tensor

from medptq.errors import ModelError
from medptq.graph.loading import load_graph
from medptq.graph.operators import OPERATORS, Node, tensor_from_proto
from medptq.graph.operators.evaluation import evaluate
from medptq.graph.opset import opset_of
from medptq.graph.plan import Step, constants_on_host, plan

OnTensor: TypeAlias = Callable[[str, Tensor], Tensor | None]
"""Called with the name of a value and the value; may return another to go on with."""


@dataclass(frozen=True)
class Pause:
    """A run that stands before one of its steps.

    Attributes:
        step: The place of what is to be computed next.
        values: What the rest of the run reads; it must not be changed.
    """

    step: int
    values: Mapping[str, Tensor]


class GraphExecutor:
    """Runs a graph of one input and one output, node by node.

    What depends on constants alone is computed once, here. A run lets each value go as soon as
    its last consumer has run, and computes activations in place where nobody can tell.

    Args:
        model: The graph, or the file that it is read from, as an untrusted one. A ``ModelProto``
            must be as :func:`medptq.graph.loading.load_graph` returns it.
        device: Where the weights are kept and the input is expected.

    Attributes:
        device: As given.
        input_name: Name of the graph's input.
        output_name: Name of the graph's output.
        constants: The weights and other constants that the run reads, by name. Replace an entry
            to run with another weight; one with ``requires_grad`` gets its gradient from
            ``run(...).backward()``. A constant from which another was computed is not listed:
            the result is, under its own name.

    Raises:
        ModelError: The file cannot be read, or an operator is unknown.

    Example:
        >>> executor = GraphExecutor(Path("net.onnx"))            # doctest: +SKIP
        >>> with torch.inference_mode():                          # doctest: +SKIP
        ...     logits = executor.run(torch.zeros(1, 1, 96, 96, 96))
    """

    def __init__(self, model: onnx.ModelProto | Path, device: torch.device | str = "cpu") -> None:
        if isinstance(model, Path):
            model = load_graph(model)
        self.device = torch.device(device)
        graph = model.graph
        constants = {tensor.name: tensor_from_proto(tensor) for tensor in graph.initializer}
        self.input_name = next(
            (value.name for value in graph.input if value.name not in constants), ""
        )
        outputs = [value.name for value in graph.output]
        self.output_name = outputs[0]
        opset = opset_of(model)
        nodes = [_known(Node.from_proto(node, opset)) for node in graph.node]
        nodes = _fold(nodes, constants)
        read = {name for node in nodes for name in node.inputs}.union(outputs)
        on_host = constants_on_host(nodes, constants)
        self.constants: dict[str, Tensor] = {
            name: tensor if name in on_host else tensor.to(self.device)
            for name, tensor in constants.items()
            if name in read
        }
        self._steps = plan(nodes, self.constants, outputs)

    def run(
        self,
        batch: Tensor,
        on_tensor: OnTensor | None = None,
        watch: Collection[str] = (),
        pauses: Mapping[str, Callable[[Pause], None]] = MappingProxyType({}),
    ) -> Tensor:
        """Run the network once.

        Gradients are recorded or not as the caller's mode says; ``torch.inference_mode()`` is the
        fastest.

        Args:
            batch: Input [N, C, D, H, W] on :attr:`device`. It is left as it is.
            on_tensor: Called with each watched value as soon as it is there, and before anything
                reads it; what it returns, unless None, takes the value's place. A watched value
                is never written over, so it may be kept; one that is changed must be a copy.
            watch: Names of the values to call ``on_tensor`` with: the graph's input or any node's
                output. Constants are not among them.
            pauses: What is called just before a value is computed, by the value's name. It may go
                on from there in other ways with :meth:`resume`, as long as the call lasts.

        Returns:
            Output [N, classes, D, H, W].

        Raises:
            ModelError: An operator cannot be computed on its inputs.
            EngineError: The memory does not suffice.
        """
        values = {self.input_name: batch}
        if on_tensor is not None and self.input_name in watch:
            values[self.input_name] = _seen(on_tensor, self.input_name, batch)
        return self._run(0, values, on_tensor, frozenset(watch), pauses)

    def resume(
        self, pause: Pause, on_tensor: OnTensor | None = None, watch: Collection[str] = ()
    ) -> Tensor:
        """Run the network from a pause on, and leave the run that pauses as it is.

        Arguments and result are those of :meth:`run`.
        """
        return self._run(pause.step, dict(pause.values), on_tensor, frozenset(watch), {})

    def _run(
        self,
        first: int,
        values: dict[str, Tensor],
        on_tensor: OnTensor | None,
        watched: frozenset[str],
        pauses: Mapping[str, Callable[[Pause], None]],
    ) -> Tensor:
        # What was there at the beginning may belong to a run that pauses.
        kept = watched.union(values) if first else watched
        for place, step in enumerate(self._steps[first:], start=first):
            if step.node.outputs[0] in pauses:
                pauses[step.node.outputs[0]](Pause(place, MappingProxyType(values)))
            outputs = self._evaluate(step, values, kept)
            for name in step.releases:
                del values[name]
            for name, tensor in zip(step.node.outputs, outputs, strict=False):
                if on_tensor is not None and name in watched:
                    tensor = _seen(on_tensor, name, tensor)
                if name in step.keeps:
                    values[name] = tensor
            del outputs
        if self.output_name in values:
            return values[self.output_name]
        return self.constants[self.output_name]

    def _evaluate(
        self, step: Step, values: dict[str, Tensor], kept: frozenset[str]
    ) -> tuple[Tensor, ...]:
        constants = self.constants
        inputs = [
            None if not name else values[name] if name in values else constants[name]
            for name in step.node.inputs
        ]
        function = step.operator.evaluate
        if (
            step.overwrites is not None
            and step.operator.evaluate_in_place is not None
            and step.overwrites not in kept
            and not torch.is_grad_enabled()
        ):
            function = step.operator.evaluate_in_place
        return evaluate(function, step.node, inputs)


def _seen(on_tensor: OnTensor, name: str, tensor: Tensor) -> Tensor:
    replacement = on_tensor(name, tensor)
    return tensor if replacement is None else replacement


def _known(node: Node) -> Node:
    if node.op_type in OPERATORS:
        return node
    raise ModelError(
        "operator",
        f"The network cannot be run at its node {node.name!r}",
        why=f"the operator {node.op_type} is not supported",
        todo="Export the network without it",
    )


def _fold(nodes: list[Node], constants: dict[str, Tensor]) -> list[Node]:
    """Compute the nodes that depend on constants alone; return the others."""
    left = []
    with torch.no_grad():
        for node in nodes:
            if all(not name or name in constants for name in node.inputs):
                inputs = [constants[name] if name else None for name in node.inputs]
                outputs = evaluate(OPERATORS[node.op_type].evaluate, node, inputs)
                constants.update(zip(node.outputs, outputs, strict=False))
            else:
                left.append(node)
    return left
