"""Distillation: the network of few bits is trained to say what it says in FP32, without labels.

All roundings, scales and biases are learned together, by what they do to the network's output.
Block-wise reconstruction (AdaRound, arXiv 2004.10568; BRECQ, arXiv 2102.05426) stops short of the
output because a few images with one label each would be learned by heart; a patch of a scan is
some hundred thousand voxels, each with an answer of its own. Step sizes are learned as in LSQ
(Esser et al., ICLR 2020, arXiv 1902.08153); gradients pass roundings as if there were none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from medptq.progress import Reporter
from medptq.quantization.simulation.grid import Grid
from medptq.quantization.simulation.layer import LayerWeight
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import Patches

# Steps of Adam, so in units of what is learned: steps of a weight's grid, logarithms of scales,
# and biases relative to the spread of the layer's output.
_WEIGHTS, _SCALES, _BIASES = 1e-2, 5e-3, 5e-3
_EVEN = 0.1  # of the loss: the output's squared error, which also counts where all is decided


def distil(
    network: SimulatedNetwork,
    patches: Patches,
    steps: int = 200,
    seed: int = 0,
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> None:
    """Learn the network's weights, static scales and corrections from its own output in FP32.

    Args:
        network: Its layers' ``weight`` and ``correction`` and its ``grids`` are set.
        patches: What it learns from; unlabeled.
        steps: Gradient steps, each on one patch.
        seed: Of the order of the patches.
        reporter: Told after each step; may cancel.

    Raises:
        Cancelled: The user asked to stop.
    """
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.from_numpy(patch).to(network.device) for patch in patches]
    # Clones, for tensors of inference mode could take no part in what has gradients.
    wanted = [network.run(batch, ()).clone() for batch in batches]
    learned = _Learned(network, batches[0])
    optimizer = torch.optim.Adam(learned.groups())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order: list[int] = []
    for _ in reporter.track(range(steps), "Distilling"):
        order = order or torch.randperm(len(batches), generator=generator).tolist()
        index = order.pop()
        optimizer.zero_grad()
        torch.autograd.backward(output_loss(learned.run(batches[index]), wanted[index]))
        optimizer.step()
        schedule.step()
    learned.hand_over()


def output_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Return how far an output [1, classes, D, H, W] is from another, for each voxel.

    The divergence of the classes' probabilities, which counts where the decision is near; and
    the squared error relative to the output's variance.
    """
    divergence = kl_div(
        log_softmax(found, 1), log_softmax(wanted, 1), log_target=True, reduction="none"
    )
    even = (found - wanted).square().mean() / wanted.var().clamp_min(1e-12)
    return divergence.sum(1).mean() + _EVEN * even


@dataclass(frozen=True)
class _Weight:
    """A weight that is learned: in steps of its grid, and the logarithm of the grid's scale."""

    of: LayerWeight
    steps: Tensor
    log_scale: Tensor

    @classmethod
    def start(cls, weight: LayerWeight) -> _Weight:
        # From where the roundings are if they were chosen before, and else from the weight.
        chosen = not torch.equal(weight.quantized, weight.grid.nearest(weight.full))
        values = weight.quantized if chosen else weight.full
        steps = values / weight.grid.scale
        return cls(weight, steps.clone().requires_grad_(), _log(weight.grid.scale))

    def quantized(self) -> Tensor:
        """Return the weight on its grid; gradients pass the rounding, and not the grid's ends."""
        clipped = self.of.grid.within(self.steps)
        return (clipped + (clipped.round() - clipped).detach()) * self.log_scale.exp()


class _Learned:
    """What is learned of a network: weights, scales of activations, and biases."""

    def __init__(self, network: SimulatedNetwork, batch: Tensor) -> None:
        self._network = network
        layers = {layer.output: layer for layer in network.layers.values() if layer.weight}
        self._weights = {
            layer.name: _Weight.start(layer.weight) for layer in layers.values() if layer.weight
        }
        self._spreads: dict[str, float] = {}
        self._biases: dict[str, Tensor] = {}

        def measure(name: str, output: Tensor) -> None:
            layer = layers[name]
            spread = max(float(output.std(correction=0)), 1e-6)  # there may be but one value
            bias = layer.correction
            if bias is None:
                channels = output.shape[layer.channel_axis]
                ones = [1] * (output.ndim - 2) if layer.channel_axis == 1 else []
                bias = output.new_zeros(channels, *ones)
            self._spreads[layer.name] = spread
            self._biases[layer.name] = bias / spread

        network.run(batch, (), measure, watch=layers)
        # Made anew, for tensors of inference mode could take no part in what has gradients.
        self._biases = {name: x.clone().requires_grad_() for name, x in self._biases.items()}
        self._scales = _shared_scales(network)

    def groups(self) -> list[dict[str, Any]]:
        """Return what is learned as Adam takes it."""
        weights = self._weights.values()
        scales = {id(scale): scale for scale in self._scales.values()}.values()
        return [
            {"params": [weight.steps for weight in weights], "lr": _WEIGHTS},
            {"params": [*(weight.log_scale for weight in weights), *scales], "lr": _SCALES},
            {"params": [*self._biases.values()], "lr": _BIASES},
        ]

    def run(self, batch: Tensor) -> Tensor:
        """Run the network as learned so far, with gradients."""
        changes: dict[str, Callable[[Tensor], Tensor]] = {}
        for layer in self._network.layers.values():
            for edge in layer.edges:
                if edge.value in self._scales:
                    grid, scale = self._network.grids[edge.value], self._scales[edge.value]
                    changes[edge.value] = partial(_on_grid, grid=grid, log_scale=scale)
                else:
                    quantize = self._network.quantizer(edge)
                    changes[edge.value] = partial(_passing, quantize=quantize)
            if layer.name in self._biases:
                changes[layer.output] = self._correction(layer.name).__add__
        weights = {name: weight.quantized() for name, weight in self._weights.items()}
        return self._network.run_with(batch, weights, changes)

    def hand_over(self) -> None:
        """Give the network what was learned."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.of.quantized = weight.quantized()
                weight.of.grid = replace(weight.of.grid, scale=weight.log_scale.exp())
                self._network.layers[name].correction = self._correction(name)
            for name, scale in self._scales.items():
                grid = self._network.grids[name]
                self._network.grids[name] = replace(grid, scale=scale.exp())

    def _correction(self, name: str) -> Tensor:
        return self._biases[name] * self._spreads[name]


def _shared_scales(network: SimulatedNetwork) -> dict[str, Tensor]:
    """Return the logarithms of the scales of each edge's value that has static ones.

    An activation that several layers read alike keeps one grid for them all, and so do those that
    engines join without a change: what is quantized once need not be quantized again.
    """
    tied = {name: group for group in network.graph.tied for name in group}
    found: dict[str, Tensor] = {}
    alike: dict[Any, Tensor] = {}
    for layer in network.layers.values():
        for edge in layer.edges:
            if edge.value in network.grids:
                grid = network.grids[edge.value]
                numbers = (*grid.scale.flatten().tolist(), grid.steps)
                key = (tied.get(edge.tensor, edge.tensor), grid.scale.shape, numbers)
                found[edge.value] = alike.setdefault(key, _log(grid.scale))
    return found


def _log(scale: Tensor) -> Tensor:
    return scale.clone().log().requires_grad_()


def _on_grid(x: Tensor, grid: Grid, log_scale: Tensor) -> Tensor:
    return _Rounding.apply(x, log_scale, grid)  # type: ignore[no-any-return, no-untyped-call]


def _passing(x: Tensor, quantize: Callable[[Tensor], Tensor]) -> Tensor:
    """Quantize with gradients that pass as if nothing were done."""
    with torch.no_grad():
        difference = quantize(x) - x
    return x + difference


class _Rounding(torch.autograd.Function):
    """x to the nearest value of a grid, with LSQ's gradients for x and the scale's logarithm."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_scale: Tensor, grid: Grid) -> Tensor:
        grid = replace(grid, scale=log_scale.exp())
        y = grid.nearest(x)
        ctx.save_for_backward(x, y, grid.scale)
        ctx.grid = grid
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        [gradient] = gradients
        x, y, scale = ctx.saved_tensors
        low = scale * ctx.grid.lowest
        inside = (x >= low) & (x <= low + scale * ctx.grid.steps)
        passed = gradient * inside
        # d y / d log s = s (round(x / s) - x / s) = y - x inside, and y where it is clipped.
        of_scale = (gradient * y - passed * x).sum_to_size(scale.shape)
        return passed, of_scale, None
