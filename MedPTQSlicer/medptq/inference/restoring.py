"""From the network's outputs on its own grid to the label map on the scan's grid.

Where a network voxel is a scan voxel, the label map is the class with the highest output. Where
the scan was resampled, the outputs (not the labels) are interpolated linearly between voxel
centres first, as nnU-Net and MONAI do, slab by slab: of the whole volume, only labels are held.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from medptq.inference.sliding import Slab
from medptq.scans.prepared import AxisMap, PreparedScan
from medptq.scans.scan import LabelArray

# Voxels of a plane up to which its operations are too short to be worth sharing among threads:
# between the planes of a head (256 x 256) and those of a body (512 x 512).
_SMALL_PLANE = 1 << 17

# Network voxels that are off a scan voxel by less than this share of it are on it.
_ON_GRID = 1e-3


def restore(slabs: Iterable[Slab], prepared: PreparedScan, classes: int) -> LabelArray:
    """Return the label map on the scan's own grid.

    Args:
        slabs: The network's outputs, in order along one axis and without gaps.
        prepared: How the network's grid lies in the scan.
        classes: Channels of the outputs.

    Returns:
        Labels [K, J, I], uint8, or uint16 for more than 256 classes. Voxels outside the network's
        field, which ends at its outermost voxels' edges, are 0. Between these voxels' centres and
        their edges the outermost value holds.
    """
    labels = np.zeros(prepared.scan_shape, np.uint8 if classes <= 256 else np.uint16)
    if all(_is_on_grid(axis) for axis in prepared.axes):
        _place(slabs, prepared, labels)
    else:
        _interpolate(slabs, prepared, labels)
    return labels


def _is_on_grid(axis: AxisMap) -> bool:
    stretch = abs(abs(axis.scale) - 1) * axis.length
    return stretch < _ON_GRID and abs(axis.offset - round(axis.offset)) < _ON_GRID


def _place(slabs: Iterable[Slab], prepared: PreparedScan, labels: LabelArray) -> None:
    """Write each slab's labels where its voxels lie in the scan."""
    runs = [_on_scan(axis, prepared.scan_shape[axis.scan_axis]) for axis in prepared.axes]
    inside = [network for network, _ in runs]
    view = _in_network_order(prepared, labels)[tuple(scan for _, scan in runs)]
    for slab in slabs:
        field = list(inside)
        target = [slice(None)] * 3
        start, stop = inside[slab.axis].start, inside[slab.axis].stop
        first = max(start, slab.start)
        last = max(min(stop, slab.start + slab.values.shape[1 + slab.axis]), first)
        field[slab.axis] = slice(first - slab.start, last - slab.start)
        target[slab.axis] = slice(first - start, last - start)
        values = slab.values[(slice(None), *field)]
        if values.numel():
            view[tuple(target)] = _decide(_contrast(values)).cpu().numpy()


def _on_scan(axis: AxisMap, scan_length: int) -> tuple[slice, slice]:
    """Return the network indices that lie in the scan, and their scan indices, in their order."""
    step = 1 if axis.scale > 0 else -1
    offset = round(axis.offset)
    # Network indices at the scan's first and last voxel, in the network's order.
    low, high = sorted(((0 - offset) * step, (scan_length - 1 - offset) * step))
    start = max(low, 0)
    stop = max(min(high + 1, axis.length), start)
    if start == stop:
        return slice(0, 0), slice(0, 0)
    end = offset + step * stop
    return slice(start, stop), slice(offset + step * start, end if end >= 0 else None, step)


def _interpolate(slabs: Iterable[Slab], prepared: PreparedScan, labels: LabelArray) -> None:
    """Find the labels of each of the scan's planes as soon as the rows beside it are there."""
    samples = [_samples(axis, prepared.scan_shape[axis.scan_axis]) for axis in prepared.axes]
    field = np.zeros([len(axis.lower) for axis in samples], labels.dtype)
    planes = field
    previous: _Row | None = None
    waiting: list[int] = []
    for index, (axis, values) in enumerate(_rows(slabs)):
        along = samples[axis]
        if previous is None:
            # In memory as it is written: plane by plane across the slabs' axis.
            planes = np.zeros((field.shape[axis], *np.delete(field.shape, axis)), labels.dtype)
            field = np.moveaxis(planes, 0, axis)
            across = [samples[other].to(values.device) for other in range(3) if other != axis]
            # From the end, in the order of the rows they need: backwards where the axis is flipped.
            waiting = np.argsort(-along.lower.numpy(), kind="stable").tolist()
        with _threads_for(planes[:1].size):
            current = _Row(values, _decide(values))
            while waiting and along.upper[waiting[-1]] == index:
                sample = waiting.pop()
                below = current if previous is None or along.lower[sample] == index else previous
                plane = _plane(below, current, along.fraction[sample].item(), across[0], across[1])
                planes[sample] = plane.cpu().numpy()
        previous = current
    _in_network_order(prepared, labels)[tuple(axis.place for axis in samples)] = field


@contextlib.contextmanager
def _threads_for(plane_size: int) -> Iterator[None]:
    """Compute small planes on one thread.

    A plane takes a dozen short operations. Shared among threads, each of them ends with waiting
    for the slowest thread, and on a busy machine that one may not even be running.
    """
    threads = torch.get_num_threads()
    if threads == 1 or plane_size > _SMALL_PLANE:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Samples:
    """The scan's voxels along one axis of the network that lie in its field.

    Attributes:
        place: Where they lie along the scan's axis.
        lower: Network index below each of them, int64.
        upper: Network index above each of them, int64.
        fraction: How far each is from ``lower`` to ``upper``, from 0 to 1, float32.
    """

    place: slice
    lower: torch.Tensor
    upper: torch.Tensor
    fraction: torch.Tensor

    def to(self, device: torch.device) -> _Samples:
        """Return the same on ``device``."""
        return _Samples(
            self.place, self.lower.to(device), self.upper.to(device), self.fraction.to(device)
        )


def _samples(axis: AxisMap, scan_length: int) -> _Samples:
    places = (np.arange(scan_length) - axis.offset) / axis.scale
    edge = 0.5 + 1e-6
    inside = np.flatnonzero((places >= -edge) & (places <= axis.length - 1 + edge))
    places = np.clip(places[inside], 0, axis.length - 1)
    lower = np.clip(np.floor(places).astype(np.int64), 0, max(axis.length - 2, 0))
    first = int(inside[0]) if len(inside) else 0
    return _Samples(
        place=slice(first, first + len(inside)),
        lower=torch.from_numpy(lower),
        upper=torch.from_numpy(np.minimum(lower + 1, axis.length - 1)),
        fraction=torch.from_numpy((places - lower).astype(np.float32)),
    )


@dataclass(frozen=True)
class _Row:
    """One row of the network's outputs.

    Attributes:
        values: What decides the labels, [channels, rows, columns]; see :func:`_contrast`.
        labels: The labels at the network's own voxels, [rows, columns].
    """

    values: torch.Tensor
    labels: torch.Tensor


def _rows(slabs: Iterable[Slab]) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield each row across the slabs' axis; it stays valid until the one after the next."""
    for slab in slabs:
        values = _contrast(slab.values)
        last = values.shape[1 + slab.axis] - 1
        for row in range(last + 1):
            plane = values.select(1 + slab.axis, row)
            yield slab.axis, plane.clone() if row == last else plane


def _plane(
    below: _Row, above: _Row, fraction: float, rows: _Samples, columns: _Samples
) -> torch.Tensor:
    """Return the labels of the scan's plane between two rows of the network's outputs.

    Where the eight network voxels around a scan voxel have one label, so has the scan voxel: an
    interpolated output is their mean, so the same class stays the highest. Only near borders
    between labels is there anything to interpolate.
    """
    lowest = _cells(torch.minimum(below.labels, above.labels), torch.minimum)
    highest = _cells(torch.maximum(below.labels, above.labels), torch.maximum)
    labels = lowest.index_select(0, rows.lower).index_select(1, columns.lower)
    border = (lowest != highest).index_select(0, rows.lower).index_select(1, columns.lower)
    row, column = border.nonzero(as_tuple=True)
    if len(row):
        values = torch.lerp(below.values, above.values, fraction)
        width = values.shape[2]
        values = values.reshape(len(values), -1)
        left, right, across = columns.lower[column], columns.upper[column], columns.fraction[column]
        ends = [
            torch.lerp(
                values.index_select(1, network_row * width + left),
                values.index_select(1, network_row * width + right),
                across,
            )
            for network_row in (rows.lower[row], rows.upper[row])
        ]
        labels[row, column] = _decide(torch.lerp(ends[0], ends[1], rows.fraction[row]))
    return labels


def _cells(
    labels: torch.Tensor, choose: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Choose among the four corners of each cell of a row, which is named by its lowest corner."""
    if labels.shape[0] > 1:
        labels = choose(labels[:-1], labels[1:])
    return choose(labels[:, :-1], labels[:, 1:]) if labels.shape[1] > 1 else labels


def _in_network_order(prepared: PreparedScan, labels: LabelArray) -> LabelArray:
    """Return a view of the label map with its axes in the network's order, unflipped."""
    return labels.transpose([axis.scan_axis for axis in prepared.axes])


def _contrast(values: torch.Tensor) -> torch.Tensor:
    """Return what decides the labels: of two classes, their difference alone, at half the work.

    Where two numbers are close their difference is exact in any floating-point type, so it is
    taken before they are widened.
    """
    return (values[1:] - values[:1] if len(values) == 2 else values).float()


def _decide(values: torch.Tensor) -> torch.Tensor:
    """Return the class with the highest output; the first of equals."""
    if len(values) == 1:
        return (values[0] > 0).to(torch.uint8)
    # On CPUs max is several times faster than argmax along the first axis.
    labels = values.max(dim=0).indices
    return labels.to(torch.uint8 if len(values) <= 256 else torch.int32)
