"""A scan as a network takes it, and the way back to the scan's own grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from medptq.scans.scan import FloatArray, LabelArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AxisMap:
    """How one axis of the network's grid lies along one axis of the scan.

    ``scan_index = offset + scale * network_index``, in voxels, between voxel centres. Orientation,
    cropping and resampling only ever permute, flip, shift and stretch axes, so three of these
    describe the whole way there and back.

    Attributes:
        scan_axis: The scan's axis: 0 for K, 1 for J, 2 for I.
        scale: Scan voxels per network voxel; negative where the axis is flipped.
        offset: Scan index at network index 0.
        length: Network voxels along this axis.
        nearest: On the way back to the scan, its voxels take the output of the nearest network
            voxel along this axis, in place of one that is interpolated.
    """

    scan_axis: int
    scale: float
    offset: float
    length: int
    nearest: bool = False


@dataclass(frozen=True)
class PreparedScan:
    """What goes into the network.

    Attributes:
        array: float32, axes [C, D, H, W] in the order of the model's card, contiguous.
        axes: For D, H and W, where they lie in the scan.
        scan_shape: Voxels of the scan along (K, J, I).
        pad_value: What surrounds it where it is smaller than a patch; None for each channel's
            minimum.
    """

    array: FloatArray
    axes: tuple[AxisMap, AxisMap, AxisMap]
    scan_shape: tuple[int, int, int]
    pad_value: float | None = None


@dataclass(frozen=True)
class PreparedOnGpu:
    """What goes into the network, on a GPU already; see :class:`PreparedScan`.

    Attributes:
        array: float32 [C, D, H, W], contiguous.
        axes: For D, H and W, where they lie in the scan.
        scan_shape: Voxels of the scan along (K, J, I).
        pad_value: What surrounds it where it is smaller than a patch.
    """

    array: Tensor
    axes: tuple[AxisMap, AxisMap, AxisMap]
    scan_shape: tuple[int, int, int]
    pad_value: float | None = None


Prepared: TypeAlias = PreparedScan | PreparedOnGpu


@dataclass(frozen=True)
class Located:
    """What a model found in a scan, on the model's own grid.

    Attributes:
        labels: Label map, axes [D, H, W] in the order of the model's card.
        axes: For D, H and W, where they lie in the scan.
        seconds: How long the network ran.
    """

    labels: LabelArray
    axes: tuple[AxisMap, AxisMap, AxisMap]
    seconds: float
