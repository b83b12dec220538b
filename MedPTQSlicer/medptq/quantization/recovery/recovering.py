"""All ways of recovery in the order in which they build on one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx
import torch

from medptq.graph.simplify import simplify
from medptq.progress import Reporter
from medptq.quantization.recovery.bias_correction import correct_biases
from medptq.quantization.recovery.clipping import fit_clipping
from medptq.quantization.recovery.equalization import equalize
from medptq.quantization.recovery.rounding import choose_roundings
from medptq.quantization.recovery.smoothing import smooth
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import Patches, simulate

_STRENGTHS = (0.5, 0.7)


@dataclass(frozen=True)
class Recovery:
    """Which ways of recovery are tried; each is kept if the network's output is better for it.

    Attributes:
        balance: Equalization across layers and SmoothQuant, at the better of some strengths.
        clipping: Ranges by the error of the layers' outputs; for static scales per tensor.
        rounding_steps: Steps of AdaRound for each layer; 0 for none.
        biases: Bias correction of the network as a whole.
        pieces: How many pieces of each layer's output clipping and roundings look at.
        seed: Of the choice of pieces.
    """

    balance: bool = True
    clipping: bool = True
    rounding_steps: int = 300
    biases: bool = True
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
    network = simulate(model, scheme, patches, overrides=overrides, reporter=reporter)
    if recovery.balance:
        least = _output_error(network, patches, reporter)
        plain = simplify(model, input_shape=network.input_shape)
        for strength in _STRENGTHS:
            even = smooth(equalize(plain, patches, strength, reporter), patches, strength, reporter)
            other = simulate(even, scheme, patches, overrides=overrides, reporter=reporter)
            error = _output_error(other, patches, reporter)
            if error < least:
                network, least = other, error
    pieces, seed = recovery.pieces, recovery.seed

    def clip() -> None:
        fit_clipping(network, patches, pieces, seed, reporter)

    def choose() -> None:
        choose_roundings(network, patches, recovery.rounding_steps, pieces, seed, reporter)

    def correct() -> None:
        correct_biases(network, patches, reporter)

    for wanted, change in (
        (recovery.clipping, clip),
        (recovery.rounding_steps > 0, choose),
        (recovery.biases, correct),
    ):
        if wanted:
            _if_better(network, patches, change, reporter)
    return network


def _if_better(
    network: SimulatedNetwork, patches: Patches, change: Callable[[], None], reporter: Reporter
) -> None:
    """Change the network, and take that back if its output is no better for it.

    What serves each layer's output need not serve the network's.
    """
    before, kept = _output_error(network, patches, reporter), network.state()
    change()
    if _output_error(network, patches, reporter) >= before:
        network.restore(kept)


def _output_error(network: SimulatedNetwork, patches: Patches, reporter: Reporter) -> float:
    error = 0.0
    for patch in patches:
        reporter.check()
        batch = torch.from_numpy(patch).to(network.device)
        difference = network.run(batch) - network.run(batch, ())
        error += float(difference.square().sum(dtype=torch.float64))
    return error
