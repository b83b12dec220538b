"""MedFormer: convolutions at high resolution, bidirectional attention with a small map below.

Parameters have the names that the authors' checkpoints use. Their second head (``aux_out``) only
supervises training and is not built.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medptq.models.architectures.medformer_blocks import (
    BasicBlock,
    BidirectionalBlock,
    DepthwiseSeparable,
    Triple,
    same_padding,
)
from medptq.models.architectures.medformer_maps import MapFusion, MapGeneration

_ANISOTROPIC: tuple[Triple, ...] = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
_KERNELS: tuple[Triple, ...] = ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
_CHANNELS = (64, 128, 256, 320, 256, 128, 64, 32)


def medformer(
    channels: int = 1,
    classes: int = 14,
    base_channels: int = 32,
    stage_channels: tuple[int, ...] = _CHANNELS,
    conv_num: tuple[int, ...] = (2, 0, 0, 0, 0, 0, 2, 2),
    trans_num: tuple[int, ...] = (0, 2, 4, 6, 4, 2, 0, 0),
    num_heads: tuple[int, ...] = (1, 4, 8, 10, 8, 4, 1, 1),
    map_size: tuple[int, int, int] = (3, 3, 3),
    fusion_dim: int = 320,
    fusion_heads: int = 10,
    fusion_depth: int = 2,
    expansion: int = 4,
    kernel_sizes: tuple[tuple[int, int, int], ...] = _KERNELS,
    strides: tuple[tuple[int, int, int], ...] = _ANISOTROPIC,
) -> nn.Module:
    """Return the 3D MedFormer (Gao 2022); by default as the authors configure it for BTCV.

    Lists of eight count the four stages down, then the four up.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        base_channels: Channels at full resolution.
        stage_channels: Channels of each stage.
        conv_num: Residual blocks of each stage.
        trans_num: Attention blocks of each stage; only the second to the sixth may have any.
        num_heads: Attention heads of each stage; they divide its channels.
        map_size: (D, H, W) of the semantic map that the features attend to.
        fusion_dim: Channels in which the maps of all stages are joined.
        fusion_heads: Attention heads there; they divide ``fusion_dim``.
        fusion_depth: Transformer layers there.
        expansion: Of the inverted bottlenecks after each attention.
        kernel_sizes: At full resolution and of each stage down, along D, H and W.
        strides: Of each stage down, along D, H and W; each 1 or 2.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W]; D, H and W are multiples of the
        product of the strides.

    Raises:
        ValueError: The lists do not have eight, five or four entries, or do not go together.
    """
    if {len(stage_channels), len(conv_num), len(trans_num), len(num_heads)} != {8}:
        raise ValueError("stage_channels, conv_num, trans_num and num_heads need 8 entries each")
    if len(kernel_sizes) != 5 or len(strides) != 4:
        raise ValueError("kernel_sizes needs 5 entries, strides 4")
    if any(count and stage in (0, 6, 7) for stage, count in enumerate(trans_num)):
        raise ValueError(f"trans_num {trans_num} has attention where there is no semantic map")
    if any(step not in (1, 2) for stride in strides for step in stride):
        raise ValueError(f"strides {strides} are not 1 or 2")
    for dim, heads in (*zip(stage_channels, num_heads, strict=True), (fusion_dim, fusion_heads)):
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide {dim} channels")
    stages = [
        _Attention(dim, trans, heads, expansion, map_size)
        for dim, trans, heads in zip(stage_channels, trans_num, num_heads, strict=True)
    ]
    fusion = MapFusion(stage_channels[1:4], fusion_dim, fusion_heads, fusion_depth)
    return MedFormer(
        channels, classes, base_channels, stages, conv_num, kernel_sizes, strides, fusion
    )


class _Attention:
    """How a stage attends: its channels, its attention blocks, their heads, the map's size."""

    def __init__(self, dim: int, count: int, heads: int, expansion: int, map_size: Triple) -> None:
        self.dim, self.count, self.map_size = dim, count, map_size
        self.heads, self.expansion = heads, expansion

    def blocks(self, inputs: int, kernel: Triple, *, keeps_map: bool = True) -> nn.ModuleList:
        """Return the stage's attention blocks; where not ``keeps_map``, the last drops it."""
        return nn.ModuleList(
            BidirectionalBlock(
                inputs if index == 0 else self.dim,
                self.dim,
                self.heads,
                self.expansion,
                kernel,
                keeps_map=keeps_map or index < self.count - 1,
            )
            for index in range(self.count)
        )


class MedFormer(nn.Module):
    """The network that :func:`medformer` returns."""

    def __init__(
        self,
        channels: int,
        classes: int,
        base_channels: int,
        stages: Sequence[_Attention],
        conv_num: Sequence[int],
        kernels: Sequence[Triple],
        strides: Sequence[Triple],
        fusion: MapFusion,
    ) -> None:
        super().__init__()
        dims = [base_channels, *(stage.dim for stage in stages)]
        self.inc = _Stem(channels, base_channels, kernels[0])
        self.down1, self.down2, self.down3, self.down4 = (
            _Down(dims[s], stages[s], conv_num[s], kernels[s + 1], strides[s], has_map=s > 0)
            for s in range(4)
        )
        self.map_fusion = fusion
        self.up1, self.up2, self.up3, self.up4 = (
            _Up(
                dims[4 + s],
                dims[3 - s],
                stages[4 + s],
                conv_num[4 + s],
                kernels[3 - s],
                strides[3 - s],
                has_map=s < 2,
                keeps_map=s < 1,
            )
            for s in range(4)
        )
        self.outc = nn.Conv3d(dims[-1], classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the classes."""
        x0 = self.inc(image)
        x1, _ = self.down1(x0)
        x2, map2 = self.down2(x1)
        x3, map3 = self.down3(x2)
        x4, map4 = self.down4(x3)
        map2, map3, map4 = self.map_fusion([map2, map3, map4])
        x, semantic = self.up1(x4, x3, map4, map3)
        x, _ = self.up2(x, x2, semantic, map2)
        x, _ = self.up3(x, x1, None, None)
        x, _ = self.up4(x, x0, None, None)
        logits: Tensor = self.outc(x)
        return logits


class _Stem(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: Triple) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, kernel, padding=same_padding(kernel), bias=False)
        self.conv2 = BasicBlock(outputs, outputs, kernel)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv2(self.conv1(image))  # type: ignore[no-any-return]


class _Down(nn.Module):
    def __init__(
        self,
        inputs: int,
        attention: _Attention,
        convolutions: int,
        kernel: Triple,
        stride: Triple,
        *,
        has_map: bool,
    ) -> None:
        super().__init__()
        dim = attention.dim
        self.patch_merging = _PatchMerging(inputs, dim, kernel, stride)
        self.conv_blocks = nn.Sequential(
            *(BasicBlock(dim, dim, kernel) for _ in range(convolutions))
        )
        self.map_gen = MapGeneration(dim, attention.map_size) if has_map else None
        self.trans_blocks = _Blocks(attention.blocks(dim, kernel))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        x = self.conv_blocks(self.patch_merging(x))
        semantic = None if self.map_gen is None else self.map_gen(x)
        return self.trans_blocks(x, semantic)  # type: ignore[no-any-return]


class _Up(nn.Module):
    def __init__(
        self,
        inputs: int,
        skip: int,
        attention: _Attention,
        convolutions: int,
        kernel: Triple,
        stride: Triple,
        *,
        has_map: bool,
        keeps_map: bool,
    ) -> None:
        super().__init__()
        dim = attention.dim
        self.scale = tuple(float(step) for step in stride)
        self.map_reduction = nn.Conv3d(inputs + skip, dim, 1, bias=False) if has_map else None
        self.trans_blocks = _Blocks(attention.blocks(inputs + skip, kernel, keeps_map=keeps_map))
        first = dim if attention.count else inputs + skip
        self.conv_blocks = nn.Sequential(
            *(BasicBlock(dim if index else first, dim, kernel) for index in range(convolutions))
        )

    def forward(
        self, x: Tensor, skip: Tensor, below: Tensor | None, beside: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        # By factors, not to the size of the skip: a traced size would hide the number of channels.
        x = F.interpolate(x, scale_factor=self.scale, mode="trilinear", align_corners=True)
        semantic = None
        if self.map_reduction is not None and below is not None and beside is not None:
            semantic = self.map_reduction(torch.cat([below, beside], dim=1))
        x, semantic = self.trans_blocks(torch.cat([x, skip], dim=1), semantic)
        return self.conv_blocks(x), semantic


class _Blocks(nn.Module):
    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x: Tensor, semantic: Tensor | None) -> tuple[Tensor, Tensor | None]:
        for block in self.blocks:
            x, semantic = block(x, semantic)
        return x, semantic


class _PatchMerging(nn.Module):
    """Reduces by putting each stride's voxels side by side as channels."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.stride = stride
        merged = inputs * stride[0] * stride[1] * stride[2]
        self.norm = nn.InstanceNorm3d(merged)
        self.reduction = DepthwiseSeparable(merged, outputs, kernel)

    def forward(self, x: Tensor) -> Tensor:
        d, h, w = self.stride
        merged = [x[:, :, i::d, j::h, k::w] for i in range(d) for j in range(h) for k in range(w)]
        return self.reduction(self.norm(torch.cat(merged, dim=1)))  # type: ignore[no-any-return]
