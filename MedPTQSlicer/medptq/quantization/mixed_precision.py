"""More bits for the few layers that need them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from medptq.progress import Reporter
from medptq.quantization.recovery.distillation import output_loss
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.granularity import CONVOLUTIONS
from medptq.quantization.simulation.layer import SimulatedLayer
from medptq.quantization.simulation.network import SimulatedNetwork

_JOINING = ("Add", "Concat")


def in_8_bits(
    network: SimulatedNetwork,
    scheme: Scheme,
    batch: Tensor,
    budget: float,
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> dict[str, Scheme | None]:
    """Give 8 bits to the ends, and within a budget to the layers that gain most by them.

    The ends are the layers that read the image and the last one: few bits of the image or of the
    decision itself cannot be made up for, and these layers hold few of the weights. Low bits are
    reported so throughout (AdaRound, LSQ and BRECQ among others). Residual additions and
    concatenations, which only engines quantize, have 8 bits too.

    The others are taken by how much the network's output loses if each alone has few bits, for
    each of its multiplications, as long as they fit in.

    Args:
        network: The network with all layers as the scheme says; a rough calibration will do, as
            it only serves to rank them.
        scheme: How they are quantized.
        batch: What the loss is measured on: float32 [1, C, D, H, W], on the network's device.
        budget: Share of the network's multiplications that the layers beside the ends may have.
        reporter: Told of each layer; may cancel.

    Returns:
        What :func:`medptq.quantization.simulation.simulating.simulate` takes as ``overrides``.

    Raises:
        Cancelled: The user asked to stop.
    """
    spared = _ends(network)
    if budget > 0:
        multiplications = _multiplications(network, batch)
        losses = _losses(network, batch, reporter)
        left = budget * sum(multiplications.values())
        others = [name for name in network.layers if name not in spared]
        for name in sorted(others, key=lambda name: -losses[name] / multiplications[name]):
            if multiplications[name] <= left:
                spared.add(name)
                left -= multiplications[name]
    more = replace(scheme, weight_bits=8, activation_bits=8, signed=True)
    return {name: more for name in network.layers if name in spared}


def _ends(network: SimulatedNetwork) -> set[str]:
    image = network.graph.model.graph.input[0].name
    weighted = [layer for layer in network.layers.values() if layer.weight is not None]
    ends = {weighted[0].name, weighted[-1].name}
    for layer in network.layers.values():
        if layer.op_type in _JOINING or image in (edge.tensor for edge in layer.edges):
            ends.add(layer.name)
    return ends


def _losses(network: SimulatedNetwork, batch: Tensor, reporter: Reporter) -> dict[str, float]:
    """Return what the output loses if each layer alone is quantized."""
    expected = network.run(batch, ())
    count = reporter.counter("Measuring sensitivity", len(network.layers))
    losses: dict[str, float] = {}

    def compare(name: str, found: Tensor) -> None:
        reporter.check()
        losses[name] = float(output_loss(found, expected))
        count()

    network.run_flipped(batch, (), compare)
    return losses


def _multiplications(network: SimulatedNetwork, batch: Tensor) -> Mapping[str, int]:
    """Return how many multiplications each layer takes; 0 for what has none."""
    shapes: dict[str, torch.Size] = {}

    def see(name: str, value: Tensor) -> None:
        shapes[name] = value.shape

    layers = network.layers.values()
    watch = {name for layer in layers for name in (layer.output, layer.edges[0].value)}
    network.run(batch, (), see, watch)
    return {layer.name: _multiplications_of(layer, shapes) for layer in layers}


def _multiplications_of(layer: SimulatedLayer, shapes: Mapping[str, torch.Size]) -> int:
    read, made = shapes[layer.edges[0].value], shapes[layer.output]
    if layer.op_type in _JOINING:
        return 0
    if layer.weight is None or layer.op_type not in CONVOLUTIONS:
        return math.prod(made) * read[-1]
    # Each value that is made, or read if it is transposed, is multiplied with one kernel.
    return math.prod(made if layer.op_type == "Conv" else read) * layer.weight.full[0].numel()
