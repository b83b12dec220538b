"""The grids of weights."""

from __future__ import annotations

import torch
from torch import Tensor

from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.grid import Grid, weight_grid

_SHARES = torch.linspace(1.0, 0.3, 57).tolist()


def grid_of_weight(weight: Tensor, axis: int | None, scheme: Scheme) -> Grid:
    """Return the grid of a weight.

    Args:
        weight: The weight, float32.
        axis: Axis of the output channels; None where the weight has none.
        scheme: Says the bits, whether each channel has its own scale, and whether that is the
            one of the least squared error among shares of the largest magnitude.
    """
    if scheme.weight_granularity == "tensor" or axis is None:
        others = tuple(range(weight.ndim))
    else:
        others = tuple(a for a in range(weight.ndim) if a != axis % weight.ndim)
    amax = weight.abs().amax(others, keepdim=True)
    if not scheme.fitted_weights:
        return weight_grid(amax, scheme.weight_bits)
    best, least = amax, torch.full_like(amax, torch.inf)
    for share in _SHARES:
        grid = weight_grid(amax * share, scheme.weight_bits)
        error = (grid.nearest(weight) - weight).square_().sum(others, keepdim=True)
        best = torch.where(error < least, amax * share, best)
        least = torch.minimum(error, least)
    return weight_grid(best, scheme.weight_bits)
