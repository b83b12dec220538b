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
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from medptq.errors import ScanError
from medptq.scans import intensity
from medptq.scans.cropping import foreground_box, located_box, nonzero_box
from medptq.scans.grid import PATIENT_AXES, AxisOrder, Grid
from medptq.scans.prepared import Located, PreparedScan
from medptq.scans.scan import FloatArray, Scan

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
    grid, remaining = started.begin(steps, axis_order)
    work = _Work(started.scan, grid, list(steps[: len(steps) - len(remaining)]), locate)
    for step in remaining:
        name = step.get("step")
        function = _STEPS.get(name) if isinstance(name, str) else None
        if function is None:
            raise _step_error(name, f"the steps that are known are {', '.join(_STEPS)}")
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
        except _ArgumentError as error:
            raise _step_error(name, str(error)) from error
        work.done.append(step)
    array = work.grid.contiguous()
    return PreparedScan(array, work.grid.axes, started.scan.shape, work.grid.pad_value)


@dataclass(frozen=True)
class _Work:
    scan: Scan
    grid: Grid
    done: list[Step]
    locate: Locator | None


class _ArgumentError(Exception):
    """An argument of a step is not what the step takes."""


def _orient(work: _Work, *, to: object) -> None:
    known = isinstance(to, str) and len(to) == 3 and set(to) <= set(PATIENT_AXES)
    if not known or len({PATIENT_AXES[letter][0] for letter in cast("str", to)}) != 3:
        raise _ArgumentError(f"'to' is {to!r}; it takes three letters such as RAS")
    work.grid.orient(cast("str", to))


def _transpose(work: _Work, *, order: object) -> None:
    places = [int(place) for place in _numbers("order", order, 3)]
    if sorted(places) != [0, 1, 2]:
        raise _ArgumentError(f"'order' is {order!r}; it takes 0, 1 and 2 in some order")
    work.grid.transpose(places)


def _spacing(
    work: _Work, *, mm: object, interpolation: object = "linear", align: object = "edges"
) -> None:
    if interpolation not in ("linear", "cubic", "nearest"):
        raise _ArgumentError(
            f"'interpolation' is {interpolation!r}; it takes linear, cubic or nearest"
        )
    if align not in ("edges", "monai"):
        raise _ArgumentError(f"'align' is {align!r}; it takes edges or monai")
    spacing = _numbers("mm", mm, 3)
    if min(spacing) <= 0:
        raise _ArgumentError(f"'mm' is {mm!r}; it takes voxel sizes above 0")
    work.grid.respace(spacing, interpolation, align)


def _spacing_nnunet(work: _Work, *, mm: object, separate: object = True) -> None:
    spacing = _numbers("mm", mm, 3)
    if min(spacing) <= 0:
        raise _ArgumentError(f"'mm' is {mm!r}; it takes voxel sizes above 0")
    work.grid.respace_as_nnunet(spacing, separate=_flag("separate", separate))


def _resize(work: _Work, *, size: object) -> None:
    lengths = _numbers("size", size, 3)
    if any(length < 1 or length != int(length) for length in lengths):
        raise _ArgumentError(f"'size' is {size!r}; it takes whole numbers from 1")
    work.grid.resize([int(length) for length in lengths])


def _clip(work: _Work, *, low: object, high: object, channels: object = None) -> None:
    lowest, highest = _range("low", "high", (low, high))
    for part in _parts(work, channels):
        intensity.clip(part, lowest, highest)


def _clip_percentiles(work: _Work, *, low: object, high: object) -> None:
    lowest, highest = _range("low", "high", (low, high))
    if lowest < 0 or highest > 100:
        raise _ArgumentError("'low' and 'high' are percentiles, from 0 to 100")
    intensity.clip_percentiles(work.grid.own(), lowest, highest)


def _scale_range(
    work: _Work,
    *,
    from_: object,
    to: object,
    clip: object = False,
    channels: object = None,
) -> None:
    before, after = _numbers("from", from_, 2), _numbers("to", to, 2)
    if before[0] == before[1]:
        raise _ArgumentError("'from' is a range of no width")
    limits = _flag("clip", clip)
    for part in _parts(work, channels):
        intensity.scale_range(part, (before[0], before[1]), (after[0], after[1]))
        if limits:
            intensity.clip(part, min(after), max(after))


def _zscore(
    work: _Work, *, nonzero: object = False, filled: object = False, channels: object = None
) -> None:
    masked = _flag("nonzero", nonzero)
    background = None
    if _flag("filled", filled):
        if not masked:
            raise _ArgumentError("'filled' is only for 'nonzero'")
        background = intensity.background_of(work.grid.array)
    for part in _parts(work, channels):
        intensity.zscore(part, nonzero=masked, background=background)


def _minmax(work: _Work, *, to: object = (0, 1), channels: object = None) -> None:
    low, high = _numbers("to", to, 2)
    for part in _parts(work, channels):
        intensity.minmax(part, (low, high))


def _scale(work: _Work, *, factor: object, offset: object) -> None:
    intensity.scale(work.grid.own(), _number("factor", factor), _number("offset", offset))


def _pad_with(work: _Work, *, value: object) -> None:
    work.grid.pad_value = _number("value", value)


def _crop_foreground(work: _Work, *, above: object, margin_mm: object = 0.0) -> None:
    threshold, margin = _number("above", above), _number("margin_mm", margin_mm)
    if margin < 0:
        raise _ArgumentError("'margin_mm' is below 0")
    box = foreground_box(work.grid, threshold, margin)
    if box is None:
        raise ScanError(
            "foreground",
            "The scan cannot be cropped to its foreground",
            why=f"none of its voxels is above {threshold:g}",
            todo="Check that the scan is of the kind that the model was made for",
        )
    work.grid.crop(box)


def _crop_nonzero(work: _Work) -> None:
    box = nonzero_box(work.grid)
    if box is None:
        raise ScanError(
            "foreground",
            "The scan cannot be cropped to its foreground",
            why="all of its voxels are 0",
            todo="Check that the scan is of the kind that the model was made for",
        )
    work.grid.crop(box)


def _crop_to_model(work: _Work, *, model: object, margin: object, labels: object = None) -> None:
    share = _number("margin", margin)
    if share < 0:
        raise _ArgumentError("'margin' is below 0")
    if not isinstance(model, str):
        raise _ArgumentError(f"'model' is {model!r}; it takes the id of a model")
    wanted = None if labels is None else _numbers("labels", labels, None)
    if work.locate is None:
        raise _ArgumentError("no model can be run here to find the region")
    found = work.locate(Started(work.scan, work.grid, work.done), model)
    box = located_box(work.grid, found, wanted, share)
    if box is None:
        raise ScanError(
            "not-found",
            "The scan cannot be cropped to the region of interest",
            why=f"the model {model} did not find it in the scan",
            todo="Check that the scan shows the region that the model was made for",
        )
    if any(first >= last for first, last in box):
        raise _ArgumentError(f"an earlier step has cropped away what {model} finds")
    work.grid.crop(box)


_STEPS: dict[str, Callable[..., None]] = {
    "orient": _orient,
    "transpose": _transpose,
    "spacing": _spacing,
    "spacing_nnunet": _spacing_nnunet,
    "resize": _resize,
    "clip": _clip,
    "clip_percentiles": _clip_percentiles,
    "scale_range": _scale_range,
    "zscore": _zscore,
    "minmax": _minmax,
    "scale": _scale,
    "crop_foreground": _crop_foreground,
    "crop_nonzero": _crop_nonzero,
    "crop_to_model": _crop_to_model,
    "pad_with": _pad_with,
}


def _parts(work: _Work, channels: object) -> Iterator[FloatArray]:
    """Yield the channels that a step changes, as arrays [1, D, H, W] to be written to."""
    array = work.grid.own()
    wanted = range(len(array)) if channels is None else _numbers("channels", channels, None)
    for channel in map(int, wanted):
        if not 0 <= channel < len(array):
            raise _ArgumentError(f"there is no channel {channel} in {len(array)}")
        yield array[channel : channel + 1]


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _ArgumentError(f"'{key}' is {value!r}; it takes a number")
    return float(value)


def _numbers(key: str, value: object, count: int | None) -> tuple[float, ...]:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    if not listed or (count is not None and len(cast("Sequence[object]", value)) != count):
        raise _ArgumentError(f"'{key}' is {value!r}; it takes a list of {count or 'all'} numbers")
    return tuple(_number(key, number) for number in cast("Sequence[object]", value))


def _range(low: str, high: str, values: tuple[object, object]) -> tuple[float, float]:
    lowest, highest = _number(low, values[0]), _number(high, values[1])
    if lowest >= highest:
        raise _ArgumentError(f"'{low}' is not below '{high}'")
    return lowest, highest


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _ArgumentError(f"'{key}' is {value!r}; it takes true or false")
    return value


def _step_error(name: object, why: str) -> ScanError:
    return ScanError(
        "step",
        f"The preprocessing step {name!r} cannot be done",
        why=why,
        todo="Correct the preprocessing on the model's card",
    )
