"""Choosing the range of an activation from what calibration saw of it.

An activation x is represented as ``scale * q`` with q from -128 to 127; its range ``T`` (the
threshold) fixes ``scale = T / 127``; with b bits, 2^(b-1) - 1 takes the place of 127. Values
beyond T are clipped, so a smaller T rounds the bulk of the values more finely and clips more of
the extremes.

========== =====================================================================================
max        The largest magnitude seen: nothing is clipped. What MedPTQ used (arXiv 2501.17343).
percentile The magnitude that a given share of the values stays within (Wu et al., Integer
           Quantization for Deep Learning Inference, arXiv 2004.09602).
mse        The range with the least mean squared error of rounding and clipping together
           (likewise arXiv 2004.09602; Banner et al., arXiv 1810.05723).
entropy    The range whose quantized distribution has the least Kullback-Leibler divergence from
           the one seen (Migacz, 8-bit Inference with TensorRT, GTC 2017). The network's input,
           the image itself, gets the range of mse all the same.
========== =====================================================================================

With a scale per channel, INT8 kernels have a channel's largest magnitude for T, but no more than
the T of the whole activation.

None is the best for every network; :mod:`medptq.quantization.observer_choice` measures which is.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medptq.quantization.arithmetic import largest_integer
from medptq.quantization.recipe import ObserverName

_BINS = 8192
_SAMPLE = 1 << 20


class MagnitudeHistogram:
    """The distribution of one activation's magnitudes, gathered in one pass and bounded memory.

    The histogram's upper end is always a power of two, doubled (and pairs of bins merged) when a
    larger magnitude arrives. So the result does not depend on the order of the patches.

    Attributes:
        amax: Largest magnitude seen, exact.
        limit: Upper end of the histogram; a power of two, or 0 while nothing but zeros was seen.
        counts: Values per bin of [0, limit]; of large tensors an even sample is counted.
    """

    def __init__(self) -> None:
        self.amax = 0.0
        self.limit = 0.0
        self.counts: NDArray[np.float64] = np.zeros(_BINS)

    def add(self, tensor: Tensor) -> None:
        """Count the magnitudes of ``tensor``, of any shape."""
        low, high = torch.aminmax(tensor)
        amax = max(float(high), -float(low))
        if not math.isfinite(amax):
            # A NaN would be lost in the next comparison.
            self.amax = math.inf
            return
        self.amax = max(self.amax, amax)
        if amax > self.limit:
            self._grow(2.0 ** math.ceil(math.log2(amax)))
        values = tensor.reshape(-1)
        if values.numel() > _SAMPLE:
            # An odd step does not beat with axes whose lengths are powers of two.
            values = values[:: values.numel() // _SAMPLE | 1]
        if self.limit == 0.0:
            self.counts[0] += values.numel()
            return
        counts = torch.histc(values.abs().float(), _BINS, 0.0, self.limit)
        self.counts += counts.double().cpu().numpy()

    def _grow(self, limit: float) -> None:
        if self.limit == 0.0:
            self.limit = limit
        while self.limit < limit:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([merged, np.zeros(_BINS // 2)])
            self.limit *= 2

    @property
    def width(self) -> float:
        """Width of a bin."""
        return self.limit / _BINS


def threshold(
    histogram: MagnitudeHistogram,
    observer: ObserverName,
    percentile: float,
    *,
    is_image: bool = False,
    bits: int = 8,
) -> float:
    """Return the range of an activation: the magnitude that becomes the largest integer.

    Args:
        histogram: What was seen of the activation.
        observer: How it is chosen.
        percentile: For the observer of that name.
        is_image: Whether it is the network's input rather than the result of a layer.
        bits: Bits of the integers.

    Returns:
        A magnitude from 0 to the largest one seen; 0 if the activation was all zero.
    """
    if histogram.amax == 0.0 or observer == "max":
        return histogram.amax
    if observer == "percentile":
        found = _percentile(histogram, percentile)
    elif observer == "mse" or is_image:
        found = _least_squared_error(histogram, bits)
    else:
        found = _least_divergence(histogram, bits)
    return min(found, histogram.amax)


def _percentile(histogram: MagnitudeHistogram, percentile: float) -> float:
    cumulative = np.cumsum(histogram.counts)
    index = int(np.searchsorted(cumulative, cumulative[-1] * percentile / 100.0))
    return (index + 1) * histogram.width


def _least_squared_error(histogram: MagnitudeHistogram, bits: int) -> float:
    counts, width = histogram.counts, histogram.width
    largest = largest_integer(bits)
    centres = (np.arange(_BINS) + 0.5) * width
    best, best_error = histogram.amax, math.inf
    # A grid finer than twice the bins would be judged by where the bins' centres happen to fall.
    finest = min(2 * largest * width / histogram.amax, 1.0)
    for share in np.geomspace(finest, 1.0, 200):
        candidate = float(share * histogram.amax)
        scale = candidate / largest
        rounded = np.minimum(np.rint(centres / scale), largest) * scale
        error = float(counts @ np.square(centres - rounded))
        if error < best_error:
            best, best_error = candidate, error
    return best


def _least_divergence(histogram: MagnitudeHistogram, bits: int) -> float:
    levels = largest_integer(bits) + 1
    counts = histogram.counts.copy()
    # Exact zeros (after ReLU, or background) are represented without error by every candidate,
    # and so many that they would decide the divergence alone.
    counts[0] = counts[1]
    # The largest magnitude may be the lower edge of its bin.
    used = min(int(histogram.amax / histogram.width) + 1, _BINS)
    total = counts.sum()
    if total == 0.0:
        return histogram.amax
    best, best_divergence = used, math.inf
    for bins in (*range(levels, used, max(used // 512, 1)), used):
        reference = counts[:bins].copy()
        reference[-1] += counts[bins:].sum()
        divergence = _divergence(reference / total, _requantized(counts[:bins], levels))
        if divergence < best_divergence:
            best, best_divergence = bins, divergence
    return best * histogram.width


def _requantized(counts: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
    """Return ``counts`` merged into levels, each spread over its own bins that had any."""
    level = np.arange(len(counts)) * levels // len(counts)
    filled = (counts > 0).astype(np.float64)
    sums = np.bincount(level, counts, levels)
    bins = np.bincount(level, filled, levels)
    spread = (sums / np.maximum(bins, 1.0))[level] * filled
    total = spread.sum()
    return spread / total if total > 0 else spread


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    inside = p > 0
    if np.any(q[inside] == 0.0):
        # Clipped mass fell into a bin that the candidate leaves empty.
        q = np.where(inside & (q == 0.0), 1e-12, q)
    return float(np.sum(p[inside] * np.log(p[inside] / q[inside])))
