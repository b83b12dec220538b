"""How the weights and inputs of layers are distributed, before and after they are quantized."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medptq.progress import Reporter
from medptq.quantization.simulation.grid import Grid
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import Patches

_BINS = 80
_MARGIN = 0.25
"""How far beyond the grid's ends is told apart, as a share of its width."""


@dataclass(frozen=True)
class Distribution:
    """How values are distributed over the grid that they are rounded to.

    The histogram's axis counts the grid's steps, so that channels with scales of their own lie on
    one another. Its first and last bins also hold what lies beyond them.

    Attributes:
        minimum: The smallest value.
        maximum: The largest value.
        step: The smallest and the largest distance of neighbours on the grid; they differ where
            each channel has its own scale.
        lowest: The lowest whole number of the grid, of all channels.
        highest: The highest one.
        clipped: Share of the values that lie beyond their grid.
        signal_to_noise_db: Power of the values over that of the error of rounding and clipping,
            in decibels; None if there is no error.
        first_edge: Where the first bin begins, in steps.
        bin_width: In steps.
        before: How many values lie in each bin.
        after: How many of them do once they are quantized.
    """

    minimum: float
    maximum: float
    step: tuple[float, float]
    lowest: int
    highest: int
    clipped: float
    signal_to_noise_db: float | None
    first_edge: float
    bin_width: float
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class LayerDistributions:
    """What a layer computes with.

    Attributes:
        weight: Its weight, or None if it has none.
        inputs: The activations that it reads quantized: one, or the two of a product.
    """

    weight: Distribution | None
    inputs: tuple[Distribution, ...]


def distributions_of(
    network: SimulatedNetwork,
    patches: Patches,
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> dict[str, LayerDistributions]:
    """Return how the weights and inputs of each layer are distributed, by the layer's name.

    Args:
        network: A network with static scales.
        patches: What inputs are taken from, as they are in FP32.
        reporter: Told after each patch; may cancel.

    Raises:
        Cancelled: The user asked to stop.
    """
    edges = [edge.value for layer in network.layers.values() for edge in layer.edges]
    counts = {name: _Counts(network.grids[name]) for name in edges}

    def see(name: str, tensor: Tensor) -> None:
        reporter.check()
        counts[name].add(tensor, network.grids[name].nearest(tensor))

    for patch in reporter.track(patches, "Gathering distributions"):
        network.run(torch.from_numpy(patch).to(network.device), (), see, watch=edges)
    found = {}
    for layer in network.layers.values():
        weight = None
        if layer.weight is not None:
            tally = _Counts(layer.weight.grid)
            tally.add(layer.weight.full, layer.weight.quantized)
            weight = tally.result()
        inputs = tuple(counts[edge.value].result() for edge in layer.edges)
        found[layer.name] = LayerDistributions(weight, inputs)
    return found


class _Counts:
    """Gathers a :class:`Distribution` in one pass over tensors of any size."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        lowest = torch.as_tensor(grid.lowest)
        self._lowest, self._highest = int(lowest.min()), int(lowest.max()) + grid.steps
        levels = self._highest - self._lowest + 1
        # A power of two: a bin holds a whole number of steps, or a step lies amid one of them.
        self._width = 2.0 ** math.ceil(math.log2(levels * (1 + 2 * _MARGIN) / _BINS))
        margin = math.ceil(levels * _MARGIN / self._width)
        inside = math.ceil(levels / self._width)
        self._bins = inside + 2 * margin
        self._first = self._lowest - min(self._width, 1.0) / 2 - margin * self._width
        self._before = self._after = torch.zeros(self._bins, dtype=torch.int64)
        self._minimum, self._maximum = math.inf, -math.inf
        self._clipped = self._count = 0
        self._signal = self._noise = 0.0

    def add(self, values: Tensor, quantized: Tensor) -> None:
        """Count the values of a tensor, and what they became."""
        grid = self._grid
        low, high = torch.aminmax(values)
        self._minimum = min(self._minimum, float(low))
        self._maximum = max(self._maximum, float(high))
        steps = values / grid.scale
        whole = steps.round()
        self._clipped += int((grid.within(whole) != whole).sum())
        self._count += values.numel()
        self._signal += float(values.square().sum(dtype=torch.float64))
        self._noise += float((values - quantized).square_().sum(dtype=torch.float64))
        self._before = self._before + self._histogram(steps)
        self._after = self._after + self._histogram((quantized / grid.scale).round_())

    def _histogram(self, steps: Tensor) -> Tensor:
        last = self._first + self._bins * self._width
        inside = steps.clamp(self._first + self._width / 2, last - self._width / 2).float()
        # It counts in the values' own type, whose steps are more than one above so many.
        parts = torch.split(inside.flatten(), 1 << 24)
        return sum(
            (torch.histc(part, self._bins, self._first, last).long().cpu() for part in parts),
            start=torch.zeros(self._bins, dtype=torch.long),
        )

    def result(self) -> Distribution:
        scale = self._grid.scale
        decibels = None
        if self._noise > 0 and self._signal > 0:
            decibels = 10 * math.log10(self._signal / self._noise)
        return Distribution(
            minimum=self._minimum,
            maximum=self._maximum,
            step=(float(scale.min()), float(scale.max())),
            lowest=self._lowest,
            highest=self._highest,
            clipped=self._clipped / self._count,
            signal_to_noise_db=decibels,
            first_edge=self._first,
            bin_width=self._width,
            before=tuple(self._before.tolist()),
            after=tuple(self._after.tolist()),
        )
