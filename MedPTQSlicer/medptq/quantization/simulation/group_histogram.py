"""The distribution of each of many groups of values, and the ranges that serve them best."""

from __future__ import annotations

import torch
from torch import Tensor

from medptq.quantization.simulation.grid import activation_grid

_BINS = 2048
_SAMPLE = 1 << 20
_SHARES = [0.88**step for step in range(24)]  # down to 1/19 of the extremes


class GroupHistogram:
    """Histograms of signed values, one a group, gathered in one pass and bounded memory.

    Each group's histogram spans [-limit, limit]; the limit is a power of two, doubled (and bins
    merged) when a larger magnitude arrives, so the order of the patches does not matter.

    Args:
        groups: How many.
        device: Where they are kept.

    Attributes:
        low: Smallest value of each group, or 0 if that is smaller; float32 [groups].
        high: Largest value of each group, or 0 if that is larger; likewise.
    """

    def __init__(self, groups: int, device: torch.device) -> None:
        self.low = torch.zeros(groups, device=device)
        self.high = torch.zeros(groups, device=device)
        self._limit = torch.zeros(groups, device=device)
        self._counts = torch.zeros(groups, _BINS, dtype=torch.int64, device=device)

    def add(self, values: Tensor) -> None:
        """Count ``values`` [groups, n]; of many, an even sample."""
        self.low = torch.minimum(self.low, values.amin(1))
        self.high = torch.maximum(self.high, values.amax(1))
        if not bool(torch.isfinite(self.low + self.high).all()):
            # The range itself says it: NaN, too, spreads through the minimum.
            return
        self._grow(torch.maximum(-self.low, self.high))
        if values.numel() > _SAMPLE:
            # An odd step does not beat with axes whose lengths are powers of two.
            values = values[:, :: values.numel() // _SAMPLE | 1]
        limit = self._limit.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
        bins = ((values / limit + 1.0) * (_BINS // 2)).long().clamp_(0, _BINS - 1)
        bins += torch.arange(len(bins), device=bins.device)[:, None] * _BINS
        counts = torch.bincount(bins.reshape(-1), minlength=self._counts.numel())
        self._counts += counts.reshape(self._counts.shape)

    def _grow(self, amax: Tensor) -> None:
        wanted = torch.where(amax > 0, torch.exp2(torch.ceil(torch.log2(amax))), 0.0)
        # log2 may round down past the magnitude itself.
        wanted = torch.where(wanted < amax, wanted * 2, wanted)
        self._limit = torch.where(self._limit == 0, wanted, self._limit)
        while bool((growing := self._limit < wanted).any()):
            pairs = self._counts[growing].reshape(-1, _BINS // 2, 2).sum(2)
            merged = torch.zeros_like(self._counts[growing])
            merged[:, _BINS // 4 : _BINS // 4 + _BINS // 2] = pairs
            self._counts[growing] = merged
            self._limit = torch.where(growing, self._limit * 2, self._limit)

    def least_squared_error(self, bits: int, *, signed: bool) -> tuple[Tensor, Tensor]:
        """Return the ends of each group's range that round and clip with the least squared error.

        A symmetric range is shrunk from its largest magnitude. One that is not is shrunk as a
        whole first, and then one end at a time, twice.

        Returns:
            Lower and upper ends, float32 [groups].
        """
        if signed:
            amax = torch.maximum(-self.low, self.high)
            return self._best(bits, [(-amax * s, amax * s) for s in _SHARES], signed=True)
        low, high = self._best(bits, [(self.low * s, self.high * s) for s in _SHARES])
        for _ in range(2):
            low, high = self._best(bits, [(low, self.high * s) for s in _SHARES])
            low, high = self._best(bits, [(self.low * s, high) for s in _SHARES])
        return low, high

    def _best(
        self, bits: int, candidates: list[tuple[Tensor, Tensor]], *, signed: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the candidate of the least error, group by group; the first one if none is."""
        best_low, best_high = candidates[0]
        least = torch.full_like(best_low, torch.inf, dtype=torch.float64)
        width = self._limit * (2.0 / _BINS)
        for low, high in candidates:
            error = self._error(bits, low, high, signed=signed)
            # A grid finer than the bins would be judged by where their centres happen to fall.
            error[(high - low) / 2**bits < width] = torch.inf
            better = error < least
            best_low = torch.where(better, low, best_low)
            best_high = torch.where(better, high, best_high)
            least = torch.where(better, error, least)
        return best_low, best_high

    def _error(self, bits: int, low: Tensor, high: Tensor, *, signed: bool) -> Tensor:
        bins = torch.arange(_BINS, device=low.device)
        centres = ((bins + 0.5) * (2.0 / _BINS) - 1.0) * self._limit[:, None]
        grid = activation_grid(low[:, None], high[:, None], bits, signed=signed)
        error = grid.nearest(centres).sub_(centres).square_()
        return (error.double() * self._counts).sum(1)
