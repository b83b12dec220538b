"""Building a network with the weights of a checkpoint, from a description nobody vouches for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from medptq.models.architectures.building import build_network
from medptq.models.architectures.weights import load_weights, misfit, weights_for


def build_with_weights(name: str, options: Mapping[str, Any], checkpoint: Path) -> nn.Module:
    """Build a network with the weights of a checkpoint.

    Whether the two fit is seen before the network takes any memory: a few words can describe one
    that would take all that there is.

    Args:
        name: One of :data:`medptq.models.architectures.registry.ARCHITECTURES`.
        options: As :func:`medptq.models.architectures.building.build_network` takes them.
        checkpoint: As :func:`medptq.models.architectures.weights.load_weights` reads it.

    Returns:
        The network, in evaluation mode.

    Raises:
        ModelError: ``model.weights`` - they are those of another network. Or as
            :func:`medptq.models.architectures.building.build_network` and
            :func:`medptq.models.architectures.weights.load_weights`.
    """
    sketch = sketch_of(name, options)
    weights_for(sketch, checkpoint)
    # The weights' shapes do not tell: a tensor may repeat one number that the file holds.
    parameters = sum(parameter.numel() for parameter in sketch.parameters())
    if 2 * parameters > checkpoint.stat().st_size:  # two bytes each are the least
        raise misfit(
            checkpoint,
            f"the network has {parameters} parameters, and the file is too small to hold as many",
        )
    network = build_network(name, **options)
    load_weights(network, checkpoint)
    return network


def sketch_of(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Build a network whose weights have shapes and no memory.

    Raises:
        ModelError: As :func:`medptq.models.architectures.building.build_network`.
    """
    with torch.device("meta"), _NumbersAreKnown():
        return build_network(name, **options)


class _NumbersAreKnown(TorchFunctionMode):
    """Leaves in memory what MONAI's Swin UNETR looks at while it is built."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func is torch.linspace:
            options.setdefault("device", "cpu")
        return func(*args, **options)
