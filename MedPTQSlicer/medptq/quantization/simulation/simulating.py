"""From an FP32 graph and patches to a network of few bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from medptq.errors import QuantizationError
from medptq.graph.executor import GraphExecutor
from medptq.graph.simplify import simplify
from medptq.progress import Reporter
from medptq.quantization.observer_choice import Shown
from medptq.quantization.placement import place_at_layers
from medptq.quantization.preparing import Prepared, not_empty, prepare_for_openvino
from medptq.quantization.recipe import ObserverName
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.edges import Edge, EdgedGraph, with_edges
from medptq.quantization.simulation.folding import can_fold, fold_channel_scales
from medptq.quantization.simulation.granularity import WHOLE, Groups
from medptq.quantization.simulation.grid import Grid, activation_grid
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.ranges import (
    RangeObserver,
    RangeObserverKind,
    kind_of_observer,
)

Patches: TypeAlias = Sequence[NDArray[np.float32]]
"""What a network is calibrated on: arrays [1, C, D, H, W], all of the size of its patch."""

_Ends: TypeAlias = tuple[Tensor, Tensor]


def simulate(
    model: onnx.ModelProto,
    scheme: Scheme,
    patches: Patches,
    *,
    overrides: Mapping[str, Scheme | None] = MappingProxyType({}),
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> SimulatedNetwork:
    """Return a network whose layers compute with few bits.

    Args:
        model: The FP32 graph as :func:`medptq.graph.loading.load_graph` returns it.
        scheme: How its layers are quantized.
        patches: What static scales are learned from, of the size that the network will be run
            on. With dynamic scales one is enough, and only its shape counts.
        overrides: Another scheme for some of the layers, by name; None to leave one in FP32.
        reporter: Told of progress; may cancel.

    Raises:
        ModelError: The graph cannot be run on such patches.
        QuantizationError: There is nothing in the graph to quantize, an override names no layer,
            or an activation was not finite.
        Cancelled: The user asked to stop.
    """
    return observe(model, scheme, patches, overrides=overrides, reporter=reporter).simulated()


def observe(
    model: onnx.ModelProto,
    scheme: Scheme,
    patches: Patches,
    *,
    overrides: Mapping[str, Scheme | None] = MappingProxyType({}),
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> Observed:
    """Run each patch through a network once and see what static scales are chosen from.

    Args:
        model: As for :func:`simulate`, like what follows.
        scheme: How its layers are quantized.
        patches: What static scales are learned from.
        overrides: Another scheme for some of the layers.
        reporter: Told of progress; may cancel.

    Raises:
        ModelError: The graph cannot be run on such patches.
        QuantizationError: There is nothing in the graph to quantize, or an override names no
            layer.
        Cancelled: The user asked to stop.
    """
    depth, height, width = patches[0].shape[2:]
    input_shape = (1, patches[0].shape[1], depth, height, width)
    fp32 = simplify(model, input_shape=input_shape)
    prepared = _prepared(fp32, scheme)
    graph = replace(with_edges(prepared.model, prepared.placement), rewritten=prepared.rewritten)
    unknown = sorted(overrides.keys() - graph.nodes.keys())
    if unknown:
        raise QuantizationError(
            "scheme",
            "The network cannot be simulated so",
            why=f"it has no layer {unknown[0]!r}",
            todo="Name the layers as the simplified network does",
        )
    schemes = {
        name: chosen for name in graph.nodes if (chosen := overrides.get(name, scheme)) is not None
    }
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    observers = _observers(graph, schemes, prepared.same_values)
    shown = Shown()
    if observers:
        _observe(GraphExecutor(fp32, device), observers, shown, patches, reporter)
    image = next(value.name for value in fp32.graph.input)
    return Observed(
        *(graph, scheme, schemes, observers, prepared.same_values, image, input_shape, device),
        shown.patches,
    )


@dataclass(frozen=True)
class Observed:
    """A network whose activations were seen in all patches, and that has no ranges yet.

    Attributes:
        graph: The network.
        scheme: How its layers are quantized.
        schemes: How each quantized node is.
        observers: What watched the activations.
        same_values: As :class:`medptq.quantization.preparing.Prepared` has them.
        image: Name of the network's input.
        input_shape: (1, C, D, H, W).
        device: Where it runs.
        shown: The first patches, with the labels that the network gives them in FP32; none if no
            scale is static.
    """

    graph: EdgedGraph
    scheme: Scheme
    schemes: Mapping[str, Scheme]
    observers: Mapping[_Key, RangeObserver]
    same_values: Mapping[str, str]
    image: str
    input_shape: tuple[int, int, int, int, int]
    device: torch.device
    shown: Sequence[tuple[Tensor, Tensor]]

    def simulated(self, observer: ObserverName | None = None) -> SimulatedNetwork:
        """Return the network with ranges.

        Args:
            observer: What they are chosen by, in place of what the schemes say. Symmetric schemes
                that are placed for OpenVINO can be asked for any.

        Raises:
            QuantizationError: An activation was not finite.
        """
        schemes = {
            name: one if observer is None else replace(one, observer=observer)
            for name, one in self.schemes.items()
        }
        graph = self.graph
        ends = _ends(graph, schemes, self.observers, self.same_values, self.image)
        grids: dict[str, Grid] = {}
        for edge in graph.edges:
            if edge.value in ends:
                chosen = schemes[edge.node]
                grids[edge.value] = activation_grid(
                    *ends[edge.value], chosen.activation_bits, signed=chosen.signed
                )
        if self.scheme.placing == "openvino":
            graph, grids = fold_channel_scales(graph, grids, schemes)
        return SimulatedNetwork(graph, schemes, grids, self.input_shape, self.device)


def _prepared(fp32: onnx.ModelProto, scheme: Scheme) -> Prepared:
    if scheme.placing == "openvino":
        return prepare_for_openvino(fp32)
    model = ir.from_proto(fp32)
    return Prepared(model, not_empty(place_at_layers(model.graph)), {}, ())


_Key: TypeAlias = tuple[str, Groups, RangeObserverKind]
"""Name of an activation of the FP32 graph, its groups, and how their ranges are observed."""


def _key(graph: EdgedGraph, edge: Edge, scheme: Scheme, same_values: Mapping[str, str]) -> _Key:
    groups = graph.groups(edge, scheme.activation_granularity)
    if scheme.placing == "openvino" and (edge.tensor in same_values or not can_fold(graph, edge)):
        groups = WHOLE
    return same_values.get(edge.tensor, edge.tensor), groups, kind_of_observer(groups, scheme)


def _static(graph: EdgedGraph, schemes: Mapping[str, Scheme]) -> Iterable[tuple[Edge, Scheme]]:
    for edge in graph.edges:
        if edge.node in schemes and schemes[edge.node].scales == "static":
            yield edge, schemes[edge.node]


def _observers(
    graph: EdgedGraph, schemes: Mapping[str, Scheme], same_values: Mapping[str, str]
) -> dict[_Key, RangeObserver]:
    """Return what watches the activations, once for all the edges that ask the same of one."""
    observers: dict[_Key, RangeObserver] = {}
    for edge, scheme in _static(graph, schemes):
        name, groups, kind = _key(graph, edge, scheme, same_values)
        if (name, groups, kind) not in observers:
            observers[name, groups, kind] = kind(groups)
    return observers


def _observe(
    executor: GraphExecutor,
    observers: Mapping[_Key, RangeObserver],
    shown: Shown,
    patches: Patches,
    reporter: Reporter,
) -> None:
    by_name: dict[str, list[RangeObserver]] = {}
    for (name, *_), observer in observers.items():
        by_name.setdefault(name, []).append(observer)

    def see(name: str, tensor: Tensor) -> None:
        reporter.check()
        for observer in by_name[name]:
            observer.add(tensor)

    with torch.inference_mode():
        for patch in reporter.track(patches, "Calibrating"):
            image = torch.from_numpy(patch)
            output = executor.run(image.to(executor.device), see, watch=by_name.keys())
            shown.add(image, output)


def _ends(
    graph: EdgedGraph,
    schemes: Mapping[str, Scheme],
    observers: Mapping[_Key, RangeObserver],
    same_values: Mapping[str, str],
    image: str,
) -> dict[str, _Ends]:
    """Return the ends of the ranges of each edge with static scales, by the edge's value."""
    found: dict[tuple[_Key, Scheme], _Ends] = {}
    by_tensor: dict[str, list[_Ends]] = {}
    ends: dict[str, _Ends] = {}
    for edge, scheme in _static(graph, schemes):
        key = _key(graph, edge, scheme, same_values)
        if (key, scheme) not in found:
            low, high = observers[key].range_for(scheme, is_image=key[0] == image)
            if not bool(torch.isfinite(high - low).all()):
                raise QuantizationError(
                    "not-finite",
                    "The network cannot be quantized",
                    why=f"its activation {key[0]!r} became infinite or not a number",
                    todo="Check that the patches are prepared as the network's card says",
                )
            found[key, scheme] = low, high
        ends[edge.value] = found[key, scheme]
        if key[1] == WHOLE:
            by_tensor.setdefault(edge.tensor, []).append(ends[edge.value])
    tied = {name: group for group in graph.tied for name in group}
    for edge, scheme in _static(graph, schemes):
        if edge.tensor in tied and _key(graph, edge, scheme, same_values)[1] == WHOLE:
            joined = [pair for name in tied[edge.tensor] for pair in by_tensor.get(name, [])]
            lows, highs = (
                torch.cat([e.reshape(1) for e in end]) for end in zip(*joined, strict=True)
            )
            ends[edge.value] = lows.min(), highs.max()
    return ends
