"""A network of few bits that runs in PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from medptq.graph.executor import GraphExecutor, Pause
from medptq.graph.opset import opset_of
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.edges import Edge, EdgedGraph
from medptq.quantization.simulation.granularity import Groups
from medptq.quantization.simulation.grid import Grid, activation_grid
from medptq.quantization.simulation.layer import layer_of
from medptq.quantization.simulation.ranges import extremes

_Changes: TypeAlias = Mapping[str, Callable[[Tensor], Tensor]]
"""What is made of values on their way, by their names."""


@dataclass(frozen=True)
class NetworkState:
    """What recovery may change of a network.

    Attributes:
        grids: The static grid of each edge's value.
        corrections: The correction of each layer's output.
        weights: The grid and the quantized weight of each layer that has one.
    """

    grids: Mapping[str, Grid]
    corrections: Mapping[str, Tensor | None]
    weights: Mapping[str, tuple[Grid, Tensor]]


class SimulatedNetwork:
    """Runs a network with the operands of its layers rounded to few bits.

    Sums and everything between the layers stay in FP32, as on an engine whose integer sums are
    32 bits wide and whose other arithmetic is FP32.

    Args:
        graph: The network.
        schemes: How each node with edges is quantized; nodes that are not named stay in FP32.
        grids: The static grid of each edge's value; the others are dynamic.
        input_shape: (1, C, D, H, W).
        device: Where it runs.

    Attributes:
        graph: As given.
        layers: What is quantized by name, in the order in which it runs. Recovery may change a
            weight's ``quantized`` and ``grid`` (in its scale alone) and a layer's ``correction``.
        grids: The static grid of each edge's value. Recovery may change them too.
        input_shape: As given.
        device: As given.
    """

    def __init__(
        self,
        graph: EdgedGraph,
        schemes: Mapping[str, Scheme],
        grids: Mapping[str, Grid],
        input_shape: tuple[int, int, int, int, int],
        device: torch.device,
    ) -> None:
        self.graph = graph
        self.input_shape = input_shape
        self.device = device
        self._executor = GraphExecutor(graph.model, device)
        opset = opset_of(graph.model)
        self.layers = {
            name: layer_of(graph, node, schemes[name], self._executor.constants, opset)
            for name, node in graph.nodes.items()
            if name in schemes
        }
        self.grids = {name: grid.to(device) for name, grid in grids.items()}
        self._dynamic = {
            edge.value: _dynamic(layer.scheme, groups)
            for layer in self.layers.values()
            for edge in layer.edges
            if edge.value not in grids
            and (groups := graph.groups(edge, layer.scheme.activation_granularity))
        }

    def run(
        self,
        batch: Tensor,
        layers: Collection[str] | None = None,
        on_tensor: Callable[[str, Tensor], None] | None = None,
        watch: Collection[str] = (),
    ) -> Tensor:
        """Run the network on one patch.

        Args:
            batch: float32 [1, C, D, H, W] on :attr:`device`.
            layers: Names of the layers to be quantized; the others run in FP32. None for all.
            on_tensor: Called with the name and the value of what is watched, which must not be
                changed: the value of an edge as the layer reads it, an output with its
                correction.
            watch: Names of values to call it with.

        Returns:
            Output [1, classes, D, H, W].
        """
        weights, changes = self._numbers(self.layers if layers is None else layers)
        with torch.inference_mode():
            return self.run_with(batch, weights, changes, on_tensor, watch)

    def run_flipped(
        self, batch: Tensor, layers: Collection[str], on_output: Callable[[str, Tensor], None]
    ) -> Tensor:
        """Run the network, and for each layer once more with that layer the other way round.

        What lies before a layer is not run again for it, which saves about half of the work.

        Args:
            batch: As for :meth:`run`.
            layers: Names of the layers to be quantized.
            on_output: Called with a layer's name and the network's output if that layer, too, is
                quantized, or it alone of ``layers`` is not.

        Returns:
            The output without a layer flipped.
        """
        weights, changes = self._numbers(layers)

        def flip(name: str) -> Callable[[Pause], None]:
            def go_on(pause: Pause) -> None:
                other_weights, other_changes = self._numbers({*layers} ^ {name})
                self._set(other_weights)
                output = self._executor.resume(pause, _changing(other_changes), other_changes)
                self._set(weights)
                on_output(name, output)

            return go_on

        pauses = {layer.edges[0].value: flip(name) for name, layer in self.layers.items()}
        with torch.inference_mode(), _exactly():
            self._set(weights)
            return self._executor.run(batch, _changing(changes), changes, pauses)

    def run_with(
        self,
        batch: Tensor,
        weights: Mapping[str, Tensor],
        changes: Mapping[str, Callable[[Tensor], Tensor]],
        on_tensor: Callable[[str, Tensor], None] | None = None,
        watch: Collection[str] = (),
    ) -> Tensor:
        """Run the network with other weights and quantizers than its own.

        Gradients are recorded or not as the caller's mode says.

        Args:
            batch: As for :meth:`run`, like what follows ``changes``.
            weights: The weight of each layer that has one, by the layer's name.
            changes: What is made of values, by their names.
            on_tensor: Called with what was made of a value.
            watch: Names of values to call it with.
        """
        self._set(weights)
        watched = frozenset(watch)
        with _exactly():
            return self._executor.run(
                batch, _changing(changes, on_tensor, watched), watched.union(changes)
            )

    def _numbers(self, layers: Collection[str]) -> tuple[dict[str, Tensor], _Changes]:
        """Return each layer's weight and what changes values if these layers are quantized."""
        weights: dict[str, Tensor] = {}
        changes: dict[str, Callable[[Tensor], Tensor]] = {}
        for layer in self.layers.values():
            on = layer.name in layers
            if layer.weight is not None:
                weights[layer.name] = layer.weight.quantized if on else layer.weight.full
            if on:
                for edge in layer.edges:
                    changes[edge.value] = self.quantizer(edge)
                if layer.correction is not None:
                    changes[layer.output] = layer.correction.__add__
        return weights, changes

    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in weights.items():
            its = self.layers[name].weight
            if its is not None:
                self._executor.constants[its.constant] = weight

    def quantizer(self, edge: Edge) -> Callable[[Tensor], Tensor]:
        """Return what quantizes a value on its way into a layer."""
        grid = self.grids.get(edge.value)
        return grid.nearest if grid else self._dynamic[edge.value]

    def state(self) -> NetworkState:
        """Return what recovery may change, for :meth:`restore`."""
        return NetworkState(
            dict(self.grids),
            {name: layer.correction for name, layer in self.layers.items()},
            {
                name: (layer.weight.grid, layer.weight.quantized)
                for name, layer in self.layers.items()
                if layer.weight is not None
            },
        )

    def restore(self, state: NetworkState) -> None:
        """Take back what was changed since :meth:`state`."""
        self.grids = dict(state.grids)
        for name, layer in self.layers.items():
            layer.correction = state.corrections[name]
            if layer.weight is not None:
                layer.weight.grid, layer.weight.quantized = state.weights[name]

    def values(
        self, names: Sequence[str], batch: Tensor, layers: Collection[str] | None = None
    ) -> list[Tensor]:
        """Return watched values of :meth:`run`, which ends as soon as the last one is there."""
        found: dict[str, Tensor] = {}

        def see(name: str, tensor: Tensor) -> None:
            found[name] = tensor
            if len(found) == len(set(names)):
                raise _AllSeen

        with contextlib.suppress(_AllSeen):
            self.run(batch, layers, see, watch=names)
        # Tensors of inference mode could take no part in what has gradients.
        return [found[name].clone() for name in names]


def _changing(
    changes: _Changes,
    on_tensor: Callable[[str, Tensor], None] | None = None,
    watched: Collection[str] = (),
) -> Callable[[str, Tensor], Tensor]:
    def see(name: str, tensor: Tensor) -> Tensor:
        if name in changes:
            tensor = changes[name](tensor)
        if on_tensor is not None and name in watched:
            on_tensor(name, tensor)
        return tensor

    return see


def _exactly() -> contextlib.AbstractContextManager[None]:
    # TF32, which GPUs use for convolutions unless told not to, would round the grid's values.
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


class _AllSeen(Exception):  # noqa: N818 - it is no error
    pass


def _dynamic(scheme: Scheme, groups: Groups) -> Callable[[Tensor], Tensor]:
    def quantize(x: Tensor) -> Tensor:
        low, high = extremes(x, groups)
        return activation_grid(low, high, scheme.activation_bits, signed=scheme.signed).nearest(x)

    return quantize
