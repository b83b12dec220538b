"""From outputs on a resampled grid to labels on the scan's: only borders are interpolated."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medptq.inference.deciding import contrast, decide, in_network_order
from medptq.inference.sampling import Samples, samples_of
from medptq.inference.sliding import Slab
from medptq.models.segmentation_model import Interpolated
from medptq.scans.prepared import Prepared
from medptq.scans.scan import LabelArray

# Voxels of a plane up to which its operations are too short to be worth sharing among threads:
# between the planes of a head (256 x 256) and those of a body (512 x 512).
_SMALL_PLANE = 1 << 17


def interpolate(
    slabs: Iterable[Slab],
    prepared: Prepared,
    labels: LabelArray,
    interpolated: Interpolated = "outputs",
) -> None:
    """Find the labels of each of the scan's planes as soon as the rows beside it are there.

    Args:
        slabs: The network's outputs, in order along one axis and without gaps.
        prepared: How the network's grid lies in the scan.
        labels: Label map [K, J, I] of zeros; what lies in the network's field is filled in.
        interpolated: What is interpolated: the outputs, their softmax, or nothing.
    """
    samples = [
        samples_of(axis, prepared.scan_shape[axis.scan_axis], interpolated)
        for axis in prepared.axes
    ]
    target = in_network_order(prepared, labels)[tuple(axis.place for axis in samples)]
    planes = np.zeros((0, 0, 0), labels.dtype)
    across = [0, 1, 2]
    previous: _Row | None = None
    waiting: list[int] = []
    for index, (axis, values) in enumerate(_rows(slabs)):
        if previous is None:
            across.remove(axis)
            # In memory as it is written: plane by plane across the slabs' axis.
            planes = np.zeros([target.shape[n] for n in (axis, *across)], labels.dtype)
            # From the end, in the order of the rows they need: backwards where the axis is flipped.
            waiting = np.argsort(-samples[axis].lower, kind="stable").tolist()
        with _threads_for(planes[:1].size):
            if interpolated == "probabilities":
                values = torch.softmax(values.float(), dim=0)
            current = _Row.of(values)
            between = []
            while waiting and samples[axis].upper[waiting[-1]] == index:
                between.append(waiting.pop())
            if between:
                fractions = samples[axis].fraction[between].tolist()
                rows, columns = (samples[n] for n in across)
                fill = _fill_by_sign if len(values) <= 2 else _fill
                fill(
                    [planes[n] for n in between],
                    fractions,
                    previous or current,
                    current,
                    rows,
                    columns,
                )
        previous = current
    if previous is not None:
        _copy(np.moveaxis(planes, 0, axis), target)


def _copy(source: LabelArray, target: LabelArray) -> None:
    """Copy between orders in memory in planes that hold the fastest axis of each, within caches."""
    fastest = {int(np.argmin(np.abs(array.strides))) for array in (source, target)}
    axis = next(n for n in range(3) if n not in fastest)
    for one, other in zip(np.moveaxis(source, axis, 0), np.moveaxis(target, axis, 0), strict=True):
        other[...] = one


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
class _Row:
    """One row of the network's outputs.

    Attributes:
        values: What decides the labels, [channels, rows, columns]; see
            :func:`medptq.inference.deciding.contrast`.
        classes: How many labels there are.
    """

    values: torch.Tensor
    classes: int

    @classmethod
    def of(cls, outputs: torch.Tensor) -> _Row:
        """Take a row of outputs, [classes, rows, columns]."""
        return cls(contrast(outputs), len(outputs))

    @functools.cached_property
    def labels(self) -> LabelArray:
        """The labels at the network's own voxels, [rows, columns]."""
        return decide(self.values).cpu().numpy()


def _rows(slabs: Iterable[Slab]) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield each row across the slabs' axis; it stays valid until the one after the next."""
    for slab in slabs:
        last = slab.values.shape[1 + slab.axis] - 1
        for row in range(last + 1):
            plane = slab.values.select(1 + slab.axis, row)
            yield slab.axis, plane.clone() if row == last else plane


def _fill(
    planes: Sequence[LabelArray],
    fractions: Sequence[float],
    below: _Row,
    above: _Row,
    rows: Samples,
    columns: Samples,
) -> None:
    """Write the labels of the scan's planes between two rows of the network's outputs.

    Where the eight network voxels around a scan voxel have one label, so has the scan voxel: an
    interpolated output is their mean, so the same class stays the highest. Only near borders
    between labels is there anything to interpolate.

    Args:
        planes: The planes [rows, columns], 0 so far.
        fractions: How far each is from ``below`` to ``above``.
        below: The network's row before the planes.
        above: The network's row after the planes.
        rows: Where the planes' rows lie in the network's.
        columns: Where the planes' columns lie in the network's.
    """
    cells = _cells(np.minimum(below.labels, above.labels), np.minimum)
    highest = _cells(np.maximum(below.labels, above.labels), np.maximum)
    border = below.classes  # one more than the last label
    cells[cells != highest] = border
    # Most of a scan is background, and that the planes are already.
    down = rows.within(np.logical_or.reduce(cells, axis=1))
    along = columns.within(np.logical_or.reduce(cells, axis=0))
    labels = cells.take(columns.lower[along], axis=1).take(rows.lower[down], axis=0)
    row, column = np.nonzero(labels == border)
    between = _Between.of(rows, columns, down.start + row, along.start + column, below.values)
    for plane, fraction in zip(planes, fractions, strict=True):
        if len(row):
            values = torch.lerp(below.values, above.values, fraction)
            labels[row, column] = decide(between.interpolate(values)).cpu().numpy()
        plane[down, along] = labels


def _fill_by_sign(
    planes: Sequence[LabelArray],
    fractions: Sequence[float],
    below: _Row,
    above: _Row,
    rows: Samples,
    columns: Samples,
) -> None:
    """Do what :func:`_fill` does for values of one channel, where labels are their signs.

    Interpolating so little everywhere takes less time than finding out where it is needed.
    """
    device = below.values.device
    left, right, across, up, down, along = (
        torch.from_numpy(array).to(device)
        for axis in (columns, rows)
        for array in (axis.lower, axis.upper, axis.fraction)
    )
    for plane, fraction in zip(planes, fractions, strict=True):
        values = torch.lerp(below.values[0], above.values[0], fraction)
        values = torch.lerp(values.index_select(1, left), values.index_select(1, right), across)
        values = torch.lerp(
            values.index_select(0, up), values.index_select(0, down), along[:, None]
        )
        np.greater(values.cpu().numpy(), 0, out=plane.view(np.bool_))  # torch's > is slow on CPUs


@dataclass(frozen=True)
class _Between:
    """Places between the network's voxels in a row.

    Attributes:
        corners: For the voxel row above and below each place, the voxels to its left and right,
            as indices into the flattened row.
        across: How far each place is from left to right.
        down: How far each place is from above to below.
    """

    corners: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    across: torch.Tensor
    down: torch.Tensor

    @classmethod
    def of(
        cls,
        rows: Samples,
        columns: Samples,
        row: NDArray[np.intp],
        column: NDArray[np.intp],
        values: torch.Tensor,
    ) -> _Between:
        """Take the places of these rows and columns of the scan, for ``values`` such as these."""

        def on_device(array: NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(array).to(values.device)

        left, right = columns.lower[column], columns.upper[column]
        starts = [network_row[row] * values.shape[2] for network_row in (rows.lower, rows.upper)]
        return cls(
            corners=tuple((on_device(start + left), on_device(start + right)) for start in starts),
            across=on_device(columns.fraction[column]),
            down=on_device(rows.fraction[row]),
        )

    def interpolate(self, values: torch.Tensor) -> torch.Tensor:
        """Interpolate values [channels, rows, columns] to [channels, places]."""
        values = values.reshape(len(values), -1)
        above, below = (
            torch.lerp(values.index_select(1, left), values.index_select(1, right), self.across)
            for left, right in self.corners
        )
        return torch.lerp(above, below, self.down)


def _cells(labels: LabelArray, choose: np.ufunc) -> LabelArray:
    """Choose among the four corners of each cell of a row, which is named by its lowest corner."""
    if labels.shape[0] > 1:
        labels = choose(labels[:-1], labels[1:])
    return choose(labels[:, :-1], labels[:, 1:]) if labels.shape[1] > 1 else labels
