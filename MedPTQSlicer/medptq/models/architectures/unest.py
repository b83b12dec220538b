"""UNesT: a U-Net on the features of a nested transformer (NesT).

The transformer attends within blocks of the image; blocks merge from level to level, so that the
last level sees the whole image. Parameters have the names that the authors' checkpoints use, and
those of the Model Zoo's bundles of whole brains and renal structures.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from monai.networks.blocks.convolutions import Convolution
from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetResBlock, get_conv_layer
from torch import Tensor, nn

Triple = tuple[int, int, int]

_LEVELS = 3
_BLOCKS_AN_EDGE = 1 << (_LEVELS - 1)


def unest(
    channels: int = 1,
    classes: int = 133,
    image_size: int = 96,
    patch_size: int = 4,
    feature_size: int = 16,
    depths: tuple[int, int, int] = (2, 2, 8),
    num_heads: tuple[int, int, int] = (4, 8, 16),
    embed_dim: tuple[int, int, int] = (128, 256, 512),
) -> nn.Module:
    """Return UNesT (Yu 2023); by default the base network, as for whole brains.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        image_size: Edge of the cube that it takes: each place has its own embedding. A multiple
            of 8 patches, and at least 16.
        patch_size: Edge of the cube that becomes one token; a skip from the tokens fits the
            decoder where it is 4.
        feature_size: Half the channels of the decoder at full resolution.
        depths: Transformer layers of each level.
        num_heads: Attention heads of each level; they divide its channels.
        embed_dim: Channels of each level: 8, 16 and 32 times ``feature_size``.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W].

    Raises:
        ValueError: The sizes do not go together.
    """
    tokens = image_size // patch_size
    if patch_size != 4:
        raise ValueError(f"patch_size is {patch_size}, and the decoder takes 4 only")
    if image_size % (2 * _BLOCKS_AN_EDGE * patch_size) or tokens < 4 * _BLOCKS_AN_EDGE:
        raise ValueError(f"image_size {image_size} is no multiple of 32, or below 64")
    if embed_dim != tuple(feature_size << level for level in (3, 4, 5)):
        raise ValueError(f"embed_dim {embed_dim} is not 8, 16 and 32 times {feature_size}")
    for dim, heads in zip(embed_dim, num_heads, strict=True):
        if dim % heads:
            raise ValueError(f"num_heads {heads} does not divide {dim} channels")
    transformer = _NestTransformer(channels, tokens, patch_size, depths, num_heads, embed_dim)
    return UNesT(channels, classes, feature_size, transformer)


class UNesT(nn.Module):
    """The network that :func:`unest` returns."""

    def __init__(
        self, channels: int, classes: int, feature_size: int, transformer: _NestTransformer
    ) -> None:
        super().__init__()
        f = feature_size
        self.nestViT = transformer
        self.encoder1 = _Skip(channels, 2 * f)
        self.encoder2 = _UpSkip(8 * f, 4 * f)
        self.encoder3 = _Skip(8 * f, 8 * f)
        self.encoder4 = _Skip(16 * f, 16 * f)
        self.encoder10 = Convolution(3, 32 * f, 64 * f, strides=2, adn_ordering="AN")
        self.decoder5 = _Up(64 * f, 32 * f)
        self.decoder4 = _Up(32 * f, 16 * f)
        self.decoder3 = _Up(16 * f, 8 * f)
        self.decoder2 = _Up(8 * f, 4 * f)
        self.decoder1 = _Up(4 * f, 2 * f)
        self.out = UnetOutBlock(3, 2 * f, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the classes."""
        normalized, (embedded, level1, level2, level3) = self.nestViT(image)
        x = self.decoder5(self.encoder10(normalized), level3)
        x = self.decoder4(x, self.encoder4(level2))
        x = self.decoder3(x, self.encoder3(level1))
        x = self.decoder2(x, self.encoder2(embedded))
        x = self.decoder1(x, self.encoder1(image))
        logits: Tensor = self.out(x)
        return logits


class _Skip(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = UnetResBlock(3, inputs, outputs, kernel_size=3, stride=1, norm_name="instance")

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


class _UpSkip(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.transp_conv_init = _transposed(inputs, outputs, 2)
        self.blocks = nn.ModuleList([_transposed(outputs, outputs, 1)])

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks[0](self.transp_conv_init(x))  # type: ignore[no-any-return]


class _Up(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.transp_conv = _transposed(inputs, outputs, 2)
        self.conv_block = UnetResBlock(
            3, 2 * outputs, outputs, kernel_size=3, stride=1, norm_name="instance"
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv_block(  # type: ignore[no-any-return]
            torch.cat([self.transp_conv(x), skip], dim=1)
        )


def _transposed(inputs: int, outputs: int, stride: int) -> nn.Module:
    return get_conv_layer(  # type: ignore[no-any-return]
        3, inputs, outputs, kernel_size=stride, stride=stride, conv_only=True, is_transposed=True
    )


class _NestTransformer(nn.Module):
    """NesT (Zhang 2022) in 3D."""

    def __init__(
        self,
        channels: int,
        tokens: int,
        patch_size: int,
        depths: Sequence[int],
        heads: Sequence[int],
        dims: Sequence[int],
    ) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbedding(channels, dims[0], patch_size)
        block = tokens // _BLOCKS_AN_EDGE
        firsts = (None, *dims[:-1])
        self.levels = nn.ModuleList(
            _Level(first, dim, depth, head, block, _BLOCKS_AN_EDGE >> level)
            for level, (first, dim, depth, head) in enumerate(
                zip(firsts, dims, depths, heads, strict=True)
            )
        )
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last level's features, normalized, and those of every level before."""
        found = [self.patch_embed(image)]
        for level in self.levels:
            found.append(level(found[-1]))
        return _over_channels(self.norm, found[-1]), found


class _PatchEmbedding(nn.Module):
    def __init__(self, channels: int, dim: int, size: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, dim, size, size)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image)  # type: ignore[no-any-return]


class _Level(nn.Module):
    """Transformer layers on blocks of ``edge``^3 tokens, ``blocks``^3 of them."""

    def __init__(
        self, first: int | None, dim: int, depth: int, heads: int, edge: int, blocks: int
    ) -> None:
        super().__init__()
        self.edge, self.blocks = edge, blocks
        self.pos_embed = nn.Parameter(torch.zeros(1, blocks**3, edge**3, dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.pool = nn.Identity() if first is None else _Merging(first, dim)
        self.transformer_encoder = nn.Sequential(
            *(_TransformerLayer(dim, heads) for _ in range(depth))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, D, H, W] to the level's own channels and resolution."""
        x = self.pool(x)
        n, c, b, e = x.shape[0], x.shape[1], self.blocks, self.edge
        grid = x.reshape(n, c, b, e, b, e, b, e).permute(0, 2, 4, 6, 3, 5, 7, 1)
        tokens = grid.reshape(n, b**3, e**3, c) + self.pos_embed
        # Blocks are images of a batch: matrix products of rank 4 are what engines know best.
        tokens = self.transformer_encoder(tokens.reshape(-1, e**3, c))
        tokens = tokens.reshape(n, b, b, b, e, e, e, c).permute(0, 7, 1, 4, 2, 5, 3, 6)
        image: Tensor = tokens.reshape(n, c, b * e, b * e, b * e)
        return image


class _Merging(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, 1, 1)
        self.norm = nn.LayerNorm(outputs, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(_over_channels(self.norm, self.conv(x)), 3, 2, 1)


class _TransformerLayer(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = _Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = _Perceptron(dim, 4 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        n, length, dim = tokens.shape
        split = self.qkv(tokens).reshape(n, length, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-2, -1) * self.scale
        attended = scores.softmax(-1) @ value
        # The head is the fastest axis of the result, unlike in most transformers.
        return self.proj(  # type: ignore[no-any-return]
            attended.permute(0, 2, 3, 1).reshape(n, length, dim)
        )


class _Perceptron(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))  # type: ignore[no-any-return]


def _over_channels(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Apply LayerNorm to the channels of [N, C, D, H, W]."""
    return norm(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)  # type: ignore[no-any-return]
