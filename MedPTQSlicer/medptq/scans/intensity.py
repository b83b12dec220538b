"""Changes of intensity, each in place on a float32 tensor [C, D, H, W] and channel by channel.

The tensor may be a NumPy array's memory, or lie on a GPU. Sums of more than a row are taken in
double precision, and those of changed voxels plane by plane: a CT has 10^8 voxels, too many for
single precision and too many for another array in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medptq.errors import ScanError
from medptq.scans.scan import FloatArray

if TYPE_CHECKING:  # reading a scan must not import PyTorch
    from torch import Tensor

# Voxels that are looked at to see where in the range of intensities a percentile lies.
_SAMPLE = 1 << 14


def clip(voxels: Tensor, low: float, high: float) -> None:
    """Limit the intensities to the range from ``low`` to ``high``."""
    voxels.clamp_(low, high)


def clip_percentiles(voxels: Tensor, low: float, high: float) -> None:
    """Limit each channel to its own percentiles ``low`` and ``high``, from 0 to 100; on a CPU."""
    for channel in voxels:
        lowest, highest = percentiles(channel.numpy(), (low, high))
        clip(channel, lowest, highest)


def percentiles(volume: FloatArray, percents: Sequence[float]) -> list[float]:
    """Return what ``numpy.percentile`` returns, to the last bit, in a fraction of the time.

    A sample of the voxels tells between which two intensities each percentile lies, all but
    certainly; only the few voxels between these two need sorting.

    Args:
        volume: Intensities, float32 [D, H, W], contiguous; none is NaN.
        percents: Percentiles, from 0 to 100.
    """
    # Odd, so that it does not keep to some columns of an image of even width.
    step = volume.size // _SAMPLE | 1
    sample = np.sort(volume.reshape(-1)[::step])
    found = []
    for percent in percents:
        place = (volume.size - 1) * (percent / 100)
        rank = int(place)
        # Five standard deviations of the rank that so many random voxels would give it.
        share = place / volume.size
        margin = 5 * math.sqrt(len(sample) * share * (1 - share)) + 1
        first = math.floor(share * len(sample) - margin)
        last = math.ceil(share * len(sample) + margin)
        low, high = sample[max(first, 0)], sample[min(last, len(sample) - 1)]
        pair = _between(volume, low, high, (rank, min(rank + 1, volume.size - 1)))
        if pair is None:
            return [float(value) for value in np.percentile(volume, percents)]
        found.append(float(np.quantile(np.array(pair), [place - rank])[0]))
    return found


def _between(
    volume: FloatArray, low: np.float32, high: np.float32, ranks: Sequence[int]
) -> list[np.float32] | None:
    """Return the voxels of these ranks, or None if not all are from ``low`` to ``high``.

    Of voxels that are equal to ``low`` or ``high`` only the number is kept: where the background
    has one intensity, they may be half of the scan.
    """
    to_low = 0
    parts = []
    for plane in volume:
        not_above_low = plane <= low
        to_low += int(np.count_nonzero(not_above_low))
        parts.append(plane[(plane < high) > not_above_low])
    inside = np.sort(np.concatenate(parts))
    ends = to_low, to_low + len(inside)
    if ranks[0] < ends[0] and ranks[0] < sum(np.count_nonzero(plane < low) for plane in volume):
        return None
    if ranks[-1] >= ends[1] and ranks[-1] >= sum(
        np.count_nonzero(plane <= high) for plane in volume
    ):
        return None
    return [
        low if rank < ends[0] else inside[rank - ends[0]] if rank < ends[1] else high
        for rank in ranks
    ]


def scale(voxels: Tensor, factor: float, offset: float) -> None:
    """Multiply by ``factor`` and add ``offset``."""
    voxels.mul_(factor).add_(offset)


def scale_range(voxels: Tensor, before: tuple[float, float], after: tuple[float, float]) -> None:
    """Map the range ``before`` linearly to the range ``after``."""
    factor = (after[1] - after[0]) / (before[1] - before[0])
    # Shifted first, because the offset of a far-off range would eat up single precision.
    voxels.sub_(before[0])
    scale(voxels, factor, after[0])


def minmax(voxels: Tensor, to: tuple[float, float]) -> None:
    """Map each channel's smallest and largest intensity to the range ``to``.

    Raises:
        ScanError: A channel has the same intensity everywhere (``constant``).
    """
    for channel in voxels:
        low, high = float(channel.min()), float(channel.max())
        if low == high:
            raise _constant()
        scale_range(channel, (low, high), to)


def background_of(array: FloatArray) -> NDArray[np.bool_]:
    """Return where an image is 0 in every channel, as far as that reaches the image's edge.

    All else is what nnU-Net normalizes where its plans say to use the mask.

    Args:
        array: The intensities.

    Returns:
        The mask, [D, H, W].
    """
    nonzero = np.zeros(array.shape[1:], dtype=np.uint8)
    for channel in array:
        nonzero |= channel != 0
    filled = sitk.BinaryFillhole(sitk.GetImageFromArray(nonzero))
    background: NDArray[np.bool_] = sitk.GetArrayViewFromImage(filled) == 0
    return background


def zscore(voxels: Tensor, *, nonzero: bool, background: NDArray[np.bool_] | None = None) -> None:
    """Shift and scale each channel to mean 0 and standard deviation 1.

    Args:
        voxels: The intensities.
        nonzero: Take the voxels at 0 for background: they do not count, and stay at 0.
        background: Take these voxels for background, [D, H, W]; they are 0.

    Raises:
        ScanError: A channel has the same intensity everywhere (``constant``).
    """
    import torch

    mask = None if background is None else torch.from_numpy(background).to(voxels.device)

    def empty_of(plane: Tensor, place: int) -> Tensor | None:
        if mask is not None:
            return mask[place]
        return plane == 0 if nonzero else None

    for channel in voxels:
        if mask is not None:
            count = int(mask.numel() - torch.count_nonzero(mask))
        else:
            count = int(torch.count_nonzero(channel)) if nonzero else channel.numel()
        # Row by row in single precision, at twice the speed, and the rows in double.
        mean = float(channel.sum(dim=2).sum(dtype=torch.float64)) / max(count, 1)
        squares = torch.zeros((), dtype=torch.float64, device=channel.device)
        for place, plane in enumerate(channel):
            moved = plane - mean
            empty = empty_of(plane, place)
            if empty is not None:
                moved.masked_fill_(empty, 0.0)
            squares += moved.square_().sum(dim=1).sum(dtype=torch.float64)
        deviation = math.sqrt(float(squares) / max(count, 1))
        if deviation <= np.finfo(np.float32).eps * abs(mean):
            raise _constant()
        for place, plane in enumerate(channel):
            empty = empty_of(plane, place)
            plane.sub_(mean).div_(deviation)
            if empty is not None:
                plane.masked_fill_(empty, 0.0)


def _constant() -> ScanError:
    return ScanError(
        "constant",
        "The scan cannot be normalized",
        why="what is left of it after cropping and clipping has the same intensity everywhere",
        todo="Check that the scan shows the region that the model was made for",
    )
