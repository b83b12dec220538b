"""Where sliding windows lie on a volume, and how much each of their voxels counts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch


def window_starts(length: int, patch: int, overlap: float) -> tuple[int, ...]:
    """Place windows along one axis so that they cover it, the last one flush with the end.

    As ``monai.inferers.sliding_window_inference`` places them.

    Args:
        length: Voxels along the axis; at least ``patch``.
        patch: Voxels of a window.
        overlap: Share of a window, from 0 to below 1, that overlaps the one before it.

    Returns:
        The windows' first voxels, ascending.
    """
    interval = max(int(patch * (1 - overlap)), 1)
    last = length - patch
    return (*range(0, last, interval), last)


def window_positions(
    shape: Sequence[int], patch: Sequence[int], overlap: float, axis: int
) -> list[tuple[int, int, int]]:
    """List the first voxels of all windows on a volume.

    Args:
        shape: Voxels of the volume along (D, H, W).
        patch: Voxels of a window along (D, H, W).
        overlap: Share of a window, from 0 to below 1, that overlaps its neighbour.
        axis: The axis, 0 to 2, along which the windows ascend.

    Returns:
        (d, h, w) of each window, ordered by their place along ``axis``.
    """
    starts = [
        window_starts(length, size, overlap) for length, size in zip(shape, patch, strict=True)
    ]
    positions = itertools.product(*starts)
    return sorted(((d, h, w) for d, h, w in positions), key=lambda position: position[axis])


def gaussian_importance(patch: Sequence[int], device: torch.device) -> torch.Tensor:
    """Return how much each voxel of a window counts where windows overlap.

    A Gaussian around the window's centre with a standard deviation of an eighth of its size, as
    nnU-Net weights it (Isensee et al., Nature Methods 2021), and at least 0.001, as
    ``monai.data.utils.compute_importance_map``.

    Args:
        patch: Voxels of a window along (D, H, W).
        device: Where the weights shall be.

    Returns:
        float32 [D, H, W], the largest at most 1.
    """
    weights = torch.ones(1, device=device)
    for size in patch:
        place = torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2
        bell = torch.exp(-(place**2) / (2 * (size / 8) ** 2))
        weights = weights.unsqueeze(-1) * bell
    weights = weights[0]
    return weights.clamp_min(max(float(weights.min()), 1e-3))
