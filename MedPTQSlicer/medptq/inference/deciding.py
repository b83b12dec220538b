"""Which label the network's outputs mean, and where it goes in the label map."""

from __future__ import annotations

import torch

from medptq.scans.prepared import Prepared
from medptq.scans.scan import LabelArray


def contrast(values: torch.Tensor) -> torch.Tensor:
    """Return what decides the labels: of two classes, their difference alone, at half the work.

    Where two numbers are close their difference is exact in any floating-point type, so it is
    taken before they are widened.
    """
    return (values[1:] - values[:1] if len(values) == 2 else values).float()


def decide(values: torch.Tensor) -> torch.Tensor:
    """Return the class with the highest output; the first of equals."""
    if len(values) == 1:
        return (values[0] > 0).to(torch.uint8)
    # On CPUs max is several times faster than argmax along the first axis.
    labels = values.max(dim=0).indices
    # One number more than there are labels must fit: see interpolating._fill.
    return labels.to(torch.uint8 if len(values) < 256 else torch.int32)


def in_network_order(prepared: Prepared, labels: LabelArray) -> LabelArray:
    """Return a view of the label map with its axes in the network's order, unflipped."""
    return labels.transpose([axis.scan_axis for axis in prepared.axes])
