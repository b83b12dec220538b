"""One picture that shows a scan and its segmentations side by side, in three planes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medptq.evaluate import drawing, planes
from medptq.evaluate.drawing import Color, write
from medptq.models.segmentation_model import Label
from medptq.scans.scan import Scan

Column: TypeAlias = tuple[str, NDArray[Any] | None]

DISAGREEMENT: Color = (255, 0, 144)
BACKGROUND: Color = (13, 17, 22)
_PANEL: Color = (0, 0, 0)
_INK: Color = (236, 240, 244)
_MUTED: Color = (150, 163, 176)
_DIM = 0.55

_MARGIN, _GAP, _HEADER = 28, 10, 80
_CELL, _TALLEST = 480, 640
_NARROWEST, _LOWEST = 260, 140  # leave room for the lettering around a thin slab
_TITLE, _TEXT, _SMALL = 28, 22, 19
_LEGEND_COLUMN, _LEGEND_ROW, _MOST_NAMES = 320, 32, 16
_SCALE_BARS_MM = (200, 100, 50, 20, 10, 5)


@dataclass(frozen=True)
class _View:
    """What is shown of the scan, on which planes and how large."""

    orientation: planes.Orientation
    field: planes.Box
    indices: tuple[int, int, int]
    scale: float  # pixels per mm

    def pixels(self, axis: int) -> int:
        """Return the length of the field along R (0), A (1) or S (2), in pixels."""
        lo, hi = self.field[axis]
        return max(1, round((hi - lo) * self.orientation.spacing[axis] * self.scale))


def render_overlay(
    scan: Scan, columns: Sequence[Column], labels: Sequence[Label], modality: str = ""
) -> Image.Image:
    """Draw a scan and its segmentations in axial, coronal and sagittal planes.

    The planes are those with the largest segmented area, shown in the radiological convention
    (the patient's right on the viewer's left) at the scan's true proportions, all at one scale.
    An oblique scan is shown along its own axes, lettered by the closest anatomical ones.

    Args:
        scan: The scan; its first channel is shown. Its name is not.
        columns: From left to right, a title and what to draw on the scan: a label map [K, J, I];
            a boolean mask [K, J, I] of the voxels that differ, drawn in a loud colour; or None
            for the scan alone.
        labels: Names and colours.
        modality: As on the model's card; CT is shown in the soft tissue window.

    Returns:
        RGB picture.
    """
    maps = [drawn for _, drawn in columns if drawn is not None and drawn.dtype != np.bool_]
    view = _view_of(scan, maps)
    entries, left_out = _legend(labels, maps)
    widest = max(_NARROWEST, *(view.pixels(plane.across) for plane in planes.PLANES))
    heights = [max(_LOWEST, view.pixels(plane.down)) for plane in planes.PLANES]
    width = 2 * _MARGIN + len(columns) * widest + (len(columns) - 1) * _GAP
    per_row = max(1, (width - 2 * _MARGIN) // _LEGEND_COLUMN)
    legend_rows = -(-(len(entries) + bool(left_out)) // per_row)
    top = _MARGIN + _HEADER
    legend_top = top + sum(heights) + _GAP * len(heights) + 14
    height = legend_top + legend_rows * _LEGEND_ROW + 44 + _MARGIN // 2
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    shown = drawing.window_of(view.orientation.apply(scan.array[0]), modality)
    colors = {label.value: label.color for label in labels}

    for column, (title, drawn) in enumerate(columns):
        left = _MARGIN + column * (widest + _GAP)
        write(draw, (left, _MARGIN), drawing.shorten(title, _TITLE, widest), _TITLE, _INK)
        write(draw, (left, _MARGIN + 39), _subtitle(drawn, shown), _SMALL, _MUTED)
        y = top
        for plane, row_height in zip(planes.PLANES, heights, strict=True):
            panel = _panel(scan, drawn, view, plane, shown, colors)
            x = left + (widest - panel.width) // 2
            draw.rectangle((left, y, left + widest - 1, y + row_height - 1), fill=_PANEL)
            canvas.paste(panel, (x, y + (row_height - panel.height) // 2))
            _letter(draw, (left, y, widest, row_height), plane, _place(scan, plane, view))
            if drawn is not None and drawn.dtype == np.bool_:
                _count(draw, (left, y, widest, row_height), drawn, view, plane)
            elif column == 0:
                _scale_bar(draw, (left, y, widest, row_height), view.scale)
            y += row_height + _GAP
    _draw_legend(draw, legend_top, per_row, entries, left_out)
    _draw_footer(draw, width, height, scan)
    return canvas


def png_bytes(image: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _view_of(scan: Scan, maps: Sequence[NDArray[Any]]) -> _View:
    orientation = planes.orientation_of(scan.ijk_to_ras)
    segmented = np.zeros(scan.shape, dtype=bool)
    for labels in maps:
        segmented |= labels != 0
    foreground = orientation.apply(segmented)
    field = planes.field_around(foreground, orientation.spacing)
    r, a, s = ((hi - lo) * mm for (lo, hi), mm in zip(field, orientation.spacing, strict=True))
    scale = min(_CELL / max(r, a), _TALLEST / max(a, s))
    return _View(orientation, field, planes.busiest(foreground), scale)


def _panel(
    scan: Scan,
    drawn: NDArray[Any] | None,
    view: _View,
    plane: planes.Plane,
    window: tuple[float, float],
    colors: dict[int, Color],
) -> Image.Image:
    size = (view.pixels(plane.across), view.pixels(plane.down))

    def picture(array: NDArray[Any]) -> NDArray[Any]:
        volume = view.orientation.apply(array)
        return planes.cut(volume, plane, view.indices[plane.normal], view.field)

    pixels = drawing.grey(picture(scan.array[0]), window, size)
    if drawn is not None and drawn.dtype == np.bool_:
        pixels = drawing.paint_mask(pixels, picture(drawn), DISAGREEMENT, _DIM)
    elif drawn is not None:
        pixels = drawing.paint_labels(pixels, picture(drawn), colors)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _legend(labels: Sequence[Label], maps: Sequence[NDArray[Any]]) -> tuple[list[Label], int]:
    """Return the labels to name, and how many that are there are left out."""
    sizes: dict[int, int] = {}
    for drawn in maps:
        for plane in drawn:
            for value, count in enumerate(np.bincount(plane.ravel())):
                sizes[value] = sizes.get(value, 0) + int(count)
    present = [label for label in labels if sizes.get(label.value)]
    if len(present) <= _MOST_NAMES:
        return present, 0
    largest = sorted(present, key=lambda label: -sizes[label.value])[:_MOST_NAMES]
    return largest, len(present) - _MOST_NAMES


def _subtitle(drawn: NDArray[Any] | None, window: tuple[float, float]) -> str:
    if drawn is None:
        low, high = window
        return f"window {high - low:.4g}, level {(low + high) / 2:.4g}"
    if drawn.dtype == np.bool_:
        count = np.count_nonzero(drawn)
        return f"{count:,} voxels differ in the whole scan ({count / drawn.size:.2%})"
    found = len(np.unique(drawn[drawn != 0]))
    return f"{found} structure{'' if found == 1 else 's'}"


def _place(scan: Scan, plane: planes.Plane, view: _View) -> str:
    index = view.indices[plane.normal]
    mm = round(planes.position_mm(scan.ijk_to_ras, scan.shape, plane, index), 3)
    return f"{plane.towards[mm < 0]} {abs(mm):.1f} mm"


def _letter(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], plane: planes.Plane, place: str
) -> None:
    x, y, width, height = box
    left, right, top, bottom = plane.edges
    halo = _PANEL
    write(draw, (x + 10, y + 9), plane.name.capitalize(), _TEXT, _INK, halo=halo)
    write(draw, (x + width - 10, y + 11), place, _SMALL, _INK, anchor="ra", halo=halo)
    for at, letter, anchor in (
        ((x + 10, y + height / 2), left, "lm"),
        ((x + width - 10, y + height / 2), right, "rm"),
        ((x + width / 2, y + 9), top, "ma"),
        ((x + width / 2, y + height - 9), bottom, "md"),
    ):
        write(draw, at, letter, _TEXT, _INK, anchor=anchor, halo=halo)


def _count(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    differs: NDArray[Any],
    view: _View,
    plane: planes.Plane,
) -> None:
    x, y, _, height = box
    volume = view.orientation.apply(differs)
    here = np.count_nonzero(volume.take(view.indices[plane.normal], axis=plane.normal))
    text = f"{here:,} here" if here else "none here"
    write(draw, (x + 10, y + height - 9), text, _SMALL, _INK, anchor="ld", halo=_PANEL)


def _scale_bar(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], scale: float) -> None:
    x, y, width, height = box
    mm = next((mm for mm in _SCALE_BARS_MM if mm * scale <= width / 3), _SCALE_BARS_MM[-1])
    left, base = x + 10, y + height - 10
    draw.rectangle((left - 1, base - 4, left + round(mm * scale) + 1, base), fill=_PANEL)
    draw.rectangle((left, base - 3, left + round(mm * scale), base - 1), fill=_INK)
    write(draw, (left, base - 7), f"{mm} mm", _SMALL, _INK, anchor="ld", halo=_PANEL)


def _draw_legend(
    draw: ImageDraw.ImageDraw, top: int, per_row: int, entries: Sequence[Label], left_out: int
) -> None:
    def cells() -> Iterator[tuple[int, int]]:
        for number in range(len(entries) + 1):
            row, column = divmod(number, per_row)
            yield _MARGIN + column * _LEGEND_COLUMN, top + row * _LEGEND_ROW

    places = cells()
    for label in entries:
        x, y = next(places)
        draw.rounded_rectangle((x, y + 3, x + 17, y + 20), radius=4, fill=label.color)
        name = drawing.shorten(label.name, _SMALL, _LEGEND_COLUMN - 44)
        write(draw, (x + 27, y + 12), name, _SMALL, _INK, anchor="lm")
    if left_out:
        x, y = next(places)
        write(draw, (x, y + 12), f"and {left_out} smaller ones", _SMALL, _MUTED, anchor="lm")


def _draw_footer(draw: ImageDraw.ImageDraw, width: int, height: int, scan: Scan) -> None:
    base = height - _MARGIN // 2
    k, j, i = scan.spacing
    voxel = f"The patient's right is on the left. Voxels of {i:.2f} x {j:.2f} x {k:.2f} mm."
    write(draw, (_MARGIN, base), "Not for clinical use", _SMALL, _INK, anchor="ld")
    indent = 210
    voxel = drawing.shorten(voxel, _SMALL, width - 2 * _MARGIN - indent)
    write(draw, (width - _MARGIN, base), voxel, _SMALL, _MUTED, anchor="rd")
