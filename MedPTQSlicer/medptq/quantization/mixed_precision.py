"""More bits for the few layers that need them."""

from __future__ import annotations

from dataclasses import replace

from medptq.quantization.scheme import Scheme
from medptq.quantization.sensitivity import Sensitivity


def spare_the_most_sensitive(
    sensitivity: Sensitivity, scheme: Scheme, share: float
) -> dict[str, Scheme | None]:
    """Give the most sensitive layers 8 bits, as many as a budget allows.

    A layer that does not fit into what is left of the budget is passed over, and less sensitive
    ones that do are taken. Products of activations have no weights and cost nothing: what low
    bits save is the size of the weights, for no engine computes convolutions with 4 bits.

    Args:
        sensitivity: What was measured of the network under ``scheme``.
        scheme: How the other layers are quantized.
        share: Share of all weights, from 0 to 1, that may have 8 bits.

    Returns:
        What :func:`medptq.quantization.simulation.simulating.simulate` takes as ``overrides``.
    """
    left = share * sum(row.weights for row in sensitivity.layers)
    chosen: dict[str, Scheme | None] = {}
    for row in sensitivity.layers:
        if row.weights <= left:
            left -= row.weights
            chosen[row.layer] = replace(scheme, weight_bits=8, activation_bits=8)
    return chosen
