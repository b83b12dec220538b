"""The label map on the scan's grid, found where the network's outputs are: only labels leave a GPU.

The rule is that of :mod:`medptq.inference.restoring`, the work is done the other way round. A CPU
is fastest where it first looks for the few voxels beside borders, and interpolates there alone; a
GPU has interpolated everywhere before it could tell where.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medptq.engines.memory import memory_as_error
from medptq.inference.deciding import contrast, decide
from medptq.inference.sampling import Samples, is_on_grid, samples_of
from medptq.inference.sliding import Slab
from medptq.models.segmentation_model import Interpolated
from medptq.scans.prepared import Prepared
from medptq.scans.scan import LabelArray

_AT_ONCE = 1 << 23
"""Interpolated outputs that are held at a time: 32 MB, a few times over."""


def restore_on_gpu(
    slabs: Iterable[Slab],
    prepared: Prepared,
    classes: int,
    interpolated: Interpolated,
    device: torch.device,
) -> LabelArray:
    """Do what :func:`medptq.inference.restoring.restore` does, on the device of the slabs.

    Interpolation is computed in the same order, so that labels differ only where two outputs are
    equal but for rounding.

    Raises:
        EngineError: ``engine.memory`` - the device's memory does not suffice.
    """
    if all(is_on_grid(axis) for axis in prepared.axes):
        interpolated = "labels"
    samples = [
        samples_of(axis, prepared.scan_shape[axis.scan_axis], interpolated)
        for axis in prepared.axes
    ]
    with memory_as_error("Finding the labels"):
        # 16 bits hold more classes than any memory does; the sign is undone at the end.
        kind = torch.uint8 if classes <= 256 else torch.int16
        labels = torch.zeros(prepared.scan_shape, dtype=kind, device=device)
        view = labels.permute([axis.scan_axis for axis in prepared.axes])
        target = view[tuple(axis.place for axis in samples)]
        axes = [_Axis.of(sample, device) for sample in samples]
        before: torch.Tensor | None = None
        for slab in slabs:
            _fill(target, slab, before, axes, interpolated)
            dim = 1 + slab.axis
            before = slab.values.narrow(dim, slab.values.shape[dim] - 1, 1).clone()
        found = labels.cpu().numpy()
    return found if classes <= 256 else found.view(np.uint16)


@dataclass(frozen=True)
class _Axis:
    """Samples along an axis, on a device.

    Attributes:
        lower: Network index below each, on the host.
        upper: Network index above each, on the host; ``lower`` where each is on a voxel.
        on_device: Both, on the device.
        fraction: How far each is from ``lower`` to ``upper``; None where each is on a voxel.
    """

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    on_device: tuple[torch.Tensor, torch.Tensor]
    fraction: torch.Tensor | None

    @classmethod
    def of(cls, samples: Samples, device: torch.device) -> _Axis:
        """Take the samples to a device."""
        lower, upper = samples.lower, samples.upper
        is_between = ~np.isin(samples.fraction, (0, 1))
        fraction = torch.from_numpy(samples.fraction).to(device) if is_between.any() else None
        if fraction is None:
            lower = upper = lower + samples.fraction.astype(np.int64)
        on_device = torch.from_numpy(lower).to(device), torch.from_numpy(upper).to(device)
        return cls(lower, upper, on_device, fraction)

    def is_whole(self, length: int) -> bool:
        """Tell whether the samples are all voxels of an axis, in their order."""
        return self.fraction is None and np.array_equal(self.lower, np.arange(length))

    def interpolate(self, values: torch.Tensor, dim: int) -> torch.Tensor:
        """Interpolate values along a dimension."""
        if self.is_whole(values.shape[dim]):
            return values
        lower, upper = self.on_device
        found = values.index_select(dim, lower)
        if self.fraction is None:
            return found
        return _lerp(found, values.index_select(dim, upper), self.fraction, dim)


def _fill(
    target: torch.Tensor,
    slab: Slab,
    before: torch.Tensor | None,
    axes: list[_Axis],
    interpolated: Interpolated,
) -> None:
    """Write the labels of the scan's planes up to a slab's last row.

    Args:
        target: Labels [D, H, W] of the samples.
        slab: The slab.
        before: The row before it, [classes, D, H, W] with one row; None at the first slab.
        axes: The samples.
        interpolated: What is interpolated.
    """
    axis, stop = axes[slab.axis], slab.start + slab.values.shape[1 + slab.axis]
    ready = np.flatnonzero((axis.upper >= slab.start) & (axis.upper < stop))
    others = [n for n in range(3) if n != slab.axis]
    plane = len(slab.values) * math.prod(len(axes[n].lower) for n in others)
    most = max(_AT_ONCE // max(plane, 1), 1)
    for planes in _runs(ready, axis.lower[ready] < slab.start, most):
        values = _between(slab, before, axis, planes, interpolated)
        # In the order of medptq.inference.interpolating: along the columns, then along the rows.
        for n in reversed(others):
            values = axes[n].interpolate(values, 1 + n)
        target.narrow(slab.axis, planes.start, len(planes)).copy_(decide(values))


def _runs(ready: NDArray[np.intp], apart: NDArray[np.bool_], most: int) -> list[range]:
    """Split the planes that are ready, which are neighbours, so that ``apart`` are not mixed."""
    runs: list[range] = []
    for part in (ready[apart], ready[~apart]):
        if len(part):
            last = int(part[-1]) + 1
            runs += [
                range(first, min(first + most, last)) for first in range(int(part[0]), last, most)
            ]
    return runs


def _between(
    slab: Slab,
    before: torch.Tensor | None,
    axis: _Axis,
    planes: range,
    interpolated: Interpolated,
) -> torch.Tensor:
    """Interpolate the slab's rows, or the row before it and its first, at some planes."""
    dim = 1 + slab.axis
    own = slice(planes.start, planes.stop)

    def rows(indices: NDArray[np.int64], on_device: torch.Tensor) -> torch.Tensor:
        if before is not None and indices[0] < slab.start:
            values = before.expand(*(len(planes) if n == dim else -1 for n in range(4)))
        elif np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
            values = slab.values.narrow(dim, int(indices[0]) - slab.start, len(indices))
        else:
            values = slab.values.index_select(dim, on_device - slab.start)
        if interpolated == "probabilities":
            values = torch.softmax(values.float(), dim=0)
        return contrast(values)

    lower = rows(axis.lower[own], axis.on_device[0][own])
    if axis.fraction is None:
        return lower
    return _lerp(lower, rows(axis.upper[own], axis.on_device[1][own]), axis.fraction[own], dim)


def _lerp(start: torch.Tensor, end: torch.Tensor, fraction: torch.Tensor, dim: int) -> torch.Tensor:
    shape = [-1 if n == dim else 1 for n in range(start.ndim)]
    return torch.lerp(start, end, fraction.reshape(shape))
