"""A network of few bits, simulated in PyTorch, where a session of an engine is expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch

from medptq.engines.memory import memory_as_error
from medptq.engines.protocol import Session
from medptq.quantization.simulation.network import SimulatedNetwork


class SimulatedSession(Session):
    """Runs a simulated network patch by patch.

    Args:
        network: The network.

    Example:
        >>> with SimulatedSession(simulate(graph, scheme, patches)) as session:  # doctest: +SKIP
        ...     slabs = sliding_window(session, prepared, 0.5, classes, reporter)
    """

    def __init__(self, network: SimulatedNetwork) -> None:
        self.input_shape = network.input_shape
        self.device = network.device
        self._network = network

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        """Run the network once; see :meth:`Session.run`."""
        with memory_as_error("Running the network"):
            return self._network.run(batch)

    def layer_precisions(self) -> Mapping[str, int]:
        """Count the quantized layers by the name of their scheme, such as ``w4a8``."""
        return Counter(layer.scheme.name.lower() for layer in self._network.layers.values())

    def close(self) -> None:
        """Release the network's memory."""
        del self._network
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
