"""MedPTQ's U-Net: strided convolutions down, transposed convolutions up.

Parameters have the names that the authors' checkpoints use.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def unet(channels: int = 1, classes: int = 14, base_features: int = 16) -> nn.Module:
    """Return the U-Net of MedPTQ (Qu 2025), with BatchNorm and four reductions by 2.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        base_features: Channels at full resolution; they double with each reduction.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W]; D, H and W are multiples of 16.
    """
    return UNet(channels, classes, base_features)


def double_convolution(
    inputs: int, outputs: int, *, stride: int = 1, bias: bool = False
) -> nn.Sequential:
    """Return two 3x3x3 convolutions, the first with ``stride``, each with BatchNorm and ReLU."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride, 1, bias=bias),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv3d(outputs, outputs, 3, 1, 1, bias=bias),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """The network that :func:`unet` returns."""

    def __init__(self, channels: int, classes: int, base_features: int) -> None:
        super().__init__()
        f1, f2, f3, f4, f5 = (base_features << level for level in range(5))
        self.inc = _Same(channels, f1)
        self.down1, self.down2 = _Down(f1, f2), _Down(f2, f3)
        self.down3, self.down4 = _Down(f3, f4), _Down(f4, f5)
        self.up1, self.up2 = _Up(f5, f4), _Up(f4, f3)
        self.up3, self.up4 = _Up(f3, f2), _Up(f2, f1)
        self.outc = _Head(f1, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the classes."""
        skips = [self.inc(image)]
        for down in (self.down1, self.down2, self.down3, self.down4):
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up in (self.up1, self.up2, self.up3, self.up4):
            x = up(x, skips.pop())
        logits: Tensor = self.outc(x)
        return logits


class _Same(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.double_conv = double_convolution(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)  # type: ignore[no-any-return]


class _Down(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down_conv = double_convolution(inputs, outputs, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_conv(x)  # type: ignore[no-any-return]


class _Up(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(inputs, outputs, 2, 2)
        self.conv = _Same(inputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([skip, self.up(x)], dim=1))  # type: ignore[no-any-return]


class _Head(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]
