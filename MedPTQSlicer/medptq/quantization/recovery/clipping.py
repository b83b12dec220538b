"""Clipping chosen by what it does to a layer's output.

Calibration chooses an activation's range by the error of the activation itself. What counts is
the error after the layer's weights, of which some weigh much and others nothing; so the range is
searched again, from where calibration left it, for the least error of the layer's output. (Layer
by layer and without gradients; LSQ and PACT learn the same numbers by training.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from medptq.progress import Reporter
from medptq.quantization.recovery.layer_samples import (
    LayerSamples,
    can_be_sampled,
    sample_layer,
)
from medptq.quantization.simulation.grid import Grid
from medptq.quantization.simulation.layer import LayerWeight
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import Patches

_FACTORS = (0.5, 0.6, 0.7, 0.8, 0.87, 0.93, 1.07, 1.15, 1.3)
_SHIFTS = (-2, -1, 1, 2)
_ROUNDS = 2


def fit_clipping(
    network: SimulatedNetwork,
    patches: Patches,
    pieces: int = 256,
    seed: int = 0,
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> None:
    """Search the static range of each layer's input again, from the first layer to the last.

    Args:
        network: Its ``grids`` of one scale are changed where that is better, and its layers'
            ``correction`` is set.
        patches: What the layers' outputs are compared on; unlabeled.
        pieces: How many pieces of a layer's output are looked at.
        seed: Of the choice of pieces.
        reporter: Told after each layer; may cancel.

    Raises:
        Cancelled: The user asked to stop.
    """
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.from_numpy(patch).to(network.device) for patch in patches]
    one_scale = {name for name, grid in network.grids.items() if grid.scale.numel() == 1}
    layers = [
        layer
        for layer in network.layers.values()
        if can_be_sampled(layer) and layer.edges[0].value in one_scale
    ]
    for layer in reporter.track(layers, "Choosing ranges"):
        samples = sample_layer(network, layer, batches, pieces, generator)
        if layer.weight is not None:
            value = layer.edges[0].value
            found = _search(network.grids[value], samples, layer.weight, reporter)
            network.grids[value], layer.correction = found


def _search(
    grid: Grid, samples: LayerSamples, weight: LayerWeight, reporter: Reporter
) -> tuple[Grid, torch.Tensor]:
    """Return the best grid near ``grid``, and the correction of the layer that goes with it."""
    wanted = samples.whole_output(samples.full, weight.full)

    def tried(candidate: Grid) -> tuple[float, torch.Tensor]:
        reporter.check()
        pieces = candidate.nearest(samples.arriving)
        return samples.compare(samples.whole_output(pieces, weight.quantized), wanted)

    least, correction = tried(grid)
    for _ in range(_ROUNDS):
        for candidate in _near(grid):
            error, its_correction = tried(candidate)
            if error < least:
                grid, least, correction = candidate, error, its_correction
    return grid, correction


def _near(grid: Grid) -> Iterator[Grid]:
    for factor in _FACTORS:
        yield replace(grid, scale=grid.scale * factor)
    if isinstance(grid.lowest, torch.Tensor):
        for shift in _SHIFTS:
            lowest = (grid.lowest + shift).clamp(-grid.steps, 0)
            yield replace(grid, lowest=lowest)
