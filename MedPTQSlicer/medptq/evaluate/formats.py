"""Figures as text, with no more digits than they deserve."""

from __future__ import annotations

from datetime import datetime

NONE = "\N{EN DASH}"


def ratio_text(value: float) -> str:
    """Write how many times; two digits after the point only where they matter."""
    return f"{value:.2f}" if value < 1.95 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def decimals(value: float | None, digits: int) -> str:
    """Write a number with thousands separated; a dash if there is none."""
    return NONE if value is None else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """Write a Dice or its like; never rounded up to 1, which is kept for what is identical."""
    if value is None:
        return NONE
    return "1.0000" if value == 1 else f"{min(value, 0.9999):.4f}"


def equal(value: float | None) -> str:
    """Write a share of voxels in percent; 100 is kept for what is identical."""
    if value is None:
        return NONE
    return "100 %" if value == 1 else f"{min(100 * value, 99.99):.2f} %"


def percent(value: float) -> str:
    """Write a loss or another small share in percent; only what is 0 is written as such."""
    if value == 0:
        return "0 %"
    digits = 3 if abs(value) < 0.001 else 2 if abs(value) < 0.1 else 1
    text = f"{value * 100:.{digits}f}"
    return f"{text} %" if float(text) else "< 0.001 %"


def seconds(value: float) -> str:
    """Write seconds with their unit."""
    return f"{value:.2f} s" if value < 10 else f"{value:,.1f} s"


def milliseconds(value: float) -> str:
    """Write milliseconds with their unit."""
    return f"{decimals(value, 2 if value < 10 else 1 if value < 100 else 0)} ms"


def millilitres(value: float | None) -> str:
    """Write a volume in ml without its unit; a dash if there is none."""
    if value is None:
        return NONE
    return decimals(value, 0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 1 else 3)


def moment(iso: str) -> str:
    """Write an ISO 8601 date, or date and time, for a person to read."""
    at = datetime.fromisoformat(iso)
    day = f"{at.day} {at:%B %Y}"
    return day if len(iso) <= len("2026-02-03") else f"{day}, {at:%H:%M %Z}".rstrip()
