"""Drawings of a network's layers as inline SVG: what each costs, and what it computes with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from medptq.evaluate.formats import percent
from medptq.quantization.distributions import Distribution
from medptq.quantization.sensitivity import Sensitivity

_WIDTH, _NAMES, _VALUES = 980, 330, 80
_ROW, _BAR, _TOP = 30, 10, 46
_LONGEST_NAME = 46

_HISTOGRAM_WIDTH, _HISTOGRAM_HEIGHT = 420, 100
_AXIS = 34  # room below a histogram
_MOST_TICKS = 40


def loss_chart(sensitivity: Sensitivity, most: int) -> Markup:
    """Return bars of what the worst layers cost: quantized alone, and when all but them are.

    Lengths are losses of mean Dice against FP32. A dashed line marks the loss if all are.

    Args:
        sensitivity: What was measured.
        most: How many layers are shown.
    """
    rows = sensitivity.layers[:most]
    together = 1 - sensitivity.together.dice
    losses = [(1 - row.alone.dice, 1 - row.all_but.dice) for row in rows]
    longest = max([together, *(loss for pair in losses for loss in pair)]) or 1.0
    room = _WIDTH - _NAMES - _VALUES
    height = _TOP + _ROW * len(rows) + 4
    said = "; ".join(
        f"{row.layer}: alone {percent(alone)}, all but it {percent(rest)}"
        for row, (alone, rest) in zip(rows, losses, strict=True)
    )
    line = _NAMES + room * together / longest
    pieces = [
        Markup(
            '<svg class="chart layers" xmlns="http://www.w3.org/2000/svg" '
            'viewBox="0 0 {} {}" role="img"><title>Loss of mean Dice by layer</title>'
            "<desc>{}</desc>"
        ).format(_WIDTH, height, said),
        _key(_NAMES, "highlight", "it alone is quantized"),
        _key(_NAMES + 170, "plain", "all but it are quantized"),
        Markup(
            '<line class="mark" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
            '<text class="key" x="{3:.1f}" y="30" text-anchor="{4}">all together: {5}</text>'
        ).format(
            line,
            _TOP - 8,
            height - 4,
            line,
            "end" if line > _WIDTH - 100 else "middle" if line > _NAMES + 80 else "start",
            percent(together),
        ),
    ]
    for number, (row, pair) in enumerate(zip(rows, losses, strict=True)):
        middle = _TOP + number * _ROW + _ROW / 2
        pieces.append(
            Markup('<text class="name" x="{}" y="{:g}">{}</text>').format(
                _NAMES - 10, middle, shortened(row.layer)
            )
        )
        for kind, y, loss in zip(("highlight", "plain"), (-_BAR - 0.5, 0.5), pair, strict=True):
            length = max(room * loss / longest, 0.5)
            pieces.append(
                Markup(
                    '<rect class="{}" x="{}" y="{:g}" width="{:.2f}" height="{}" rx="1.5"/>'
                    '<text class="key" x="{:.2f}" y="{:g}">{}</text>'
                ).format(
                    kind,
                    _NAMES,
                    middle + y,
                    length,
                    _BAR,
                    _NAMES + length + 5,
                    middle + y + _BAR / 2,
                    percent(loss),
                )
            )
    pieces.append(Markup("</svg>"))
    return Markup("").join(pieces)


def histogram(title: str, found: Distribution) -> Markup:
    """Return the histogram of a distribution: filled as it was, outlined as it is on the grid.

    Heights are logarithms of counts, so that the few large values are seen beside the many small
    ones. Between the dashed lines lies what the grid reaches; its steps are marked below where
    there is room for them.

    Args:
        title: What is shown.
        found: The distribution.
    """
    width, height = _HISTOGRAM_WIDTH, _HISTOGRAM_HEIGHT
    bins = len(found.before)
    tallest = math.log1p(max(*found.before, *found.after, 1))

    def x(step: float) -> float:
        return (step - found.first_edge) / (bins * found.bin_width) * width

    ends = [found.lowest - 0.5, found.highest + 0.5]
    pieces = [
        Markup(
            '<svg class="chart histogram" xmlns="http://www.w3.org/2000/svg" '
            'viewBox="0 0 {} {}" role="img"><title>{}</title>'
        ).format(width, height + _AXIS, title),
        _steps("before", found.before, tallest, closed=True),
        _steps("after", found.after, tallest, closed=False),
        Markup('<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"/>').format(width, height, height),
    ]
    if found.highest - found.lowest <= _MOST_TICKS:
        pieces += [
            Markup('<line class="axis" x1="{0:.2f}" x2="{0:.2f}" y1="{1}" y2="{2}"/>').format(
                x(step), height, height + 4
            )
            for step in range(found.lowest, found.highest + 1)
        ]
    pieces += [
        Markup('<line class="mark" x1="{0:.2f}" x2="{0:.2f}" y1="2" y2="{1}"/>').format(
            x(end), height
        )
        for end in ends
    ]
    pieces += [
        Markup('<text class="tick" x="{:.2f}" y="{}">{}</text>').format(
            x(step), height + 13, _label(found, step)
        )
        for step in dict.fromkeys((found.lowest, 0, found.highest))
    ]
    pieces.append(
        Markup('<text class="tick" x="{}" y="{}">{}</text></svg>').format(
            width / 2, height + 28, _said(found)
        )
    )
    return Markup("").join(pieces)


def shortened(name: str) -> str:
    """Return a layer's name, with an ellipsis in place of its middle if it is long."""
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:14]}\N{HORIZONTAL ELLIPSIS}{name[15 - _LONGEST_NAME :]}"


def _key(x: float, kind: str, text: str) -> Markup:
    return Markup(
        '<rect class="{}" x="{:g}" y="3" width="10" height="10" rx="2"/>'
        '<text class="key" x="{:g}" y="8">{}</text>'
    ).format(kind, x, x + 15, text)


def _steps(kind: str, counts: Sequence[int], tallest: float, *, closed: bool) -> Markup:
    across = _HISTOGRAM_WIDTH / len(counts)
    path = [f"M0 {_HISTOGRAM_HEIGHT}"]
    for place, count in enumerate(counts):
        y = _HISTOGRAM_HEIGHT - 4 - (_HISTOGRAM_HEIGHT - 10) * math.log1p(count) / tallest
        y = _HISTOGRAM_HEIGHT if count == 0 else y
        path.append(f"V{y:.1f}H{(place + 1) * across:.1f}")
    path.append(f"V{_HISTOGRAM_HEIGHT}")
    if closed:
        path.append("Z")
    return Markup('<path class="{}" d="{}"/>').format(kind, "".join(path))


def _label(found: Distribution, step: int) -> str:
    """Return what a step stands for: a value, or its number where channels differ."""
    least, most = found.step
    return f"{step * least:.3g}" if least == most else str(step)


def _said(found: Distribution) -> str:
    least, most = found.step
    steps = f"step {least:.2g}" if least == most else f"steps of {least:.2g} to {most:.2g}"
    seen = f"values {found.minimum:.3g} to {found.maximum:.3g}"
    clipped = "" if found.clipped == 0 else f", {percent(found.clipped)} clipped"
    return f"{seen}; {steps}{clipped}"
