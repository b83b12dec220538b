"""How large each channel of an activation becomes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from medptq.graph.executor import GraphExecutor
from medptq.progress import Reporter
from medptq.quantization.simulation.simulating import Patches


def channel_magnitudes(
    model: onnx.ModelProto, axes: Mapping[str, int], patches: Patches, reporter: Reporter
) -> dict[str, NDArray[np.float64]]:
    """Return the largest magnitude of each channel of some activations.

    Args:
        model: The FP32 graph.
        axes: The activations by name, with the axis of their channels.
        patches: What is run through the network.
        reporter: Told after each patch; may cancel.

    Raises:
        Cancelled: The user asked to stop.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    executor = GraphExecutor(model, device)
    largest: dict[str, Tensor] = {}

    def see(name: str, tensor: Tensor) -> None:
        channel = axes[name] % tensor.ndim
        others = tuple(axis for axis in range(tensor.ndim) if axis != channel)
        now = tensor.abs().amax(others)
        largest[name] = torch.maximum(largest[name], now) if name in largest else now

    with torch.inference_mode():
        for patch in reporter.track(patches, "Measuring channels"):
            executor.run(torch.from_numpy(patch).to(device), see, watch=axes.keys())
    return {name: values.double().cpu().numpy() for name, values in largest.items()}


def balancing_scales(
    activation: NDArray[np.float64], weight: NDArray[np.float64], strength: float
) -> NDArray[np.float64]:
    """Return what each channel of an activation is to be divided by, and its weights multiplied.

    SmoothQuant's ``a^strength / w^(1 - strength)`` (Xiao et al., arXiv 2211.10438): at 1 all
    channels of the activation become equally large, at 0 all those of the weight.

    Args:
        activation: Largest magnitude of each channel of the activation.
        weight: Largest magnitude of the weights that read the channel.
        strength: From 0 to 1.

    Returns:
        Numbers above 0; 1 for a channel that is dead on either side.
    """
    alive = (activation > 0) & (weight > 0)
    scales = np.ones_like(activation)
    scales[alive] = activation[alive] ** strength / weight[alive] ** (1.0 - strength)
    return scales
