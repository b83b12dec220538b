"""Where sliding windows lie on a volume, and how much each of their voxels counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from medptq.models.segmentation_model import Blending

# nnU-Net scales the weights to 10 and keeps them in half precision, where less than this is 0.
_NNUNET_ZERO = 2**-25 / 10


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


def even_window_starts(length: int, patch: int, overlap: float) -> tuple[int, ...]:
    """Place windows along one axis as nnU-Net does: as few as can be, and evenly spread.

    Args:
        length: Voxels along the axis; at least ``patch``.
        patch: Voxels of a window.
        overlap: Share of a window, from 0 to below 1, that at least overlaps the one before it.

    Returns:
        The windows' first voxels, ascending.
    """
    last = length - patch
    count = math.ceil(last / (patch * (1 - overlap))) + 1
    return tuple(round(last / (count - 1) * n) for n in range(count)) if count > 1 else (0,)


def window_positions(
    shape: Sequence[int],
    patch: Sequence[int],
    overlap: float,
    axis: int,
    blending: Blending = "gaussian",
) -> list[tuple[int, int, int]]:
    """List the first voxels of all windows on a volume.

    Args:
        shape: Voxels of the volume along (D, H, W).
        patch: Voxels of a window along (D, H, W).
        overlap: Share of a window, from 0 to below 1, that overlaps its neighbour.
        axis: The axis, 0 to 2, along which the windows ascend.
        blending: ``"nnunet"`` for windows that are evenly spread.

    Returns:
        (d, h, w) of each window, ordered by their place along ``axis``.
    """
    place = even_window_starts if blending == "nnunet" else window_starts
    starts = [place(length, size, overlap) for length, size in zip(shape, patch, strict=True)]
    positions = itertools.product(*starts)
    return sorted(((d, h, w) for d, h, w in positions), key=lambda position: position[axis])


def importance_of(blending: Blending, patch: Sequence[int], device: torch.device) -> torch.Tensor:
    """Return how much each voxel of a window counts where windows overlap.

    Args:
        blending: ``"gaussian"``, or ``"constant"`` for all the same, or ``"nnunet"``.
        patch: Voxels of a window along (D, H, W).
        device: Where the weights shall be.

    Returns:
        float32 [D, H, W], the largest at most 1.
    """
    if blending == "gaussian":
        return gaussian_importance(patch, device)
    if blending == "nnunet":
        return nnunet_importance(patch, device)
    return torch.ones(tuple(patch), device=device)


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
    weights = _gaussian(patch, [(size - 1) / 2 for size in patch], device)
    return weights.clamp_min(max(float(weights.min()), 1e-3))


def nnunet_importance(patch: Sequence[int], device: torch.device) -> torch.Tensor:
    """Return how much each voxel of a window counts where windows overlap, as in nnU-Net itself.

    Its Gaussian is highest at a voxel, also where a window's size is even and its centre lies
    between two, and all but vanishes in the corners.

    Args:
        patch: Voxels of a window along (D, H, W).
        device: Where the weights shall be.

    Returns:
        float32 [D, H, W], the largest 1.
    """
    weights = _gaussian(patch, [size // 2 for size in patch], device)
    vanishes = weights < _NNUNET_ZERO
    weights[vanishes] = weights[~vanishes].min()
    return weights


def _gaussian(patch: Sequence[int], centre: Sequence[float], device: torch.device) -> torch.Tensor:
    weights = torch.ones(1, device=device)
    for size, middle in zip(patch, centre, strict=True):
        place = torch.arange(size, dtype=torch.float32, device=device) - middle
        bell = torch.exp(-(place**2) / (2 * (size / 8) ** 2))
        weights = weights.unsqueeze(-1) * bell
    return weights[0]
