"""The blocks that MedFormer's stages are made of, under the authors' names."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Triple = tuple[int, int, int]


def same_padding(kernel: Triple) -> Triple:
    """Return the padding with which a convolution of stride 1 keeps the size."""
    d, h, w = (size // 2 for size in kernel)
    return d, h, w


class BasicBlock(nn.Module):
    """Two pre-activated convolutions and a skip, which is a third where the channels change."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple) -> None:
        super().__init__()
        self.conv1 = _PreActivated(inputs, outputs, kernel)
        self.conv2 = _PreActivated(outputs, outputs, kernel)
        self.shortcut = (
            nn.Identity() if inputs == outputs else _PreActivated(inputs, outputs, kernel)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, [N, outputs, D, H, W]."""
        return self.conv2(self.conv1(x)) + self.shortcut(x)  # type: ignore[no-any-return]


class DepthwiseSeparable(nn.Module):
    """A convolution of each channel by itself, then one across channels."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple) -> None:
        super().__init__()
        self.depthwise = nn.Conv3d(
            inputs, inputs, kernel, padding=same_padding(kernel), groups=inputs, bias=False
        )
        self.pointwise = nn.Conv3d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, [N, outputs, D, H, W]."""
        return self.pointwise(self.depthwise(x))  # type: ignore[no-any-return]


class BidirectionalBlock(nn.Module):
    """Features and semantic map attend to each other; a bottleneck follows for the features.

    Args:
        inputs: Channels of the features.
        dim: Channels of the map, and of the features that are returned.
        heads: Attention heads; they divide ``dim``.
        expansion: Of the bottleneck.
        kernel: Of its depthwise convolutions.
        keeps_map: Whether the map goes on; otherwise it is not computed.
    """

    def __init__(
        self,
        inputs: int,
        dim: int,
        heads: int,
        expansion: int,
        kernel: Triple,
        *,
        keeps_map: bool,
    ) -> None:
        super().__init__()
        self.norm1 = nn.InstanceNorm3d(inputs)
        self.norm2 = nn.InstanceNorm3d(dim)
        self.attn = _BidirectionalAttention(inputs, dim, heads, kernel, keeps_map=keeps_map)
        self.shortcut = nn.Identity() if inputs == dim else _PreActivated(inputs, dim, (1, 1, 1))
        self.feedforward = _InvertedBottleneck(dim, expansion, kernel)

    def forward(self, x: Tensor, semantic: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the features [N, dim, D, H, W], and the map if it goes on."""
        attended, found = self.attn(self.norm1(x), self.norm2(semantic))
        x = self.feedforward(attended + self.shortcut(x))
        return x, None if found is None else found + semantic


class _PreActivated(nn.Module):
    """InstanceNorm, ReLU where ``activates``, then a convolution without bias."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Triple,
        *,
        groups: int = 1,
        activates: bool = True,
    ) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm3d(inputs, eps=1e-4)
        self.conv = nn.Conv3d(
            inputs, outputs, kernel, padding=same_padding(kernel), groups=groups, bias=False
        )
        self.activates = activates

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return self.conv(F.relu(x) if self.activates else x)  # type: ignore[no-any-return]


class _BidirectionalAttention(nn.Module):
    """One matrix of scores between voxels and map, normalized along each of its sides."""

    def __init__(
        self, inputs: int, dim: int, heads: int, kernel: Triple, *, keeps_map: bool
    ) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.scale = (dim // heads) ** -0.5
        self.feat_qv = DepthwiseSeparable(inputs, 2 * dim, kernel)
        self.feat_out = DepthwiseSeparable(dim, dim, kernel)
        self.map_qv = nn.Conv3d(dim, 2 * dim, 1, bias=False)
        self.map_out = nn.Conv3d(dim, dim, 1, bias=False) if keeps_map else None

    def forward(self, x: Tensor, semantic: Tensor) -> tuple[Tensor, Tensor | None]:
        query, value = self._by_head(self.feat_qv(x))
        map_query, map_value = self._by_head(self.map_qv(semantic))
        scores = query.transpose(-2, -1) @ map_query * self.scale
        attended = self._as_image(map_value @ scores.softmax(-1).transpose(-2, -1), x)
        x = self.feat_out(attended)
        if self.map_out is None:
            return x, None
        # Along the last axis, as there are tens of thousands of voxels: TensorRT takes 30 ms else.
        gathered = value @ scores.transpose(-2, -1).softmax(-1).transpose(-2, -1)
        return x, self.map_out(self._as_image(gathered, semantic))

    def _by_head(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Split [N, 2 C, D, H, W] into two [N, heads, C / heads, D H W]; heads alternate."""
        n, c = projected.shape[:2]
        by_head = projected.reshape(n, 2, c // 2 // self.heads, self.heads, -1)
        query, value = by_head.transpose(2, 3).unbind(1)
        return query, value

    def _as_image(self, by_head: Tensor, like: Tensor) -> Tensor:
        # The number of channels is a plain one, which the exporter of InstanceNorm asks for.
        return by_head.transpose(1, 2).reshape(like.shape[0], self.dim, *like.shape[2:])


class _InvertedBottleneck(nn.Module):
    """Expansion, depthwise convolution, squeeze and excitation, projection (MBConv)."""

    def __init__(self, dim: int, expansion: int, kernel: Triple) -> None:
        super().__init__()
        wide = expansion * dim
        self.expand_proj = _PreActivated(dim, wide, (1, 1, 1)) if expansion > 1 else nn.Identity()
        self.depthwise = _PreActivated(wide, wide, kernel, groups=wide)
        self.se = _SqueezeExcitation(wide)
        self.pointwise = _PreActivated(wide, dim, (1, 1, 1), activates=False)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.se(self.depthwise(self.expand_proj(x)))
        return self.pointwise(wide) + x  # type: ignore[no-any-return]


class _SqueezeExcitation(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.excitation = nn.Sequential(
            nn.Conv3d(dim, dim // 4, 1), nn.ReLU(), nn.Conv3d(dim // 4, dim, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.excitation(F.adaptive_avg_pool3d(x, 1))  # type: ignore[no-any-return]
