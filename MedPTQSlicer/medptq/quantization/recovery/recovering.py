"""All ways of recovery in the order in which they build on one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx
import torch

from medptq.graph.simplify import simplify
from medptq.progress import Reporter
from medptq.quantization.mixed_precision import in_8_bits
from medptq.quantization.recovery.bias_correction import correct_biases
from medptq.quantization.recovery.clipping import fit_clipping
from medptq.quantization.recovery.distillation import distil, output_loss
from medptq.quantization.recovery.equalization import equalize
from medptq.quantization.recovery.rounding import choose_roundings
from medptq.quantization.recovery.smoothing import smooth
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import Patches, simulate

_STRENGTHS = (0.5, 0.7)
_HELD_OUT = 4  # one patch in so many is not learned from


@dataclass(frozen=True)
class Recovery:
    """Which ways of recovery are tried; each is kept if the network's output is better for it.

    Distillation learns all that clipping, roundings and biases choose layer by layer, and starts
    from what they chose.

    Attributes:
        budget: 8 bits for the first and the last layers and, where activations have fewer, for
            others as far as this share of the network's multiplications goes: see
            :func:`medptq.quantization.mixed_precision.in_8_bits`. None for no layer at all.
        balance: Equalization across layers and SmoothQuant, at the better of some strengths.
        clipping: Ranges by the error of the layers' outputs; for static scales per tensor.
        rounding_steps: Steps of AdaRound for each layer; 0 for none.
        biases: Bias correction of the network as a whole.
        distillation_steps: Steps of training on the network's own output in FP32, each on one
            patch; 0 for none.
        pieces: How many pieces of each layer's output clipping and roundings look at.
        seed: Of the choice of pieces, and of the order of patches.
    """

    budget: float | None = 0.2
    balance: bool = True
    clipping: bool = False
    rounding_steps: int = 0
    biases: bool = False
    distillation_steps: int = 200
    pieces: int = 256
    seed: int = 0


def simulate_recovered(
    model: onnx.ModelProto,
    scheme: Scheme,
    patches: Patches,
    recovery: Recovery = Recovery(),
    *,
    overrides: Mapping[str, Scheme | None] = MappingProxyType({}),
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> SimulatedNetwork:
    """Return a network of few bits that has won back what it can.

    Args:
        model: As :func:`medptq.quantization.simulation.simulating.simulate` takes it, like the
            other arguments. The layers' names do not change.
        scheme: How its layers are quantized.
        patches: What it is calibrated and recovered on; unlabeled.
        recovery: What is done.
        overrides: Another scheme for some of the layers; None to leave one in FP32.
        reporter: Told of progress; may cancel.

    Raises:
        ModelError: The graph cannot be run on such patches.
        QuantizationError: As for ``simulate``.
        Cancelled: The user asked to stop.
    """
    learning, held_out = _split(patches)
    if recovery.budget is not None:
        rough = simulate(model, scheme, patches[:1], reporter=reporter)
        batch = torch.from_numpy(held_out[0]).to(rough.device)
        # What few bits of the weights alone cost is won back without.
        budget = recovery.budget if scheme.activation_bits < 8 else 0.0
        overrides = {**in_8_bits(rough, scheme, batch, budget, reporter), **overrides}
    network = simulate(model, scheme, patches, overrides=overrides, reporter=reporter)
    if recovery.balance:
        least = _loss(network, held_out, reporter)
        plain = simplify(model, input_shape=network.input_shape)
        for strength in _STRENGTHS:
            even = smooth(equalize(plain, patches, strength, reporter), patches, strength, reporter)
            other = simulate(even, scheme, patches, overrides=overrides, reporter=reporter)
            loss = _loss(other, held_out, reporter)
            if loss < least:
                network, least = other, loss
    pieces, seed = recovery.pieces, recovery.seed

    def clip() -> None:
        fit_clipping(network, learning, pieces, seed, reporter)

    def choose() -> None:
        choose_roundings(network, learning, recovery.rounding_steps, pieces, seed, reporter)

    def correct() -> None:
        correct_biases(network, learning, reporter)

    def learn() -> None:
        distil(network, learning, recovery.distillation_steps, seed, reporter)

    for wanted, change in (
        (recovery.clipping, clip),
        (recovery.rounding_steps > 0, choose),
        (recovery.biases, correct),
        (recovery.distillation_steps > 0, learn),
    ):
        if wanted:
            _if_better(network, held_out, change, reporter)
    return network


def _split(patches: Patches) -> tuple[Patches, Patches]:
    """Return the patches to learn from and those to judge by; the same if they are too few."""
    if len(patches) < _HELD_OUT:
        return patches, patches
    learning = [patch for n, patch in enumerate(patches) if (n + 1) % _HELD_OUT]
    return learning, patches[_HELD_OUT - 1 :: _HELD_OUT]


def _if_better(
    network: SimulatedNetwork, held_out: Patches, change: Callable[[], None], reporter: Reporter
) -> None:
    """Change the network, and take that back if its output is no better for it.

    What serves each layer's output need not serve the network's.
    """
    before, kept = _loss(network, held_out, reporter), network.state()
    change()
    if not _loss(network, held_out, reporter) < before:  # a network that became NaN neither
        network.restore(kept)


def _loss(network: SimulatedNetwork, patches: Patches, reporter: Reporter) -> float:
    loss = 0.0
    for patch in patches:
        reporter.check()
        batch = torch.from_numpy(patch).to(network.device)
        loss += float(output_loss(network.run(batch), network.run(batch, ())))
    return loss
