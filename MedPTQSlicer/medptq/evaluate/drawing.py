"""Pixels of a panel: intensities to grey, labels to fills and outlines, and lettering."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from medptq.scans.scan import FloatArray, LabelArray

Color: TypeAlias = tuple[int, int, int]
Pixels: TypeAlias = NDArray[np.float32]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

FILL = 0.32
RIM = 0.4  # what is left of the brightness just outside an outline, so that it stands out
OUTLINE_PX = 2
SOFT_TISSUE_HU = (-160.0, 240.0)
_SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "arial.ttf", "Arial Unicode.ttf")
_ENOUGH_VOXELS = 2_000_000


def window_of(volume: FloatArray, modality: str) -> tuple[float, float]:
    """Return the intensities to show as black and as white.

    CT is shown in the soft tissue window (level 40, width 400 HU). Other modalities have no
    scale of their own: from the 0.5th to the 99.5th percentile.

    Args:
        volume: Intensities, any axes.
        modality: As on the model's card.
    """
    if modality.upper().startswith("CT"):
        return SOFT_TISSUE_HU
    stride = max(1, round((volume.size / _ENOUGH_VOXELS) ** (1 / 3)))
    sample = volume[::stride, ::stride, ::stride]
    low, high = np.percentile(sample, (0.5, 99.5))
    if high <= low:
        low, high = float(volume.min()), float(volume.max())
    return float(low), float(max(high, low + 1e-6))


def grey(picture: FloatArray, window: tuple[float, float], size: tuple[int, int]) -> Pixels:
    """Return intensities [rows, columns] as pixels [height, width, 3], from 0 to 255.

    Args:
        picture: Intensities.
        window: What is black and what is white.
        size: (width, height) in pixels.
    """
    low, high = window
    shown = np.clip((picture - low) / (high - low), 0, 1).astype(np.float32) * 255
    resized = Image.fromarray(shown).resize(size, Image.Resampling.BICUBIC)
    level: Pixels = np.clip(np.asarray(resized), 0, 255)
    return np.repeat(level[..., None], 3, axis=2)


def paint_labels(pixels: Pixels, picture: LabelArray, colors: Mapping[int, Color]) -> Pixels:
    """Return pixels with each label filled half-transparently and outlined in its colour.

    Labels are enlarged voxel by voxel, not smoothed: what is shown is what was computed.

    Args:
        pixels: [height, width, 3].
        picture: Labels [rows, columns] of the same plane.
        colors: Of each label; a label without one is not drawn.
    """
    height, width, _ = pixels.shape
    rows = (np.arange(height) + 0.5) * picture.shape[0] // height
    columns = (np.arange(width) + 0.5) * picture.shape[1] // width
    labels = picture[rows.astype(int)[:, None], columns.astype(int)]
    table = np.zeros((int(labels.max()) + 1, 3), dtype=np.float32)
    drawn = np.zeros(len(table), dtype=bool)
    for label, color in colors.items():
        if label < len(table):
            table[label], drawn[label] = color, True
    inside = drawn[labels]
    rim = ndimage.binary_dilation(inside) & ~inside
    pixels = np.where(rim[..., None], pixels * np.float32(RIM), pixels)
    alpha = np.where(_outline(labels), 1.0, FILL) * inside
    alpha = alpha[..., None].astype(np.float32)
    painted: Pixels = pixels * (1 - alpha) + table[labels] * alpha
    return painted


def paint_mask(pixels: Pixels, picture: NDArray[np.bool_], color: Color, dim: float) -> Pixels:
    """Return dimmed pixels with each voxel of a mask in one opaque colour.

    However small the picture, no voxel is lost: a pixel is painted if any part of it is, and a
    voxel smaller than 3 pixels is drawn that large.

    Args:
        pixels: [height, width, 3].
        picture: Mask [rows, columns] of the same plane.
        color: What to paint it in.
        dim: What is left of the brightness around it, from 0 to 1.
    """
    height, width, _ = pixels.shape
    shares = Image.fromarray(picture.astype(np.float32))
    covered = np.asarray(shares.resize((width, height), Image.Resampling.BOX)) > 1e-6
    if width < 3 * picture.shape[1] or height < 3 * picture.shape[0]:
        covered = ndimage.binary_dilation(covered, np.ones((3, 3)))
    return np.where(covered[..., None], np.array(color, dtype=np.float32), pixels * np.float32(dim))


def font(size: int, text: str = "") -> Font:
    """Return a font that can write ``text``, as far as this machine has one.

    Pillow's own font looks the same everywhere but knows little beyond ASCII.
    """
    return _font(size, text.isascii())


@cache
def _font(size: int, ascii_only: bool) -> Font:
    if not ascii_only:
        for name in _SYSTEM_FONTS:
            with contextlib.suppress(OSError):  # this machine does not have it
                return ImageFont.truetype(name, size)
    return ImageFont.load_default(size=size)


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    color: Color,
    *,
    anchor: str = "la",
    halo: Color | None = None,
) -> None:
    """Write one line of text, with a thin halo where it lies on a picture.

    Args:
        draw: The canvas.
        at: (x, y) of the anchor.
        text: What to write.
        size: In pixels.
        color: Of the letters.
        anchor: Pillow's text anchor.
        halo: Colour of the halo.
    """
    stroke = 0 if halo is None else 1.4
    draw.text(
        at,
        text,
        font=font(size, text),
        fill=color,
        anchor=anchor,
        stroke_width=stroke,
        stroke_fill=halo,
    )


def shorten(text: str, size: int, width: float) -> str:
    """Return ``text``, cut with an ellipsis if it is wider than ``width`` pixels."""
    face = font(size, text)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def _outline(labels: LabelArray) -> NDArray[np.bool_]:
    """Return the pixels within ``OUTLINE_PX`` of a pixel of another label."""
    edge = np.zeros(labels.shape, dtype=bool)
    for distance in range(1, OUTLINE_PX + 1):
        vertical = labels[distance:] != labels[:-distance]
        edge[distance:] |= vertical
        edge[:-distance] |= vertical
        across = labels[:, distance:] != labels[:, :-distance]
        edge[:, distance:] |= across
        edge[:, :-distance] |= across
    return edge
