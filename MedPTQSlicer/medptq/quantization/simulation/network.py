"""A network of few bits that runs in PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor

from medptq.graph.executor import GraphExecutor
from medptq.graph.operators import Node
from medptq.graph.opset import opset_of
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.edges import Edge, EdgedGraph
from medptq.quantization.simulation.granularity import CONVOLUTIONS, Groups
from medptq.quantization.simulation.grid import Grid, activation_grid
from medptq.quantization.simulation.ranges import extremes
from medptq.quantization.simulation.weights import grid_of_weight


@dataclass
class LayerWeight:
    """The weight of a layer.

    Attributes:
        constant: Name of the executor's constant.
        axis: Axis of the output channels, or None.
        full: The weight in floating point.
        grid: Its grid.
        quantized: The value on the grid that each of its elements was given.
    """

    constant: str
    axis: int | None
    full: Tensor
    grid: Grid
    quantized: Tensor


@dataclass
class SimulatedLayer:
    """A node whose operands are quantized.

    Attributes:
        name: The node's name.
        op_type: Its operator.
        scheme: How it is quantized.
        edges: The activations that it reads quantized.
        weight: Its weight, if that is quantized.
        output: Name of its output.
        channel_axis: The axis of the output's channels.
        node: The node as the executor's operators take it.
        correction: Added to its output, in a shape that broadcasts; or None.
    """

    name: str
    op_type: str
    scheme: Scheme
    edges: tuple[Edge, ...]
    weight: LayerWeight | None
    output: str
    channel_axis: int
    node: Node
    correction: Tensor | None = None


@dataclass(frozen=True)
class NetworkState:
    """What recovery may change of a network.

    Attributes:
        grids: The static grid of each edge's value.
        corrections: The correction of each layer's output.
        weights: The quantized weight of each layer that has one.
    """

    grids: Mapping[str, Grid]
    corrections: Mapping[str, Tensor | None]
    weights: Mapping[str, Tensor]


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
        layers: What is quantized by name, in the order in which it runs. Recovery may change a
            weight's ``quantized`` and a layer's ``correction``.
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
        self.input_shape = input_shape
        self.device = device
        self._executor = GraphExecutor(graph.model, device)
        opset = opset_of(graph.model)
        self.layers = {
            name: self._layer(graph, name, node, schemes[name], opset)
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
        active = set(self.layers if layers is None else layers)
        quantizers: dict[str, Callable[[Tensor], Tensor]] = {}
        for layer in self.layers.values():
            on = layer.name in active
            if layer.weight is not None:
                self._executor.constants[layer.weight.constant] = (
                    layer.weight.quantized if on else layer.weight.full
                )
            if on:
                for edge in layer.edges:
                    grid = self.grids.get(edge.value)
                    quantizers[edge.value] = grid.nearest if grid else self._dynamic[edge.value]
                if layer.correction is not None:
                    quantizers[layer.output] = layer.correction.__add__
        watched = frozenset(watch)

        def see(name: str, tensor: Tensor) -> Tensor:
            if name in quantizers:
                tensor = quantizers[name](tensor)
            if on_tensor is not None and name in watched:
                on_tensor(name, tensor)
            return tensor

        # TF32, which GPUs use for convolutions unless told not to, would round the grid's values.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self._executor.run(batch, see, watch=watched.union(quantizers))

    def state(self) -> NetworkState:
        """Return what recovery may change, for :meth:`restore`."""
        return NetworkState(
            dict(self.grids),
            {name: layer.correction for name, layer in self.layers.items()},
            {name: x.weight.quantized for name, x in self.layers.items() if x.weight is not None},
        )

    def restore(self, state: NetworkState) -> None:
        """Take back what was changed since :meth:`state`."""
        self.grids = dict(state.grids)
        for name, layer in self.layers.items():
            layer.correction = state.corrections[name]
            if layer.weight is not None:
                layer.weight.quantized = state.weights[name]

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

    def _layer(
        self, graph: EdgedGraph, name: str, node: ir.Node, scheme: Scheme, opset: int
    ) -> SimulatedLayer:
        weight, channel_axis = None, 1 if node.op_type in CONVOLUTIONS else -1
        for place in graph.weights:
            if place.node == name:
                full = self._executor.constants[place.value]
                grid = grid_of_weight(full, place.axis, scheme)
                weight = LayerWeight(place.value, place.axis, full, grid, grid.nearest(full))
        return SimulatedLayer(
            name=name,
            op_type=node.op_type,
            scheme=scheme,
            edges=tuple(edge for edge in graph.edges if edge.node == name),
            weight=weight,
            output=f"{node.outputs[0].name}",
            channel_axis=channel_axis,
            node=Node.from_proto(ir.to_proto(node), opset),
        )


class _AllSeen(Exception):  # noqa: N818 - it is no error
    pass


def _dynamic(scheme: Scheme, groups: Groups) -> Callable[[Tensor], Tensor]:
    def quantize(x: Tensor) -> Tensor:
        low, high = extremes(x, groups)
        return activation_grid(low, high, scheme.activation_bits, signed=scheme.signed).nearest(x)

    return quantize
