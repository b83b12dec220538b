"""nnU-Net's two networks, as its plans describe them.

Parameters have the names of ``dynamic_network_architectures``, which nnU-Net builds its networks
with, so that its checkpoints load. The package itself is not used: it brings torchvision, timm
and huggingface_hub along for other networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medptq.models.architectures.nnunet_blocks import ConvBlocks, ResidualBlocks, Triple

_FEATURES = (32, 64, 128, 256, 320, 320)
_KERNELS: tuple[Triple, ...] = ((3, 3, 3),) * 6
_STRIDES: tuple[Triple, ...] = ((1, 1, 1), *((2, 2, 2),) * 5)


def plain_conv_unet(
    channels: int = 1,
    classes: int = 105,
    features_per_stage: tuple[int, ...] = _FEATURES,
    kernel_sizes: tuple[tuple[int, int, int], ...] = _KERNELS,
    strides: tuple[tuple[int, int, int], ...] = _STRIDES,
    n_conv_per_stage: tuple[int, ...] = (2, 2, 2, 2, 2, 2),
    n_conv_per_stage_decoder: tuple[int, ...] = (2, 2, 2, 2, 2),
    conv_bias: bool = True,
) -> nn.Module:
    """Return nnU-Net's plain U-Net (Isensee 2021): ``PlainConvUNet`` of the plans.

    InstanceNorm and LeakyReLU throughout, as in all of nnU-Net's own plans.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        features_per_stage: Channels of each stage, from full resolution down.
        kernel_sizes: Of each stage, along D, H and W.
        strides: Of each stage's first convolution; the first stage's are 1.
        n_conv_per_stage: Convolutions of each stage of the encoder.
        n_conv_per_stage_decoder: Convolutions of each stage of the decoder, from the deepest up.
        conv_bias: Whether convolutions have a bias.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W]; D, H and W are multiples of the
        product of the strides.

    Raises:
        ValueError: The arguments name different numbers of stages.
    """
    _require_same_stages(
        features_per_stage, kernel_sizes, strides, n_conv_per_stage, n_conv_per_stage_decoder
    )
    encoder = _PlainEncoder(
        channels, features_per_stage, kernel_sizes, strides, n_conv_per_stage, conv_bias
    )
    return NnUNet(encoder, _Decoder(encoder, classes, n_conv_per_stage_decoder))


def residual_encoder_unet(
    channels: int = 1,
    classes: int = 14,
    features_per_stage: tuple[int, ...] = _FEATURES,
    kernel_sizes: tuple[tuple[int, int, int], ...] = _KERNELS,
    strides: tuple[tuple[int, int, int], ...] = _STRIDES,
    n_blocks_per_stage: tuple[int, ...] = (1, 3, 4, 6, 6, 6),
    n_conv_per_stage_decoder: tuple[int, ...] = (1, 1, 1, 1, 1),
    conv_bias: bool = True,
) -> nn.Module:
    """Return nnU-Net's U-Net with a residual encoder (Isensee 2024): ``ResidualEncoderUNet``.

    Its blocks are those of ResNet-D (He 2019): a reduction by average pooling in the skip.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        features_per_stage: Channels of each stage, from full resolution down.
        kernel_sizes: Of each stage, along D, H and W.
        strides: Of each stage's first block; the first stage's are 1.
        n_blocks_per_stage: Residual blocks of each stage of the encoder.
        n_conv_per_stage_decoder: Convolutions of each stage of the decoder, from the deepest up.
        conv_bias: Whether convolutions have a bias; those in skips have none.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W]; D, H and W are multiples of the
        product of the strides.

    Raises:
        ValueError: The arguments name different numbers of stages.
    """
    _require_same_stages(
        features_per_stage, kernel_sizes, strides, n_blocks_per_stage, n_conv_per_stage_decoder
    )
    encoder = _ResidualEncoder(
        channels, features_per_stage, kernel_sizes, strides, n_blocks_per_stage, conv_bias
    )
    return NnUNet(encoder, _Decoder(encoder, classes, n_conv_per_stage_decoder))


class NnUNet(nn.Module):
    """An encoder and nnU-Net's decoder."""

    def __init__(self, encoder: _Encoder, decoder: _Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the classes."""
        logits: Tensor = self.decoder(self.encoder(image))
        return logits


def _require_same_stages(
    features: Sequence[int],
    kernels: Sequence[Triple],
    strides: Sequence[Triple],
    blocks: Sequence[int],
    decoder: Sequence[int],
) -> None:
    counts = (len(features), len(kernels), len(strides), len(blocks), len(decoder) + 1)
    if len(set(counts)) != 1 or counts[0] < 2:
        raise ValueError(
            "features_per_stage, kernel_sizes, strides and the numbers of convolutions name"
            f" {', '.join(map(str, counts))} stages"
        )


class _Encoder(nn.Module):
    """What the decoder needs to know of an encoder.

    Attributes:
        stages: From full resolution down.
    """

    stages: nn.Sequential

    def __init__(
        self,
        features: Sequence[int],
        kernels: Sequence[Triple],
        strides: Sequence[Triple],
        *,
        bias: bool,
    ) -> None:
        super().__init__()
        self.features, self.kernels, self.strides = features, kernels, strides
        self.bias = bias

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of every stage."""
        x, found = image, []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class _PlainEncoder(_Encoder):
    def __init__(
        self,
        channels: int,
        features: Sequence[int],
        kernels: Sequence[Triple],
        strides: Sequence[Triple],
        counts: Sequence[int],
        bias: bool,
    ) -> None:
        super().__init__(features, kernels, strides, bias=bias)
        inputs = (channels, *features[:-1])
        self.stages = nn.Sequential(
            # A Sequential of one, since checkpoints count on a pooling layer beside it.
            *(
                nn.Sequential(ConvBlocks(*stage, bias=bias))
                for stage in zip(counts, inputs, features, kernels, strides, strict=True)
            )
        )


class _ResidualEncoder(_Encoder):
    def __init__(
        self,
        channels: int,
        features: Sequence[int],
        kernels: Sequence[Triple],
        strides: Sequence[Triple],
        counts: Sequence[int],
        bias: bool,
    ) -> None:
        super().__init__(features, kernels, strides, bias=bias)
        self.stem = ConvBlocks(1, channels, features[0], kernels[0], (1, 1, 1), bias=bias)
        inputs = (features[0], *features[:-1])
        self.stages = nn.Sequential(
            *(
                ResidualBlocks(*stage, bias=bias)
                for stage in zip(counts, inputs, features, kernels, strides, strict=True)
            )
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        return super().forward(self.stem(image))


class _Decoder(nn.Module):
    def __init__(self, encoder: _Encoder, classes: int, counts: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder  # checkpoints hold it here a second time
        features, bias = encoder.features, encoder.bias
        levels = range(len(features) - 2, -1, -1)  # the deepest skip first
        self.transpconvs = nn.ModuleList(
            nn.ConvTranspose3d(
                features[level + 1],
                features[level],
                encoder.strides[level + 1],
                encoder.strides[level + 1],
                bias=bias,
            )
            for level in levels
        )
        self.stages = nn.ModuleList(
            ConvBlocks(
                count,
                2 * features[level],
                features[level],
                encoder.kernels[level],
                (1, 1, 1),
                bias=bias,
            )
            for count, level in zip(counts, levels, strict=True)
        )
        # Only the last is computed with: the others supervise the training of deeper stages.
        self.seg_layers = nn.ModuleList(nn.Conv3d(features[level], classes, 1) for level in levels)

    def forward(self, found: list[Tensor]) -> Tensor:
        *skips, x = found
        for up, stage in zip(self.transpconvs, self.stages, strict=True):
            x = stage(torch.cat([up(x), skips.pop()], dim=1))
        return self.seg_layers[-1](x)  # type: ignore[no-any-return]
