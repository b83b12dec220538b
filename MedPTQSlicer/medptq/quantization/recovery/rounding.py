"""AdaRound: each weight is rounded up or down, whichever serves its layer's output best.

Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020 (arXiv
2004.10568). As there, a layer reads what the quantized layers before it make, and is to give what
it gave in FP32, so that it makes up for their errors as well as for its own. Beyond the paper, an
error that all of a channel has is not counted, for a correction of the bias costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medptq.progress import Reporter
from medptq.quantization.recovery.layer_samples import (
    LayerSamples,
    can_be_sampled,
    sample_layer,
)
from medptq.quantization.simulation.layer import LayerWeight, SimulatedLayer
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import Patches

# The sigmoid is stretched to [-0.1, 1.1] and cut to [0, 1], so that it reaches both ends.
_STRETCH, _SHIFT = 1.2, -0.1
_LEARNING_RATE = 1e-2
_FREE = 0.2  # share of the steps in which nothing yet draws the roundings to 0 or 1
_SHARPEST, _BLUNTEST = 2.0, 20.0
_PULL = 1.0
_PIECES = 32  # a step


@dataclass(frozen=True)
class Rounded:
    """What the choice of roundings did for a layer.

    Attributes:
        layer: Its name.
        before: Squared error of the layer's output but for each channel's mean, relative to the
            output itself, with each weight rounded to the nearest.
        after: The same with the roundings that were chosen; ``before`` if none were better.
    """

    layer: str
    before: float
    after: float


def choose_roundings(
    network: SimulatedNetwork,
    patches: Patches,
    steps: int = 300,
    pieces: int = 256,
    seed: int = 0,
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> tuple[Rounded, ...]:
    """Choose the roundings of all weights, from the first layer to the last.

    Args:
        network: Its weights' ``quantized`` is set where that is better, and its layers'
            ``correction``.
        patches: What the layers' outputs are compared on; unlabeled.
        steps: Gradient steps for each layer.
        pieces: How many pieces of a layer's output are looked at; more for layers with more
            inputs than a few thousand.
        seed: Of the choice of pieces.
        reporter: Told after each layer; may cancel.

    Raises:
        Cancelled: The user asked to stop.
    """
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.from_numpy(patch).to(network.device) for patch in patches]
    layers = [layer for layer in network.layers.values() if can_be_sampled(layer)]
    results = []
    for layer in reporter.track(layers, "Choosing roundings"):
        samples = sample_layer(network, layer, batches, pieces, generator)
        if layer.weight is not None:
            results.append(_choose(layer, layer.weight, samples, steps, generator, reporter))
    return tuple(results)


def _choose(
    layer: SimulatedLayer,
    weight: LayerWeight,
    samples: LayerSamples,
    steps: int,
    generator: torch.Generator,
    reporter: Reporter,
) -> Rounded:
    wanted = samples.whole_output(samples.full, weight.full)
    energy = float(wanted.square().mean())
    nearest = samples.whole_output(samples.quantized, weight.quantized)
    before, layer.correction = samples.compare(nearest, wanted)
    if energy == 0.0 or before == 0.0:
        return Rounded(layer.name, 0.0, 0.0)
    roundings = _Roundings(weight)
    optimizer = torch.optim.Adam([roundings.logits], _LEARNING_RATE)
    for step in range(steps):
        reporter.check()
        chosen = torch.randint(len(wanted), (_PIECES,), generator=generator).to(wanted.device)
        optimizer.zero_grad()
        error = samples.output(samples.quantized[chosen], roundings.soft()) - wanted[chosen]
        loss = (error - samples.channel_means(error)).square().mean() / before
        done = (step / steps - _FREE) / (1 - _FREE)
        if done > 0:
            sharpness = _BLUNTEST + (_SHARPEST - _BLUNTEST) * done
            loss = loss + _PULL * roundings.undecided(sharpness)
        torch.autograd.backward(loss)
        optimizer.step()
    rounded = roundings.hard()
    after, correction = samples.compare(samples.whole_output(samples.quantized, rounded), wanted)
    if after < before:
        weight.quantized, layer.correction = rounded, correction
    return Rounded(layer.name, before / energy, min(after, before) / energy)


class _Roundings:
    """For each weight, how far it is from the grid's value below it to the one above: 0 to 1."""

    def __init__(self, weight: LayerWeight) -> None:
        self._grid = weight.grid
        quotient = weight.full / weight.grid.scale
        self._below = quotient.floor()
        rest = ((quotient - self._below - _SHIFT) / _STRETCH).clamp(1e-4, 1 - 1e-4)
        self.logits = torch.logit(rest).requires_grad_()

    def _shares(self) -> Tensor:
        return (torch.sigmoid(self.logits) * _STRETCH + _SHIFT).clamp(0, 1)

    def soft(self) -> Tensor:
        """Return the weight as the shares make it."""
        return self._on_grid(self._below + self._shares())

    def hard(self) -> Tensor:
        """Return the weight with each share rounded to 0 or 1."""
        with torch.no_grad():
            return self._on_grid(self._below + (self.logits > 0))

    def undecided(self, sharpness: float) -> Tensor:
        """Return the mean of 1 - |2 share - 1|^sharpness: 0 when all are 0 or 1."""
        return (1 - (2 * self._shares() - 1).abs().pow(sharpness)).mean()

    def _on_grid(self, integers: Tensor) -> Tensor:
        return self._grid.within(integers) * self._grid.scale
