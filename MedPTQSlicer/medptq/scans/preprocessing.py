"""From a scan to a network's input, by the steps on the model's card.

Each step is a mapping with its name under ``"step"`` and its arguments beside it. Where a step
takes one number for each axis, they are in the network's order (D, H, W), which is the image's I,
J, K for the axis order ``"IJK"`` and its K, J, I for ``"KJI"``. Arguments in brackets may be left
out.

==================== ======================= ======================================================
step                 arguments               what it does
==================== ======================= ======================================================
``orient``           to                      Permute and flip the axes so that the image's I, J and
                                             K run as nearly as possible to the three letters of
                                             ``to``, such as ``"RAS"`` (for either axis order).
``transpose``        order                   Take the axes in another order: the places of the new
                                             D, H and W among the old, from 0.
``spacing``          mm, [interpolation],    Resample to a voxel size in mm along D, H and W;
                     [align]                 ``"linear"`` (default), ``"cubic"`` or ``"nearest"``.
                                             ``align`` is ``"edges"`` (default) or ``"monai"``,
                                             which mostly keeps the first voxel's centre.
``spacing_nnunet``   mm, [separate]          Resample as nnU-Net does: the whole field is stretched
                                             to about this voxel size, by cubic B-splines within
                                             the range of intensities; with ``separate`` (default
                                             true), along an axis with voxels of more than three
                                             times another's length the nearest plane is taken.
``resize``           size                    Stretch to so many voxels along D, H and W, linearly.
``clip``             low, high               Limit the intensities to this range.
``clip_percentiles`` low, high               Limit each channel to its own percentiles, 0 to 100.
``scale_range``      from, to, [clip]        Map the range ``from`` linearly to ``to``; with
                                             ``clip`` true, limit what lies outside to ``to``.
``zscore``           [nonzero], [filled]     Each channel to mean 0 and standard deviation 1; with
                                             ``nonzero`` true, 0 is background and stays so; with
                                             ``filled`` true as well, only where every channel is
                                             0, and not within what is not.
``minmax``           [to]                    Map each channel's smallest and largest intensity to
                                             the range ``to`` (default 0 to 1).
``scale``            factor, offset          Multiply by ``factor`` and add ``offset``.
``crop_foreground``  above, [margin_mm]      Crop to the voxels above this intensity in any
                                             channel, and a margin around them (default 0).
``crop_nonzero``                             Crop to the voxels that are not 0 in some channel.
``crop_to_model``    model, [labels], margin Crop to what another model finds in the scan: all of
                                             it, or only some labels; ``margin`` is a share of the
                                             box's size, added on each side.
``pad_with``         value                   What surrounds a scan that is smaller than a patch, in
                                             place of each channel's minimum.
==================== ======================= ======================================================

``clip``, ``scale_range``, ``zscore`` and ``minmax`` take ``channels`` as well, the list of those
that they change, from 0; all if it is left out.

Unless said otherwise resampling is edge to edge, as in
``torch.nn.functional.interpolate(align_corners=False)``, and no step smooths before it takes fewer
voxels, as none of the networks' own pipelines do.
"""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from medptq.errors import ScanError
from medptq.scans.grid import AxisOrder, Grid
from medptq.scans.prepared import Located, PreparedOnGpu, PreparedScan
from medptq.scans.scan import Scan
from medptq.scans.step_arguments import ArgumentError
from medptq.scans.steps import STEPS, Work, runs_on_gpu

if TYPE_CHECKING:
    import torch

Step: TypeAlias = Mapping[str, Any]


class Started:
    """A scan whose first steps of preprocessing are done, for networks that begin with the same.

    Args:
        scan: The scan.
        grid: It after the steps.
        done: The steps.
    """

    def __init__(self, scan: Scan, grid: Grid | None = None, done: Sequence[Step] = ()) -> None:
        self.scan = scan
        self._grid = grid
        self._done = list(done)

    def begin(self, steps: Sequence[Step], axis_order: AxisOrder) -> tuple[Grid, Sequence[Step]]:
        """Return a grid to go on with, and the steps that are still to do on it."""
        count = len(self._done)
        if (
            self._grid is not None
            and self._grid.axis_order == axis_order
            and list(steps[:count]) == self._done
        ):
            return self._grid.branch(), steps[count:]
        return Grid(self.scan, axis_order), steps


Locator: TypeAlias = Callable[[Started, str], Located]


def prepare(
    scan: Scan | Started,
    steps: Sequence[Step],
    axis_order: AxisOrder,
    locate: Locator | None = None,
) -> PreparedScan:
    """Prepare a scan for a network.

    Beside the scan, at most two arrays of its size are in memory at a time (cubic interpolation
    takes more). Where no step changes the voxels, the result shares the scan's memory.

    Args:
        scan: The scan, or one that has been started on; it is not changed.
        steps: The steps in order, as the module's documentation lists them.
        axis_order: ``"IJK"`` if the network's D runs along the image's I axis, ``"KJI"`` if along
            its K axis.
        locate: Runs the model of an id on a scan that has been started on, and returns what it
            found; for the step ``crop_to_model``.

    Returns:
        The network's input, and where its axes lie in the scan.

    Raises:
        ScanError: A step is not known or its arguments are not what it takes (``step``);
            nothing is left after cropping (``foreground``, ``not-found``) or to normalize
            (``constant``).
    """
    started = scan if isinstance(scan, Started) else Started(scan)
    grid = _after(started, steps, axis_order, locate, None)
    return PreparedScan(grid.contiguous(), grid.axes, started.scan.shape, grid.pad_value)


def prepare_on_gpu(
    scan: Scan | Started,
    steps: Sequence[Step],
    axis_order: AxisOrder,
    locate: Locator | None,
    device: torch.device,
) -> PreparedOnGpu:
    """Prepare a scan for a network on a GPU: see :func:`prepare`.

    The last steps, as many as can be, are done there; they differ from the CPU's by rounding.

    Args:
        scan: As for :func:`prepare`.
        steps: As for :func:`prepare`.
        axis_order: As for :func:`prepare`.
        locate: As for :func:`prepare`.
        device: The GPU.

    Raises:
        ScanError: As for :func:`prepare`.
        RuntimeError: The GPU's memory does not suffice.
    """
    started = scan if isinstance(scan, Started) else Started(scan)
    grid = _after(started, steps, axis_order, locate, device)
    return PreparedOnGpu(grid.move_to(device), grid.axes, started.scan.shape, grid.pad_value)


def _after(
    started: Started,
    steps: Sequence[Step],
    axis_order: AxisOrder,
    locate: Locator | None,
    device: torch.device | None,
) -> Grid:
    """Return the scan's grid after the steps; the last of them are done on the device, if any."""
    grid, remaining = started.begin(steps, axis_order)
    done = list(steps[: len(steps) - len(remaining)])
    find = None if locate is None else partial(_locate, locate, started.scan, grid, done)
    work = Work(grid, find)
    for place, step in enumerate(remaining):
        if device is not None and all(map(runs_on_gpu, remaining[place:])):
            grid.move_to(device)
        name = step.get("step")
        function = STEPS.get(name) if isinstance(name, str) else None
        if function is None:
            raise _step_error(name, f"the steps that are known are {', '.join(STEPS)}")
        arguments = {
            key + "_" if keyword.iskeyword(key) else key: value
            for key, value in step.items()
            if key != "step"
        }
        try:
            inspect.signature(function).bind(work, **arguments)
        except TypeError as error:
            raise _step_error(name, str(error)) from error
        try:
            function(work, **arguments)
        except ArgumentError as error:
            raise _step_error(name, str(error)) from error
        done.append(step)
    return grid


def _locate(
    locate: Locator, scan: Scan, grid: Grid, done: Sequence[Step], model_id: str
) -> Located:
    return locate(Started(scan, grid, done), model_id)


def _step_error(name: object, why: str) -> ScanError:
    return ScanError(
        "step",
        f"The preprocessing step {name!r} cannot be done",
        why=why,
        todo="Correct the preprocessing on the model's card",
    )
