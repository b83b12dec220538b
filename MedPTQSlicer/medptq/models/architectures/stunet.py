"""STU-Net: nnU-Net with residual blocks, in sizes up to 1.4 billion parameters.

Parameters have the names that the authors' checkpoints use.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_GROWTH = (1, 2, 4, 8, 16, 16)


def stunet(
    channels: int = 1,
    classes: int = 105,
    width: int = 32,
    depth: int = 1,
    strides: tuple[tuple[int, int, int], ...] = ((2, 2, 2),) * 5,
) -> nn.Module:
    """Return STU-Net (Huang 2023).

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        width: Channels at full resolution: 32 in STU-Net-B, 64 in -L, 96 in -H. They double with
            each reduction up to the fourth.
        depth: Residual blocks a stage: 1 in STU-Net-B, 2 in -L, 3 in -H.
        strides: Of each of the five reductions, along D, H and W.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W]; D, H and W are multiples of the
        product of the strides.

    Raises:
        ValueError: There are not five strides.
    """
    if len(strides) != len(_GROWTH) - 1:
        raise ValueError(f"strides has {len(strides)} entries, and STU-Net {len(_GROWTH) - 1}")
    return STUNet(channels, classes, [width * growth for growth in _GROWTH], depth, strides)


class STUNet(nn.Module):
    """The network that :func:`stunet` returns."""

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: list[int],
        depth: int,
        strides: tuple[tuple[int, int, int], ...],
    ) -> None:
        super().__init__()
        firsts = (channels, *widths[:-1])
        self.conv_blocks_context = nn.ModuleList(
            _stage(inputs, outputs, stride, depth)
            for inputs, outputs, stride in zip(firsts, widths, ((1, 1, 1), *strides), strict=True)
        )
        ups = list(zip(widths[:0:-1], widths[-2::-1], strides[::-1], strict=True))
        self.upsample_layers = nn.ModuleList(
            _Upsampling(below, skip, stride) for below, skip, stride in ups
        )
        self.conv_blocks_localization = nn.ModuleList(
            _stage(2 * skip, skip, (1, 1, 1), depth) for _, skip, _ in ups
        )
        # Only the last is computed with: the others supervise the training of deeper stages.
        self.seg_outputs = nn.ModuleList(nn.Conv3d(skip, classes, 1) for _, skip, _ in ups)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the classes."""
        x, skips = image, []
        for stage in self.conv_blocks_context:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for up, stage in zip(self.upsample_layers, self.conv_blocks_localization, strict=True):
            x = stage(torch.cat([up(x), skips.pop()], dim=1))
        logits: Tensor = self.seg_outputs[-1](x)
        return logits


def _stage(inputs: int, outputs: int, stride: tuple[int, int, int], depth: int) -> nn.Sequential:
    first = _ResidualBlock(inputs, outputs, stride, projects=True)
    return nn.Sequential(
        first,
        *(_ResidualBlock(outputs, outputs, (1, 1, 1), projects=False) for _ in range(1, depth)),
    )


class _ResidualBlock(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, stride: tuple[int, int, int], *, projects: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, 3, stride, 1)
        self.norm1 = nn.InstanceNorm3d(outputs, affine=True)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, 1, 1)
        self.norm2 = nn.InstanceNorm3d(outputs, affine=True)
        self.conv3 = nn.Conv3d(inputs, outputs, 1, stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm1(self.conv1(x)), 0.01)
        y = self.norm2(self.conv2(y))
        return F.leaky_relu(y + (x if self.conv3 is None else self.conv3(x)), 0.01)


class _Upsampling(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 1)
        self.scale = tuple(float(step) for step in stride)

    def forward(self, x: Tensor) -> Tensor:
        # The authors' order is the other one. Copying voxels before a pointwise convolution, or
        # after it, gives the same; after it is an eighth of the work.
        return F.interpolate(self.conv(x), scale_factor=self.scale, mode="nearest")
