"""MedFormer's semantic maps: how they are gathered from features, and joined between stages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medptq.models.architectures.medformer_blocks import Triple


class MapGeneration(nn.Module):
    """Gathers the features of a stage into a map of a few voxels, each a weighted mean of all."""

    def __init__(self, dim: int, size: Triple) -> None:
        super().__init__()
        self.dim, self.size = dim, size
        self.base_proj = nn.Conv3d(dim, dim, 3, padding=1, bias=False)
        codes = size[0] * size[1] * size[2]
        self.semantic_proj = nn.Conv3d(dim, codes, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, dim, D, H, W] to [N, dim, *size]."""
        features = self.base_proj(x).flatten(2)
        weights = self.semantic_proj(x).flatten(2).softmax(-1)
        gathered: Tensor = features @ weights.transpose(1, 2)
        # The number of channels is a plain one, which the exporter of InstanceNorm asks for.
        return gathered.reshape(x.shape[0], self.dim, *self.size)


class MapFusion(nn.Module):
    """A transformer over the voxels of all stages' maps."""

    def __init__(self, dims: Sequence[int], dim: int, heads: int, depth: int) -> None:
        super().__init__()
        self.in_proj = nn.ModuleList(nn.Conv3d(d, dim, 1, bias=False) for d in dims)
        self.fusion = _Transformer(dim, heads, depth)
        self.out_proj = nn.ModuleList(nn.Conv3d(dim, d, 1, bias=False) for d in dims)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the maps, each as it was but for what it learned of the others."""
        size = maps[0].shape[2:]
        tokens = [
            project(found).flatten(2).transpose(1, 2)
            for project, found in zip(self.in_proj, maps, strict=True)
        ]
        fused = self.fusion(torch.cat(tokens, dim=1)).chunk(len(maps), dim=1)
        return [
            project(tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size))
            for project, tokens in zip(self.out_proj, fused, strict=True)
        ]


class _Transformer(nn.Module):
    def __init__(self, dim: int, heads: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(dim, heads) for _ in range(depth))

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens


class _Layer(nn.ModuleList):
    def __init__(self, dim: int, heads: int) -> None:
        attention, perceptron = _SelfAttention(dim, heads), _Perceptron(dim)
        super().__init__([_PreNorm(dim, attention), _PreNorm(dim, perceptron)])

    def forward(self, tokens: Tensor) -> Tensor:
        for part in self:
            tokens = part(tokens) + tokens
        return tokens


class _PreNorm(nn.Module):
    def __init__(self, dim: int, inner: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = inner

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fn(self.norm(tokens))  # type: ignore[no-any-return]


class _SelfAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        n, length, dim = tokens.shape
        split = self.to_qkv(tokens).reshape(n, length, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-2, -1) * self.scale
        attended = scores.softmax(-1) @ value
        return self.to_out(  # type: ignore[no-any-return]
            attended.transpose(1, 2).reshape(n, length, dim)
        )


class _Perceptron(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim)
        self.fc2 = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))  # type: ignore[no-any-return]
