"""MedPTQ's TransUNet: a U-Net whose deepest features pass through a vision transformer.

Parameters have the names that the authors' checkpoints use.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medptq.models.architectures.unet import double_convolution

_REDUCTION = 16


def transunet(
    channels: int = 1,
    classes: int = 14,
    image_size: tuple[int, int, int] = (96, 96, 96),
    base_channels: int = 16,
    embed_dim: int = 768,
    mlp_dim: int = 3072,
    num_heads: int = 12,
    num_layers: int = 12,
) -> nn.Module:
    """Return the 3D TransUNet of MedPTQ (Qu 2025), after TransUNet (Chen 2021).

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        image_size: (D, H, W) that it takes, multiples of 16: each place has its own embedding.
        base_channels: Channels at full resolution; they double with each of four reductions.
        embed_dim: Channels of the transformer.
        mlp_dim: Hidden channels of its perceptrons.
        num_heads: Attention heads; they divide ``embed_dim``.
        num_layers: Transformer layers.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W].

    Raises:
        ValueError: The image size is no multiple of 16, or the heads do not divide the channels.
    """
    if any(length % _REDUCTION for length in image_size):
        raise ValueError(f"image_size {image_size} is no multiple of {_REDUCTION}")
    if embed_dim % num_heads:
        raise ValueError(f"num_heads {num_heads} does not divide embed_dim {embed_dim}")
    tokens = math.prod(length // _REDUCTION for length in image_size)
    layers = [_TransformerLayer(embed_dim, num_heads, mlp_dim) for _ in range(num_layers)]
    return TransUNet(channels, classes, base_channels, embed_dim, tokens, layers)


class TransUNet(nn.Module):
    """The network that :func:`transunet` returns."""

    def __init__(
        self,
        channels: int,
        classes: int,
        base_channels: int,
        embed_dim: int,
        tokens: int,
        layers: list[_TransformerLayer],
    ) -> None:
        super().__init__()
        f1, f2, f3, f4, f5 = (base_channels << level for level in range(5))
        self.conv1 = _Block(channels, f1)
        self.conv2, self.conv3 = _Block(f1, f2, stride=2), _Block(f2, f3, stride=2)
        self.conv4, self.conv5 = _Block(f3, f4, stride=2), _Block(f4, f5, stride=2)
        self.embed_conv = nn.Conv3d(f5, embed_dim, 1)
        self.position_embeddings = nn.Parameter(torch.zeros(1, tokens, embed_dim))
        self.transformer_blocks = nn.ModuleList(layers)
        self.upconv4, self.dec4 = _UpConvolution(embed_dim, f4), _Block(f5, f4)
        self.upconv3, self.dec3 = _UpConvolution(f4, f3), _Block(f4, f3)
        self.upconv2, self.dec2 = _UpConvolution(f3, f2), _Block(f3, f2)
        self.upconv1, self.dec1 = _UpConvolution(f2, f1), _Block(f2, f1)
        self.final_conv = nn.Conv3d(f1, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the classes."""
        skips = [self.conv1(image)]
        for block in (self.conv2, self.conv3, self.conv4):
            skips.append(block(skips[-1]))
        grid = self.embed_conv(self.conv5(skips[-1]))
        tokens = grid.flatten(2).transpose(1, 2) + self.position_embeddings
        for layer in self.transformer_blocks:
            tokens = layer(tokens)
        x = tokens.transpose(1, 2).reshape(grid.shape)
        for up, block in (
            (self.upconv4, self.dec4),
            (self.upconv3, self.dec3),
            (self.upconv2, self.dec2),
            (self.upconv1, self.dec1),
        ):
            x = block(torch.cat([up(x), skips.pop()], dim=1))
        logits: Tensor = self.final_conv(x)
        return logits


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = double_convolution(inputs, outputs, stride=stride, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


class _UpConvolution(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(inputs, outputs, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)  # type: ignore[no-any-return]


class _TransformerLayer(nn.Module):
    """Attention and a perceptron, each normalized after its residual (Vaswani 2017)."""

    def __init__(self, dim: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, mlp_dim)
        self.linear2 = nn.Linear(mlp_dim, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.norm1(tokens + self.self_attn(tokens))
        perceived = self.linear2(F.gelu(self.linear1(tokens)))
        return self.norm2(tokens + perceived)  # type: ignore[no-any-return]


class _SelfAttention(nn.Module):
    """What ``nn.MultiheadAttention`` computes, under its names, as plain matrix products.

    PyTorch's own module is exported with the averaging of attention maps that nobody reads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map [N, tokens, dim] to the same."""
        n, length, dim = tokens.shape
        projected = F.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        split = projected.reshape(n, length, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-2, -1) * self.scale
        attended = scores.softmax(-1) @ value
        return self.out_proj(  # type: ignore[no-any-return]
            attended.transpose(1, 2).reshape(n, length, dim)
        )
