"""MeshNet: a stack of dilated convolutions at full resolution, without any reduction.

Parameters have the names that the authors' checkpoints use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

_NORMALIZATIONS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,  # or folded into the convolutions, as in brainchop's networks
    "batch": nn.BatchNorm3d,
    "channel": lambda features: nn.GroupNorm(features, features, affine=False),
}
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}


def meshnet(
    channels: int = 1,
    classes: int = 2,
    features: int = 26,
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 8, 4, 2, 1),
    norm: Literal["none", "batch", "channel"] = "batch",
    activation: Literal["relu", "elu", "gelu"] = "relu",
) -> nn.Module:
    """Return MeshNet (Fedorov 2017); by default MeshNet-26 of Fedorov 2025.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        features: Channels of every layer but the last.
        dilations: Of each 3x3x3 convolution; a 1x1x1 convolution follows them.
        norm: Normalization after each convolution: ``"channel"`` normalizes each channel by
            itself, without learned scale and shift, and convolutions have no bias before it.
        activation: What follows it.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W].

    Raises:
        ValueError: A number is not positive, or there are no dilations.
    """
    if features < 1 or not dilations or min(dilations) < 1:
        raise ValueError("features and dilations must be positive, and there must be a dilation")
    return MeshNet(channels, classes, features, dilations, norm, activation)


class MeshNet(nn.Module):
    """The network that :func:`meshnet` returns."""

    def __init__(
        self,
        channels: int,
        classes: int,
        features: int,
        dilations: tuple[int, ...],
        norm: str,
        activation: str,
    ) -> None:
        super().__init__()
        inputs = (channels, *[features] * (len(dilations) - 1))
        self.model = nn.Sequential(
            *(
                _layer(count, features, dilation, norm, activation)
                for count, dilation in zip(inputs, dilations, strict=True)
            ),
            nn.Conv3d(features, classes, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the classes."""
        logits: Tensor = self.model(image)
        return logits


def _layer(inputs: int, features: int, dilation: int, norm: str, activation: str) -> nn.Sequential:
    normalization, bias = _NORMALIZATIONS[norm], norm != "channel"
    return nn.Sequential(
        nn.Conv3d(inputs, features, 3, padding=dilation, dilation=dilation, bias=bias),
        *([] if normalization is None else [normalization(features)]),
        _ACTIVATIONS[activation](),
    )
