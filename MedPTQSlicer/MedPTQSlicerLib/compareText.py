"""What the panel says of a comparison."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from medptq.evaluate import formats
from medptq.models.segmentation_model import Label
from MedPTQSlicerLib.comparisonFigures import (
    ClassFigures,
    EngineFigures,
    Report,
    classFigures,
    engineFigures,
)
from MedPTQSlicerLib.disagreement import DISAGREEMENT_LABELS, Disagreement

_TIMES = "\N{MULTIPLICATION SIGN}"
_MM3 = "mm\N{SUPERSCRIPT THREE}"
_LEAST_DICE = 0.95  # below this, the two are too far apart to be taken for one another

LEGEND = " ".join(
    '<span style="color: rgb({}, {}, {})">\N{BLACK SQUARE}</span>&nbsp;'.format(*label.color)
    + label.name.replace(" ", "&nbsp;")
    + "&nbsp;"
    for label in DISAGREEMENT_LABELS
)
"""The colours of what differs, in HTML."""


def summaryText(report: Report) -> str:
    """Return the comparison in one sentence: how much faster, how alike, how much smaller.

    Args:
        report: The content of report.json.
    """
    engines = engineFigures(report)
    baseline = next(engine for engine in engines if engine.isBaseline)
    best = next(engine for engine in engines if engine.isHeadline)
    parts = [
        _timesText(best.timesFaster, "faster", "slower"),
        "" if best.dice is None else f"Dice to FP32 {formats.share(best.dice)}",
        _referenceText(best, baseline),
        _timesText(_timesSmaller(best, baseline), "smaller", "larger"),
    ]
    figures = ", ".join(part for part in parts if part)
    return f"{best.title}, compared with {baseline.title}: {figures or 'nothing was measured'}."


def warningText(report: Report) -> str:
    """Return what is wrong with INT8: structures in which it is not like FP32, or ``""``.

    Args:
        report: The content of report.json.
    """
    found = [figures for figures in classFigures(report) if figures.dice is not None]
    apart = sorted((f for f in found if _dice(f) < _LEAST_DICE), key=_dice)
    if not apart:
        return ""
    worst = apart[0]
    others = len(apart) - 1
    more = "" if not others else f", nor in {others} other{'s' if others > 1 else ''}"
    return (
        f"INT8 is not like FP32 in {worst.name} (Dice {formats.share(worst.dice)}){more}. Look at"
        " the differences before you use it; calibrating on more scans, closer to this one, may"
        " help."
    )


def labelNames(labels: Sequence[Label]) -> Mapping[int, str]:
    """Return what the report calls each structure: two of one name are told apart by number."""
    count = Counter(label.name for label in labels)
    return {
        label.value: label.name if count[label.name] == 1 else f"{label.name} {label.value}"
        for label in labels
    }


def placeText(place: Disagreement, names: Mapping[int, str], report: Report) -> str:
    """Return what FP32 and INT8 say at a place, and how much of it there is.

    Args:
        place: The place.
        names: The structures, by label.
        report: The content of report.json.
    """
    voxels = f"{formats.decimals(place.voxels, 0)} voxel{'' if place.voxels == 1 else 's'}"
    volume = place.voxels * math.prod(report["scan_spacing"])
    return (
        f"FP32 says {_nameOf(place.fp32, names)}, INT8 says {_nameOf(place.int8, names)}: "
        f"{voxels}, {formats.decimals(volume, 0 if volume >= 10 else 1)} {_MM3}"
    )


def _nameOf(label: int, names: Mapping[int, str]) -> str:
    return names.get(label, str(label)) if label else "nothing"


def _dice(figures: ClassFigures) -> float:
    return 1.0 if figures.dice is None else figures.dice


def _referenceText(engine: EngineFigures, baseline: EngineFigures) -> str:
    if engine.referenceDice is None:
        return ""
    found, before = formats.share(engine.referenceDice), formats.share(baseline.referenceDice)
    return f"Dice to the reference {found} (FP32 {before})"


def _timesSmaller(engine: EngineFigures, baseline: EngineFigures) -> float | None:
    if not engine.sizeMb or not baseline.sizeMb:
        return None
    return baseline.sizeMb / engine.sizeMb


def _timesText(times: float | None, better: str, worse: str) -> str:
    if not times:
        return ""
    if times >= 1:
        return f"{formats.ratio_text(times)}{_TIMES} {better}"
    return f"{formats.ratio_text(1 / times)}{_TIMES} {worse}"
