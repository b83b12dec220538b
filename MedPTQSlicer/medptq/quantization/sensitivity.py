"""What each layer's quantization costs a network, by itself and beside all the others."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from medptq.progress import Reporter
from medptq.quantization.agreement import Agreement, Tally
from medptq.quantization.recipe import Recipe
from medptq.quantization.scheme import Scheme, scheme_of
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import Patches

_SECONDS = 150.0


@dataclass(frozen=True)
class LayerSensitivity:
    """What one layer's quantization costs.

    Attributes:
        layer: Its name.
        op_type: Its operator.
        weights: How many weights it has; 0 for a product of activations.
        alone: The agreement if it alone is quantized.
        all_but: The agreement if all layers but it are.
    """

    layer: str
    op_type: str
    weights: int
    alone: Agreement
    all_but: Agreement


@dataclass(frozen=True)
class Sensitivity:
    """What the layers' quantization costs.

    Attributes:
        together: The agreement if all layers are quantized.
        layers: One by one, the one that costs most if it alone is quantized first.
    """

    together: Agreement
    layers: tuple[LayerSensitivity, ...]


def sensitivity_of(
    network: SimulatedNetwork,
    patches: Patches,
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> Sensitivity:
    """Quantize each layer of a network alone, and all layers but it, and see what that costs.

    Args:
        network: The network, with its recovery if there is to be one.
        patches: What the outputs are compared on; unlabeled. On each, the network is run twice
            per layer, from that layer on.
        reporter: Told after each run; may cancel.

    Raises:
        Cancelled: The user asked to stop.
    """
    names = set(network.layers)
    together = Tally()
    alone = {name: Tally() for name in names}
    all_but = {name: Tally() for name in names}
    count = reporter.counter("Measuring sensitivity", 2 * len(patches) * len(names))

    def compare(tallies: dict[str, Tally], expected: Tensor, name: str, found: Tensor) -> None:
        reporter.check()
        tallies[name].add(expected, found)
        count()

    for patch in patches:
        batch = torch.from_numpy(patch).to(network.device)
        expected = network.run(batch, ())
        network.run_flipped(batch, (), partial(compare, alone, expected))
        together.add(
            expected, network.run_flipped(batch, names, partial(compare, all_but, expected))
        )
    table = [
        LayerSensitivity(
            layer=layer.name,
            op_type=layer.op_type,
            weights=0 if layer.weight is None else layer.weight.full.numel(),
            alone=alone[layer.name].result(),
            all_but=all_but[layer.name].result(),
        )
        for layer in network.layers.values()
    ]
    # The output's error tells apart what leaves all labels as they are.
    table.sort(key=lambda row: (row.alone.dice, -row.alone.output_error))
    return Sensitivity(together.result(), tuple(table))


def layers_scheme(recipe: Recipe) -> Scheme:
    """Return how a recipe quantizes the layers alone, and not what joins them.

    The scales of single channels are then those of the least squared error, or of ``max``: the
    other observers are none for layers alone.
    """
    scheme = scheme_of(recipe)
    if scheme.activation_granularity == "channel" and scheme.observer != "max":
        scheme = replace(scheme, observer="mse")
    return replace(scheme, placing="layers")


def affordable(network: SimulatedNetwork, patches: Patches) -> int:
    """Return on how many of the patches :func:`sensitivity_of` takes some minutes; at least 1."""
    batch = torch.from_numpy(patches[0]).to(network.device)
    network.run(batch)  # the first run pays for more than its own work
    started = time.monotonic()
    network.run(batch)
    # Each layer costs two runs from there on, which are about one.
    seconds = (time.monotonic() - started) * len(network.layers)
    return max(1, min(len(patches), int(_SECONDS / max(seconds, 1e-6))))
