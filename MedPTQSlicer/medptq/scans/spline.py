"""Stretching a volume by cubic B-splines, with the arithmetic of nnU-Net's resampling.

nnU-Net stretches with ``skimage.transform.resize(order=3, mode="edge", anti_aliasing=False)``,
which is ``scipy.ndimage.zoom(grid_mode=True, mode="nearest")`` and a limit to the intensities that
were there before. Its interpolation is linear in the voxels and works on one axis after the other,
so that it is three products with a matrix each: the same numbers in a fraction of the time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medptq.scans.scan import FloatArray

if TYPE_CHECKING:  # reading a scan must not import PyTorch
    from torch import Tensor

# Where voxels are longer along one axis than along another by more than this, nnU-Net takes the
# nearest plane along it.
_ANISOTROPIC = 3.0
# Voxel sizes that come from a matrix are off by rounding.
_SAME = 1e-4


def separate_axis(spacing: Sequence[float], new_spacing: Sequence[float]) -> int | None:
    """Return the axis along which nnU-Net takes the nearest plane; None if it interpolates.

    Args:
        spacing: Voxel size in mm before resampling.
        new_spacing: Voxel size in mm after it, which counts where ``spacing`` is about isotropic.
    """
    for candidate in (spacing, new_spacing):
        longest = max(candidate)
        if longest / min(candidate) > _ANISOTROPIC:
            longs = [n for n, length in enumerate(candidate) if length > longest * (1 - _SAME)]
            return longs[0] if len(longs) == 1 else None
    return None


def stretch(array: FloatArray, size: Sequence[int], separate: int | None) -> FloatArray:
    """Stretch the whole field to another number of voxels.

    Args:
        array: float32 [C, D, H, W].
        size: Voxels along D, H and W of the result.
        separate: The axis along which the nearest plane is taken, 0 to 2; None for none.

    Returns:
        float32 [C, *size]; no voxel is outside of its channel's intensities before, or, with
        ``separate``, outside of its plane's.
    """
    result = np.empty((len(array), *size), dtype=np.float32)
    for volume, target in zip(array, result, strict=True):
        if separate is None:
            _stretch_volume(volume, target)
        else:
            _stretch_planes(np.moveaxis(volume, separate, 0), np.moveaxis(target, separate, 0))
    return result


def stretch_on_gpu(voxels: Tensor, size: Sequence[int], separate: int | None) -> Tensor:
    """Do what :func:`stretch` does on a tensor's device; it differs by rounding."""
    import torch

    if separate is not None:
        old, new = voxels.shape[1 + separate], size[separate]
        nearest = torch.from_numpy(_nearest(old, new)).to(voxels.device)
        voxels = voxels.index_select(1 + separate, nearest)
    # Channels, and with ``separate`` planes, keep to their own intensities.
    within = [1 + n for n in range(3) if n != separate]
    low, high = voxels.amin(dim=within, keepdim=True), voxels.amax(dim=within, keepdim=True)
    for dim in within:
        weights = torch.from_numpy(_weights(voxels.shape[dim], size[dim - 1])).to(voxels.device)
        voxels = (voxels.movedim(dim, -1) @ weights.T).movedim(-1, dim)
    return voxels.clamp(low, high).contiguous()


def _stretch_volume(volume: FloatArray, target: FloatArray) -> None:
    d, h, w = map(_weights, volume.shape, target.shape)
    planes = np.empty((len(volume), *target.shape[1:]), dtype=np.float32)
    for plane, stretched in zip(volume, planes, strict=True):
        stretched[...] = h @ plane @ w.T
    np.matmul(d, planes.reshape(len(planes), -1), out=target.reshape(len(target), -1))
    np.clip(target, volume.min(), volume.max(), out=target)


def _stretch_planes(volume: FloatArray, target: FloatArray) -> None:
    """Stretch each plane across the first axis, and take the nearest of them along it."""
    h, w = map(_weights, volume.shape[1:], target.shape[1:])
    previous = -1
    for place, index in enumerate(_nearest(len(volume), len(target))):
        if index == previous:
            target[place] = target[place - 1]
        else:
            np.clip(
                h @ volume[index] @ w.T,
                volume[index].min(),
                volume[index].max(),
                out=target[place],
            )
        previous = index


def _nearest(old: int, new: int) -> NDArray[np.intp]:
    """Return the old plane that lies nearest to each new one."""
    places = (np.arange(new) + 0.5) * (old / new) - 0.5
    nearest: NDArray[np.intp] = np.clip(np.floor(places + 0.5), 0, old - 1).astype(np.intp)
    return nearest


@functools.lru_cache(maxsize=8)
def _weights(old: int, new: int) -> NDArray[np.float32]:
    """Return how much each old voxel counts for each new one along an axis, [new, old]."""
    if old == new:
        return np.eye(old, dtype=np.float32)
    unit = np.eye(old)
    # Row by row, since stretching leaves a sum of rows the sum of what becomes of them.
    weights = ndimage.zoom(unit, (new / old, 1), order=3, mode="nearest", grid_mode=True)
    return np.asarray(weights, dtype=np.float32)
