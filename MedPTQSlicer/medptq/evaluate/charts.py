"""Small bar charts as inline SVG: no scripts, readable aloud, in print, in light and in dark.

Colours come from the page's CSS through classes, so one drawing serves every theme. Every value
is printed beside its bar; the chart's description repeats them for screen readers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH, _NAMES, _VALUES = 460, 126, 78
_ROW, _BAR = 34, 16
_ids = itertools.count(1)


@dataclass(frozen=True)
class Bar:
    """One row of a chart.

    Attributes:
        name: What the bar is for.
        parts: Lengths that follow one another along the bar; each at least 0.
        text: The value as it is printed.
        highlight: Whether this is the row that the reader should see first.
    """

    name: str
    parts: tuple[float, ...]
    text: str
    highlight: bool = False


def bar_chart(title: str, bars: Sequence[Bar], parts: Sequence[str] = ()) -> Markup:
    """Return a horizontal bar chart as an ``<svg>`` element for an HTML page.

    Args:
        title: What is shown, with its unit.
        bars: Rows from top to bottom.
        parts: Names of the parts if the bars are stacked; they are shown as a legend.
    """
    number = next(_ids)
    room = _WIDTH - _NAMES - _VALUES
    longest = max((sum(bar.parts) for bar in bars), default=0) or 1
    top = 26 if parts else 4
    height = top + _ROW * len(bars)
    said = "; ".join(f"{bar.name}: {bar.text}" for bar in bars)
    pieces = [
        Markup(
            '<svg class="chart" viewBox="0 0 {} {}" role="img" '
            'aria-labelledby="chart{}-title chart{}-desc">'
            '<title id="chart{}-title">{}</title><desc id="chart{}-desc">{}</desc>'
        ).format(_WIDTH, height, number, number, number, title, number, said),
        _legend(parts),
    ]
    for row, bar in enumerate(bars):
        middle = top + row * _ROW + _ROW / 2
        pieces.append(
            Markup('<text class="name{}" x="{}" y="{:g}">{}</text>').format(
                " strong" if bar.highlight else "", _NAMES - 12, middle, bar.name
            )
        )
        x = float(_NAMES)
        for part, value in enumerate(bar.parts):
            length = room * value / longest
            whole = "highlight" if bar.highlight else "plain"
            kind = f"part{part}" if parts else whole
            pieces.append(
                Markup(
                    '<rect class="{}" x="{:.2f}" y="{:g}" width="{:.2f}" height="{}" rx="2"/>'
                ).format(kind, x, middle - _BAR / 2, max(length - bool(parts), 0.5), _BAR)
            )
            x += length
        pieces.append(
            Markup('<text class="value{}" x="{:.2f}" y="{:g}">{}</text>').format(
                " strong" if bar.highlight else "", x + 7, middle, bar.text
            )
        )
    pieces.append(Markup("</svg>"))
    return Markup("").join(pieces)


def _legend(parts: Sequence[str]) -> Markup:
    pieces = []
    x = float(_NAMES)
    for number, part in enumerate(parts):
        pieces.append(
            Markup(
                '<rect class="part{}" x="{:g}" y="3" width="10" height="10" rx="2"/>'
                '<text class="key" x="{:g}" y="8">{}</text>'
            ).format(number, x, x + 15, escape(part))
        )
        x += 30 + 6.2 * len(part)
    return Markup("").join(pieces)
