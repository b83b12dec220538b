"""The steps of :mod:`medptq.scans.preprocessing`: what each takes, and what it does to a grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from medptq.errors import ScanError
from medptq.scans import intensity
from medptq.scans.cropping import foreground_box, located_box, nonzero_box
from medptq.scans.grid import PATIENT_AXES, Grid
from medptq.scans.prepared import Located
from medptq.scans.step_arguments import ArgumentError, flag, limits, number, numbers

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Work:
    """What the steps work on.

    Attributes:
        grid: The scan's array, which each of them changes.
        locate: Returns what the model of an id finds in the scan as it is now; None if no model
            can be run.
    """

    grid: Grid
    locate: Callable[[str], Located] | None


def _orient(work: Work, *, to: object) -> None:
    known = isinstance(to, str) and len(to) == 3 and set(to) <= set(PATIENT_AXES)
    if not known or len({PATIENT_AXES[letter][0] for letter in cast("str", to)}) != 3:
        raise ArgumentError(f"'to' is {to!r}; it takes three letters such as RAS")
    work.grid.orient(cast("str", to))


def _transpose(work: Work, *, order: object) -> None:
    places = [int(place) for place in numbers("order", order, 3)]
    if sorted(places) != [0, 1, 2]:
        raise ArgumentError(f"'order' is {order!r}; it takes 0, 1 and 2 in some order")
    work.grid.transpose(places)


def _spacing(
    work: Work, *, mm: object, interpolation: object = "linear", align: object = "edges"
) -> None:
    if interpolation not in ("linear", "cubic", "nearest"):
        raise ArgumentError(
            f"'interpolation' is {interpolation!r}; it takes linear, cubic or nearest"
        )
    if align not in ("edges", "monai"):
        raise ArgumentError(f"'align' is {align!r}; it takes edges or monai")
    spacing = numbers("mm", mm, 3)
    if min(spacing) <= 0:
        raise ArgumentError(f"'mm' is {mm!r}; it takes voxel sizes above 0")
    work.grid.respace(spacing, interpolation, align)


def _spacing_nnunet(work: Work, *, mm: object, separate: object = True) -> None:
    spacing = numbers("mm", mm, 3)
    if min(spacing) <= 0:
        raise ArgumentError(f"'mm' is {mm!r}; it takes voxel sizes above 0")
    work.grid.respace_as_nnunet(spacing, separate=flag("separate", separate))


def _resize(work: Work, *, size: object) -> None:
    lengths = numbers("size", size, 3)
    if any(length < 1 or length != int(length) for length in lengths):
        raise ArgumentError(f"'size' is {size!r}; it takes whole numbers from 1")
    work.grid.resize([int(length) for length in lengths])


def _clip(work: Work, *, low: object, high: object, channels: object = None) -> None:
    lowest, highest = limits("low", "high", (low, high))
    for part in _parts(work, channels):
        intensity.clip(part, lowest, highest)


def _clip_percentiles(work: Work, *, low: object, high: object) -> None:
    lowest, highest = limits("low", "high", (low, high))
    if lowest < 0 or highest > 100:
        raise ArgumentError("'low' and 'high' are percentiles, from 0 to 100")
    intensity.clip_percentiles(work.grid.own(), lowest, highest)


def _scale_range(
    work: Work,
    *,
    from_: object,
    to: object,
    clip: object = False,
    channels: object = None,
) -> None:
    before, after = numbers("from", from_, 2), numbers("to", to, 2)
    if before[0] == before[1]:
        raise ArgumentError("'from' is a range of no width")
    is_limited = flag("clip", clip)
    for part in _parts(work, channels):
        intensity.scale_range(part, (before[0], before[1]), (after[0], after[1]))
        if is_limited:
            intensity.clip(part, min(after), max(after))


def _zscore(
    work: Work, *, nonzero: object = False, filled: object = False, channels: object = None
) -> None:
    masked = flag("nonzero", nonzero)
    background = None
    if flag("filled", filled):
        if not masked:
            raise ArgumentError("'filled' is only for 'nonzero'")
        background = intensity.background_of(work.grid.array)
    for part in _parts(work, channels):
        intensity.zscore(part, nonzero=masked, background=background)


def _minmax(work: Work, *, to: object = (0, 1), channels: object = None) -> None:
    low, high = numbers("to", to, 2)
    for part in _parts(work, channels):
        intensity.minmax(part, (low, high))


def _scale(work: Work, *, factor: object, offset: object) -> None:
    intensity.scale(work.grid.own(), number("factor", factor), number("offset", offset))


def _pad_with(work: Work, *, value: object) -> None:
    work.grid.pad_value = number("value", value)


def _crop_foreground(work: Work, *, above: object, margin_mm: object = 0.0) -> None:
    threshold, margin = number("above", above), number("margin_mm", margin_mm)
    if margin < 0:
        raise ArgumentError("'margin_mm' is below 0")
    box = foreground_box(work.grid, threshold, margin)
    if box is None:
        raise ScanError(
            "foreground",
            "The scan cannot be cropped to its foreground",
            why=f"none of its voxels is above {threshold:g}",
            todo="Check that the scan is of the kind that the model was made for",
        )
    work.grid.crop(box)


def _crop_nonzero(work: Work) -> None:
    box = nonzero_box(work.grid)
    if box is None:
        raise ScanError(
            "foreground",
            "The scan cannot be cropped to its foreground",
            why="all of its voxels are 0",
            todo="Check that the scan is of the kind that the model was made for",
        )
    work.grid.crop(box)


def _crop_to_model(work: Work, *, model: object, margin: object, labels: object = None) -> None:
    share = number("margin", margin)
    if share < 0:
        raise ArgumentError("'margin' is below 0")
    if not isinstance(model, str):
        raise ArgumentError(f"'model' is {model!r}; it takes the id of a model")
    wanted = None if labels is None else numbers("labels", labels, None)
    if work.locate is None:
        raise ArgumentError("no model can be run here to find the region")
    found = work.locate(model)
    box = located_box(work.grid, found, wanted, share)
    if box is None:
        raise ScanError(
            "not-found",
            "The scan cannot be cropped to the region of interest",
            why=f"the model {model} did not find it in the scan",
            todo="Check that the scan shows the region that the model was made for",
        )
    if any(first >= last for first, last in box):
        raise ArgumentError(f"an earlier step has cropped away what {model} finds")
    work.grid.crop(box)


def _parts(work: Work, channels: object) -> Iterator[Tensor]:
    """Yield the channels that a step changes, as tensors [1, D, H, W] to be written to."""
    voxels = work.grid.own()
    wanted = range(len(voxels)) if channels is None else numbers("channels", channels, None)
    for channel in map(int, wanted):
        if not 0 <= channel < len(voxels):
            raise ArgumentError(f"there is no channel {channel} in {len(voxels)}")
        yield voxels[channel : channel + 1]


STEPS: dict[str, Callable[..., None]] = {
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
"""By their names on the cards."""


def runs_on_gpu(step: Mapping[str, object]) -> bool:
    """Tell whether a step can be done on a grid that is on a GPU."""
    name = step.get("step")
    if name == "spacing":
        return step.get("interpolation", "linear") == "linear"
    if name == "zscore":
        return not step.get("filled", False)
    others = "spacing_nnunet", "resize", "clip", "scale_range", "scale", "minmax", "pad_with"
    return name in others
