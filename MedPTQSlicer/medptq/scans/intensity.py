"""Changes of intensity, each in place on a float32 array [C, D, H, W] and channel by channel.

Sums are taken in double precision and plane by plane: a CT has 10^8 voxels, too many for single
precision and too many for a temporary array in double precision.
"""

from __future__ import annotations

import numpy as np

from medptq.errors import ScanError
from medptq.scans.scan import FloatArray


def clip(array: FloatArray, low: float, high: float) -> None:
    """Limit the intensities to the range from ``low`` to ``high``."""
    np.clip(array, np.float32(low), np.float32(high), out=array)


def clip_percentiles(array: FloatArray, low: float, high: float) -> None:
    """Limit each channel to its own percentiles ``low`` and ``high``, from 0 to 100."""
    for channel in array:
        lowest, highest = np.percentile(channel, [low, high])
        clip(channel, lowest, highest)


def scale(array: FloatArray, factor: float, offset: float) -> None:
    """Multiply by ``factor`` and add ``offset``."""
    array *= np.float32(factor)
    array += np.float32(offset)


def scale_range(array: FloatArray, before: tuple[float, float], after: tuple[float, float]) -> None:
    """Map the range ``before`` linearly to the range ``after``."""
    factor = (after[1] - after[0]) / (before[1] - before[0])
    # Shifted first, because the offset of a far-off range would eat up single precision.
    array -= np.float32(before[0])
    scale(array, factor, after[0])


def zscore(array: FloatArray, *, nonzero: bool) -> None:
    """Shift and scale each channel to mean 0 and standard deviation 1.

    Args:
        array: The intensities.
        nonzero: Take the voxels at 0 for background: they do not count, and stay at 0.

    Raises:
        ScanError: A channel has the same intensity everywhere (``constant``).
    """
    for channel in array:
        count, total = 0, 0.0
        for plane in channel:
            values = plane[plane != 0] if nonzero else plane
            count += values.size
            total += float(values.sum(dtype=np.float64))
        mean = total / max(count, 1)
        squares = 0.0
        for plane in channel:
            values = plane[plane != 0] if nonzero else plane
            squares += float(np.square(values - mean, dtype=np.float64).sum())
        deviation = float(np.sqrt(squares / max(count, 1)))
        if deviation <= np.finfo(np.float32).eps * abs(mean):
            raise ScanError(
                "constant",
                "The scan cannot be normalized",
                why="what is left of it after cropping and clipping has the same intensity"
                " everywhere",
                todo="Check that the scan shows the region that the model was made for",
            )
        for plane in channel:
            background = plane == 0 if nonzero else None
            plane -= np.float32(mean)
            plane /= np.float32(deviation)
            if background is not None:
                plane[background] = 0.0
