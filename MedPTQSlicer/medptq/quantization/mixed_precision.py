"""More bits for the few layers that need them."""

from __future__ import annotations

from dataclasses import replace

from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.network import SimulatedNetwork


def spare_the_ends(network: SimulatedNetwork, scheme: Scheme) -> dict[str, Scheme | None]:
    """Give 8 bits to the layers that read the image, to the last one, and to what joins others.

    That is how low bits are reported throughout (AdaRound, LSQ and BRECQ among others): few bits
    of the image or of the decision itself cannot be made up for, and these layers hold few of the
    weights. Residual additions and concatenations, which only engines quantize, have 8 bits too.
    Products of activations, as in attention, keep the scheme's.

    Args:
        network: The network, however it is quantized.
        scheme: How the other layers are quantized.

    Returns:
        What :func:`medptq.quantization.simulation.simulating.simulate` takes as ``overrides``.
    """
    layers = list(network.layers.values())
    image = network.graph.model.graph.input[0].name
    weighted = [layer for layer in layers if layer.weight is not None]
    ends = {weighted[0].name, weighted[-1].name}
    for layer in layers:
        if layer.op_type in ("Add", "Concat") or image in (edge.tensor for edge in layer.edges):
            ends.add(layer.name)
    spared = replace(scheme, weight_bits=8, activation_bits=8, signed=True)
    return {layer.name: spared for layer in layers if layer.name in ends}
