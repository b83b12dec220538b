"""Swin UNETR: MONAI's, with stages that can be exported at any patch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.networks.nets.swin_unetr import SwinUNETR
from numpy.typing import NDArray
from torch import Tensor, nn


def swin_unetr(
    channels: int = 1,
    classes: int = 14,
    feature_size: int = 48,
    depths: tuple[int, int, int, int] = (2, 2, 2, 2),
    num_heads: tuple[int, int, int, int] = (3, 6, 12, 24),
    window_size: int = 7,
    use_v2: bool = False,
) -> nn.Module:
    """Return Swin UNETR (Hatamizadeh 2022).

    Its windows depend on the patch size, and an exported graph takes that one size only.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        feature_size: Channels at full resolution, a multiple of 12: 12 in the tiny network, 24
            in the small one, 48 in the base one.
        depths: Transformer layers of each stage.
        num_heads: Attention heads of each stage.
        window_size: Edge of the cubes of tokens that attend to each other.
        use_v2: Whether each stage begins with a residual convolution (He 2023).

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W]; D, H and W are multiples of 32.
    """
    network = SwinUNETR(
        channels,
        classes,
        feature_size=feature_size,
        depths=depths,
        num_heads=num_heads,
        window_size=window_size,
        use_v2=use_v2,
    )
    transformer = network.swinViT
    for stages in (
        transformer.layers1,
        transformer.layers2,
        transformer.layers3,
        transformer.layers4,
    ):
        stages[0] = _Stage(stages[0], window_size)
    return network  # type: ignore[no-any-return]


class _Stage(nn.Module):
    """One of MONAI's stages, with its layers, where sizes are plain numbers.

    MONAI's own makes its attention mask by writing into slices, which a trace records as thousands
    of nodes, and takes sizes from tensors, whose shapes the exporter then loses.
    """

    def __init__(self, stage: Any, window_size: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Block(block, is_shifted=index % 2 == 1) for index, block in enumerate(stage.blocks)
        )
        self.downsample = stage.downsample
        self.window_size = window_size

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, D, H, W] to twice the channels at half the resolution."""
        windows = _Windows.of([int(length) for length in x.shape[2:]], self.window_size)
        mask = windows.mask(x.device)
        x = x.permute(0, 2, 3, 4, 1)
        for block in self.blocks:
            x = block(x, windows, mask)
        return self.downsample(x).permute(0, 4, 1, 2, 3)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """One of MONAI's layers, around the modules that have its weights."""

    def __init__(self, block: Any, *, is_shifted: bool) -> None:
        super().__init__()
        self.norm1, self.attn = block.norm1, block.attn
        self.norm2, self.mlp = block.norm2, block.mlp
        self.is_shifted = is_shifted

    def forward(self, x: Tensor, windows: _Windows, mask: Tensor | None) -> Tensor:
        shift = windows.shift if self.is_shifted else (0, 0, 0)
        tokens = windows.cut(self.norm1(x), shift)
        attended = self.attn(tokens, mask if any(shift) else None)
        x = x + windows.join(attended, shift)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Windows:
    """How an image [N, D, H, W, C] of tokens is cut into windows.

    Attributes:
        size: Of the image.
        edges: Of a window; no longer than the image.
        shift: By how much every second layer shifts; 0 where one window spans the image.
    """

    size: tuple[int, ...]
    edges: tuple[int, ...]
    shift: tuple[int, ...]

    @classmethod
    def of(cls, size: Sequence[int], edge: int) -> _Windows:
        """Return the windows of an image, cubes as far as it is as large."""
        return cls(
            tuple(size),
            tuple(min(length, edge) for length in size),
            tuple(0 if length <= edge else edge // 2 for length in size),
        )

    @property
    def counts(self) -> tuple[int, ...]:
        """Windows along each axis."""
        return tuple(-(-length // edge) for length, edge in zip(self.size, self.edges, strict=True))

    @property
    def padded(self) -> tuple[int, ...]:
        """Size of the image, filled up to whole windows."""
        return tuple(n * edge for n, edge in zip(self.counts, self.edges, strict=True))

    def cut(self, x: Tensor, shift: Sequence[int]) -> Tensor:
        """Return the windows of the shifted image, [N * windows, tokens, C]."""
        d, h, w = (whole - length for whole, length in zip(self.padded, self.size, strict=True))
        x = F.pad(x, (0, 0, 0, w, 0, h, 0, d)) if d or h or w else x
        x = _rolled(x, [-step for step in shift])
        (nd, nh, nw), (ed, eh, ew), c = self.counts, self.edges, x.shape[-1]
        grid = x.reshape(-1, nd, ed, nh, eh, nw, ew, c).permute(0, 1, 3, 5, 2, 4, 6, 7)
        return grid.reshape(-1, ed * eh * ew, c)

    def join(self, tokens: Tensor, shift: Sequence[int]) -> Tensor:
        """Return the image that :meth:`cut` was given."""
        (nd, nh, nw), (ed, eh, ew), c = self.counts, self.edges, tokens.shape[-1]
        grid = tokens.reshape(-1, nd, nh, nw, ed, eh, ew, c).permute(0, 1, 4, 2, 5, 3, 6, 7)
        x = _rolled(grid.reshape(-1, *self.padded, c), shift)
        if self.padded == self.size:
            return x
        d, h, w = self.size
        return x[:, :d, :h, :w]

    def mask(self, device: torch.device) -> Tensor | None:
        """Return what shifted windows add to their scores: -100 between parts from apart.

        [windows, tokens, tokens]; None where no axis is shifted.
        """
        if not any(self.shift):
            return None
        # The exporter does not fold Abs, and so stores these and not the product of each window.
        parts = torch.from_numpy(self._parts()).to(device).abs()
        return torch.where(parts[:, None] == parts[:, :, None], 0.0, -100.0)

    def _parts(self) -> NDArray[np.float32]:
        """Number the parts of the image that the shift brings together; [windows, tokens]."""
        d, h, w = (
            np.searchsorted([length - edge, length - step], np.arange(length), side="right")
            for length, edge, step in zip(self.padded, self.edges, self.shift, strict=True)
        )
        parts = 9 * d[:, None, None] + 3 * h[:, None] + w
        (nd, nh, nw), (ed, eh, ew) = self.counts, self.edges
        grid = parts.reshape(nd, ed, nh, eh, nw, ew).transpose(0, 2, 4, 1, 3, 5)
        return grid.reshape(-1, ed * eh * ew).astype(np.float32)


def _rolled(x: Tensor, shift: Sequence[int]) -> Tensor:
    # Only along axes that are shifted: exported, a roll by nothing joins the image to an empty one.
    axes = [axis for axis, step in enumerate(shift) if step]
    return torch.roll(x, [shift[axis] for axis in axes], [1 + axis for axis in axes]) if axes else x
