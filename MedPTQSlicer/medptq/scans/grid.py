"""A scan's array on its way to the network, and the record of where each of its axes lies."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medptq.scans.geometry import closest_axes
from medptq.scans.linear import interpolated, interpolated_on_gpu
from medptq.scans.monai_spacing import monai_placement
from medptq.scans.prepared import AxisMap
from medptq.scans.scan import FloatArray, Scan
from medptq.scans.spline import separate_axis, stretch, stretch_on_gpu

if TYPE_CHECKING:
    import torch
    from torch import Tensor

AxisOrder: TypeAlias = Literal["IJK", "KJI"]
Interpolation: TypeAlias = Literal["linear", "cubic", "nearest"]
Alignment: TypeAlias = Literal["edges", "monai"]

# The patient axis that a letter names, and the way along it.
PATIENT_AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}

_INTERPOLATORS = {
    "cubic": sitk.sitkBSpline,
    "nearest": sitk.sitkNearestNeighbor,
}
# Resampling by so little that no voxel moves by more than this share of itself is left out.
_UNMOVED = 0.01


class Grid:
    """The array and its axes; permuting, flipping, cropping and stretching keep the two in step.

    It starts on the scan's own voxels without a copy, so ``array`` may be memory that others read:
    :meth:`own` gives an array that may be written to. Old arrays are let go as soon as the new one
    is there, because a CT at full size is 400 MB each.

    Attributes:
        axis_order: Whether the network's D runs along the image's I axis or along its K axis.
        array: float32 [C, D, H, W], not always contiguous.
        on_gpu: What was the array, once it is on a GPU: from then on it can only be resampled, and
            its intensities changed, as :func:`medptq.scans.steps.runs_on_gpu` says.
        axes: Where D, H and W lie in the scan.
        pad_value: What surrounds it where it is smaller than a patch; None for each channel's
            minimum.
    """

    def __init__(self, scan: Scan, axis_order: AxisOrder) -> None:
        order = (2, 1, 0) if axis_order == "IJK" else (0, 1, 2)
        self._scan = scan
        self.axis_order = axis_order
        self._lent = scan.array
        self.pad_value: float | None = None
        self.on_gpu: Tensor | None = None
        self.array: FloatArray = scan.array.transpose(0, *(1 + axis for axis in order))
        self.axes = _triple([AxisMap(axis, 1.0, 0.0, scan.shape[axis]) for axis in order])

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along (D, H, W)."""
        d, h, w = (self._scan.spacing[axis.scan_axis] * abs(axis.scale) for axis in self.axes)
        return d, h, w

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels along (D, H, W)."""
        d, h, w = (axis.length for axis in self.axes)
        return d, h, w

    def contiguous(self) -> FloatArray:
        """Return the array in C order, copied only if it is not."""
        return self.array if self.array.flags.c_contiguous else _copied(self.array)

    def own(self) -> Tensor:
        """Return the voxels for writing to, copied if they are memory that others read."""
        import torch

        if self.on_gpu is not None:
            return self.on_gpu
        # PyTorch has no arrays that run backwards.
        if np.may_share_memory(self.array, self._lent) or min(self.array.strides) < 0:
            self.array = _copied(self.array)
        return torch.from_numpy(self.array)

    def move_to(self, device: torch.device) -> Tensor:
        """Put the voxels on a GPU, as a contiguous copy, if they are not there already."""
        import torch

        if self.on_gpu is None:
            # As they lie in memory; they are turned over there.
            flipped = tuple(n for n, stride in enumerate(self.array.strides) if stride < 0)
            forwards = torch.from_numpy(np.flip(self.array, flipped))
            self.array = np.empty((len(self.array), 0, 0, 0), dtype=np.float32)
            moved = forwards.to(device, copy=True)
            self.on_gpu = (moved.flip(flipped) if flipped else moved).contiguous()
        return self.on_gpu

    def branch(self) -> Grid:
        """Return another grid that starts where this one is, without a copy.

        The branch does not write to this grid's array; let it go before this grid is used again.
        """
        branch = copy.copy(self)
        branch._lent = self.array
        return branch

    def orient(self, code: str) -> None:
        """Permute and flip the axes so that the image runs along ``code`` as nearly as possible.

        Args:
            code: Where the image's I, J and K axes shall run to, such as ``"RAS"``, whichever of
                them the network takes first.
        """
        runs = closest_axes(self._scan.ijk_to_ras)
        letters = code if self.axis_order == "IJK" else code[::-1]
        source, flipped = [], []
        for letter in letters:
            patient, way = PATIENT_AXES[letter]
            position, axis = next(
                (n, axis)
                for n, axis in enumerate(self.axes)
                if runs[2 - axis.scan_axis][0] == patient
            )
            source.append(position)
            flipped.append(runs[2 - axis.scan_axis][1] * np.sign(axis.scale) != way)
        self.array = self.array.transpose(0, *(1 + n for n in source))
        flips = (slice(None, None, -1 if flip else 1) for flip in flipped)
        self.array = self.array[(slice(None), *flips)]
        self.axes = _triple(
            [
                replace(
                    self.axes[n],
                    scale=-self.axes[n].scale,
                    offset=self.axes[n].offset + self.axes[n].scale * (self.axes[n].length - 1),
                )
                if flip
                else self.axes[n]
                for n, flip in zip(source, flipped, strict=True)
            ]
        )

    def transpose(self, order: Sequence[int]) -> None:
        """Take the axes in another order, each by its place among D, H and W now."""
        self.array = self.array.transpose(0, *(1 + n for n in order))
        self.axes = _triple([self.axes[n] for n in order])

    def crop(self, box: Sequence[tuple[int, int]]) -> None:
        """Keep the voxels from the first to before the last index along D, H and W."""
        self.array = self.array[(slice(None), *(slice(first, last) for first, last in box))]
        self.axes = _triple(
            [
                replace(axis, offset=axis.offset + axis.scale * first, length=last - first)
                for axis, (first, last) in zip(self.axes, box, strict=True)
            ]
        )

    def resize(self, size: Sequence[int]) -> None:
        """Stretch the whole field to ``size`` voxels along D, H and W, linearly."""
        steps = [axis.length / length for axis, length in zip(self.axes, size, strict=True)]
        self._resample(steps, _from_edges(steps), size, "linear")

    def respace(
        self, spacing: Sequence[float], interpolation: Interpolation, align: Alignment = "edges"
    ) -> None:
        """Resample to a voxel size in mm along D, H and W.

        The field is kept to the nearest voxel; its first edge stays where it is, or what
        ``monai.transforms.Spacing`` keeps there.
        """
        steps = [new / old for new, old in zip(spacing, self.spacing, strict=True)]
        if align == "monai":
            firsts, size = monai_placement(self._steps_in_mm(), self.size, spacing)
        else:
            firsts = _from_edges(steps)
            size = [
                max(1, round(axis.length / step))
                for axis, step in zip(self.axes, steps, strict=True)
            ]
        self._resample(steps, firsts, size, interpolation)

    def _steps_in_mm(self) -> NDArray[np.float64]:
        """Return the steps from voxel to voxel along D, H and W; the columns of [3, 3]."""
        matrix = self._scan.stored_ijk_to_ras
        columns = (self._scan.ijk_to_ras if matrix is None else matrix)[:3, :3].T
        return np.array([columns[2 - axis.scan_axis] * axis.scale for axis in self.axes]).T

    def respace_as_nnunet(self, spacing: Sequence[float], *, separate: bool) -> None:
        """Resample to a voxel size in mm along D, H and W, about: the whole field is stretched.

        Args:
            spacing: The voxel size.
            separate: Take the nearest plane, here and on the way back, along an axis with voxels
                of more than three times another's length.
        """
        old = self.spacing
        size = [
            max(1, round(before / after * axis.length))
            for before, after, axis in zip(old, spacing, self.axes, strict=True)
        ]
        if tuple(size) == self.size:
            return
        axis = separate_axis(old, spacing) if separate else None
        if self.on_gpu is not None:
            self.on_gpu = stretch_on_gpu(self.on_gpu, size, axis)
        else:
            self.array = stretch(self.array, size, axis)
        back = separate_axis(spacing, old) if separate else None
        steps = [axis.length / length for axis, length in zip(self.axes, size, strict=True)]
        self._move_axes(steps, _from_edges(steps), size)
        self.axes = _triple([replace(axis, nearest=n == back) for n, axis in enumerate(self.axes)])

    def _resample(
        self,
        steps: Sequence[float],
        firsts: Sequence[float],
        size: Sequence[int],
        interpolation: Interpolation,
    ) -> None:
        """Take a voxel every ``steps`` old voxels, the first of them at the index ``firsts``.

        Beyond the outermost voxels' centres the edge's intensity goes on.
        """
        moved = max(
            abs(first) + abs(step - 1) * n
            for first, step, n in zip(firsts, steps, size, strict=True)
        )
        if tuple(size) == self.size and moved < _UNMOVED:
            return
        if self.on_gpu is not None:
            self.on_gpu = interpolated_on_gpu(self.on_gpu, steps, firsts, size)
        elif interpolation == "linear":
            self.array = interpolated(self.array, steps, firsts, size)
        else:
            self._resample_with_itk(steps, firsts, size, _INTERPOLATORS[interpolation])
        self._move_axes(steps, firsts, size)

    def _move_axes(
        self, steps: Sequence[float], firsts: Sequence[float], size: Sequence[int]
    ) -> None:
        """Note that there is a voxel every ``steps`` old ones now, the first at ``firsts``."""
        self.axes = _triple(
            [
                replace(
                    axis,
                    scale=axis.scale * step,
                    offset=axis.offset + axis.scale * first,
                    length=int(length),
                )
                for axis, step, first, length in zip(self.axes, steps, firsts, size, strict=True)
            ]
        )

    def _resample_with_itk(
        self,
        steps: Sequence[float],
        firsts: Sequence[float],
        size: Sequence[int],
        interpolator: int,
    ) -> None:
        # Where one axis leaves the field, ITK would take the nearest voxel along all of them.
        inside = [
            np.flatnonzero(np.abs(first + step * np.arange(n) - (length - 1) / 2) < length / 2)
            for first, step, n, length in zip(firsts, steps, size, self.size, strict=True)
        ]
        beyond = [
            (int(n[0]), int(count - 1 - n[-1])) for n, count in zip(inside, size, strict=True)
        ]
        resampler = sitk.ResampleImageFilter()
        resampler.SetInterpolator(interpolator)
        # SimpleITK counts the axes backwards; a grid without geometry makes its mm our voxels.
        resampler.SetSize([len(n) for n in reversed(inside)])
        resampler.SetOutputSpacing([float(step) for step in reversed(steps)])
        resampler.SetOutputOrigin(
            [float(f + s * n[0]) for f, s, n in zip(firsts, steps, inside, strict=True)][::-1]
        )
        images = [sitk.GetImageFromArray(channel) for channel in self.contiguous()]
        # From here on only the images hold the voxels, unless they are still the scan's.
        self.array = np.empty((len(images), *size), dtype=np.float32)
        for channel in range(len(images)):
            images[channel] = resampler.Execute(images[channel])
            found = sitk.GetArrayViewFromImage(images[channel])
            self.array[channel] = np.pad(found, beyond, mode="edge") if np.any(beyond) else found
            del found
            images[channel] = sitk.Image()


def _from_edges(steps: Sequence[float]) -> list[float]:
    """Return where the first of the new voxels lie if the field's first edge stays where it is.

    With them, new index n lies at old index ``(n + 0.5) * step - 0.5``, which is what
    ``torch.nn.functional.interpolate`` does with ``align_corners=False``.
    """
    return [0.5 * step - 0.5 for step in steps]


def _copied(array: FloatArray) -> FloatArray:
    """Copy to C order plane by plane: each fits the cache, several times as fast as all at once."""
    copied = np.empty(array.shape, dtype=np.float32)
    for h in range(array.shape[2]):
        copied[:, :, h] = array[:, :, h]
    return copied


def _triple(axes: list[AxisMap]) -> tuple[AxisMap, AxisMap, AxisMap]:
    d, h, w = axes
    return d, h, w
