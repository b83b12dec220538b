"""Bias correction: what rounding adds to a channel on average is taken off again.

Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019
(arXiv 1906.04721), with the means measured on patches (its appendix D) in place of those that
batch normalization remembers, which most 3D networks lack.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medptq.progress import Reporter
from medptq.quantization.simulation.layer import SimulatedLayer
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import Patches


def correct_biases(
    network: SimulatedNetwork,
    patches: Patches,
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> None:
    """Give each layer with weights the mean output, channel by channel, that it has in FP32.

    The layers are corrected from first to last, each with those before it corrected already: the
    mean that is taken off is what all the rounding up to the layer adds to it.

    Args:
        network: Its layers' ``correction`` is set.
        patches: What the means are measured on.
        reporter: Told after each layer; may cancel.

    Raises:
        Cancelled: The user asked to stop.
    """
    layers = [layer for layer in network.layers.values() if layer.weight is not None]
    batches = [torch.from_numpy(patch).to(network.device) for patch in patches]
    wanted = {layer.output: layer for layer in layers}
    means = {layer.name: _Mean(layer) for layer in layers}
    for batch in batches:
        reporter.check()
        network.run(batch, (), lambda name, x: means[wanted[name].name].add(x), watch=wanted)
    for layer in reporter.track(layers, "Correcting biases"):
        layer.correction = None
        found = _Mean(layer)
        for batch in batches:
            found.add(*network.values([layer.output], batch))
        layer.correction = means[layer.name].value() - found.value()


class _Mean:
    """Mean of each channel of a layer's output over patches, in a shape that broadcasts."""

    def __init__(self, layer: SimulatedLayer) -> None:
        self._axis = layer.channel_axis
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, output: Tensor) -> None:
        channel = self._axis % output.ndim
        others = tuple(axis for axis in range(output.ndim) if axis != channel)
        mean = output.mean(others, keepdim=True, dtype=torch.float64)
        self._sum = mean if self._sum is None else self._sum + mean
        self._count += 1

    def value(self) -> Tensor:
        if self._sum is None:
            raise ValueError("nothing was seen")
        return (self._sum / self._count).float().clone()
