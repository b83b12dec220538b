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
``spacing``          mm, [interpolation]     Resample to a voxel size in mm along D, H and W;
                                             ``"linear"`` (default), ``"cubic"`` or ``"nearest"``.
``resize``           size                    Stretch to so many voxels along D, H and W, linearly.
``clip``             low, high               Limit the intensities to this range.
``clip_percentiles`` low, high               Limit each channel to its own percentiles, 0 to 100.
``scale_range``      from, to, [clip]        Map the range ``from`` linearly to ``to``; with
                                             ``clip`` true, limit what lies outside to ``to``.
``zscore``           [nonzero]               Each channel to mean 0 and standard deviation 1; with
                                             ``nonzero`` true, 0 is background and stays so.
``scale``            factor, offset          Multiply by ``factor`` and add ``offset``.
``crop_foreground``  above, [margin_mm]      Crop to the voxels above this intensity in any
                                             channel, and a margin around them (default 0).
``crop_to_model``    model, [labels], margin Crop to what another model finds in the scan: all of
                                             it, or only some labels; ``margin`` is a share of the
                                             box's size, added on each side.
==================== ======================= ======================================================

Resampling is edge to edge, as in ``torch.nn.functional.interpolate(align_corners=False)``, and
no step smooths before it takes fewer voxels, as none of the networks' own pipelines do.
"""

from __future__ import annotations

import inspect
import keyword
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from medptq.errors import ScanError
from medptq.scans import intensity
from medptq.scans.cropping import foreground_box, located_box
from medptq.scans.grid import PATIENT_AXES, AxisOrder, Grid
from medptq.scans.prepared import Located, PreparedScan
from medptq.scans.scan import Scan

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
    return PreparedScan(work.grid.contiguous(), work.grid.axes, started.scan.shape)


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


def _spacing(work: _Work, *, mm: object, interpolation: object = "linear") -> None:
    if interpolation not in ("linear", "cubic", "nearest"):
        raise _ArgumentError(
            f"'interpolation' is {interpolation!r}; it takes linear, cubic or nearest"
        )
    spacing = _numbers("mm", mm, 3)
    if min(spacing) <= 0:
        raise _ArgumentError(f"'mm' is {mm!r}; it takes voxel sizes above 0")
    work.grid.respace(spacing, interpolation)


def _resize(work: _Work, *, size: object) -> None:
    lengths = _numbers("size", size, 3)
    if any(length < 1 or length != int(length) for length in lengths):
        raise _ArgumentError(f"'size' is {size!r}; it takes whole numbers from 1")
    work.grid.resize([int(length) for length in lengths])


def _clip(work: _Work, *, low: object, high: object) -> None:
    intensity.clip(work.grid.own(), *_range("low", "high", (low, high)))


def _clip_percentiles(work: _Work, *, low: object, high: object) -> None:
    lowest, highest = _range("low", "high", (low, high))
    if lowest < 0 or highest > 100:
        raise _ArgumentError("'low' and 'high' are percentiles, from 0 to 100")
    intensity.clip_percentiles(work.grid.own(), lowest, highest)


def _scale_range(work: _Work, *, from_: object, to: object, clip: object = False) -> None:
    before, after = _numbers("from", from_, 2), _numbers("to", to, 2)
    if before[0] == before[1]:
        raise _ArgumentError("'from' is a range of no width")
    array = work.grid.own()
    intensity.scale_range(array, (before[0], before[1]), (after[0], after[1]))
    if _flag("clip", clip):
        intensity.clip(array, min(after), max(after))


def _zscore(work: _Work, *, nonzero: object = False) -> None:
    intensity.zscore(work.grid.own(), nonzero=_flag("nonzero", nonzero))


def _scale(work: _Work, *, factor: object, offset: object) -> None:
    intensity.scale(work.grid.own(), _number("factor", factor), _number("offset", offset))


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
    "spacing": _spacing,
    "resize": _resize,
    "clip": _clip,
    "clip_percentiles": _clip_percentiles,
    "scale_range": _scale_range,
    "zscore": _zscore,
    "scale": _scale,
    "crop_foreground": _crop_foreground,
    "crop_to_model": _crop_to_model,
}


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
