"""Colours for structures that have none of their own."""

from __future__ import annotations

import colorsys

_GOLDEN = 0.618034
"""Steps of this share of the circle of hues keep any number of them apart."""


def color_of(value: int) -> tuple[int, int, int]:
    """Return a colour (red, green, blue, from 0 to 255) for a label, always the same one."""
    hue = (0.03 + _GOLDEN * (value - 1)) % 1.0
    saturation = (0.65, 0.85, 0.5)[(value - 1) // 7 % 3]
    brightness = (0.95, 0.75)[(value - 1) // 21 % 2]
    red, green, blue = (
        round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, brightness)
    )
    return red, green, blue
