"""From the network's outputs on its own grid to the label map on the scan's grid.

Where a network voxel is a scan voxel, the label map is the class with the highest output. Where
the scan was resampled, the outputs (not the labels) are interpolated linearly between voxel
centres first, as nnU-Net does, or their softmax, as MONAI's bundles do, or the nearest voxel's
label is taken; slab by slab: of the whole volume, only labels are held.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from medptq.inference.deciding import contrast, decide, in_network_order
from medptq.inference.interpolating import interpolate
from medptq.inference.sampling import is_on_grid
from medptq.inference.sliding import Slab
from medptq.models.segmentation_model import Interpolated
from medptq.scans.prepared import AxisMap, Prepared
from medptq.scans.scan import LabelArray


def restore(
    slabs: Iterable[Slab],
    prepared: Prepared,
    classes: int,
    interpolated: Interpolated = "outputs",
) -> LabelArray:
    """Return the label map on the scan's own grid.

    Args:
        slabs: The network's outputs, in order along one axis and without gaps.
        prepared: How the network's grid lies in the scan.
        classes: Channels of the outputs.
        interpolated: What is interpolated where the scan was resampled.

    Returns:
        Labels [K, J, I], uint8, or uint16 for more than 256 classes. Voxels outside the network's
        field, which ends at its outermost voxels' edges, are 0. Between these voxels' centres and
        their edges the outermost value holds; with ``"probabilities"`` up to the next voxel's
        centre, as MONAI puts zeros there before it interpolates.
    """
    labels = np.zeros(prepared.scan_shape, np.uint8 if classes <= 256 else np.uint16)
    if all(is_on_grid(axis) for axis in prepared.axes):
        _place(slabs, prepared, labels)
    else:
        interpolate(slabs, prepared, labels, interpolated)
    return labels


def _place(slabs: Iterable[Slab], prepared: Prepared, labels: LabelArray) -> None:
    """Write each slab's labels where its voxels lie in the scan."""
    runs = [_on_scan(axis, prepared.scan_shape[axis.scan_axis]) for axis in prepared.axes]
    inside = [network for network, _ in runs]
    view = in_network_order(prepared, labels)[tuple(scan for _, scan in runs)]
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
            view[tuple(target)] = decide(contrast(values)).cpu().numpy()


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
