"""What the panel says of a folder of scans and of a calibration on them, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from MedPTQSlicerLib.jobView import durationText
from MedPTQSlicerLib.modelDetails import agreementText, sizeText

_MOST_UNUSABLE = 20  # that the tooltip lists


def foundText(found: Mapping[str, Any]) -> str:
    """Return what was found in a folder, in a few lines.

    Args:
        found: What the worker's method ``inspect`` answered.
    """
    formats = found["formats"]
    kinds = ", ".join(f"{n} {name}" if len(formats) > 1 else name for name, n in formats.items())
    if not found["scans"]:
        lines = ["No scan that can be used"]
    else:
        lines = [f"{count(found['scans'], 'scan')} ({kinds}), {sizeText(found['size_mb'])}"]
    if found["spacing_mm"] is not None:
        lines.append(f"Voxels {_range(found['spacing_mm'])} mm")
    unusable = found["unusable"]
    if unusable:
        first = unusable[0]
        more = f", and {len(unusable) - 1} more" if len(unusable) > 1 else ""
        lines.append(f"Left out: {first['what']} ({first['why']}){more}")
    return "\n".join(lines)


def unusableText(found: Mapping[str, Any]) -> str:
    """Return all that cannot be used in a folder, a line each, or ``""``."""
    rows = [f"{row['what']}: {row['why']}" for row in found["unusable"]]
    more = [f"and {len(rows) - _MOST_UNUSABLE} more"] if len(rows) > _MOST_UNUSABLE else []
    return "\n".join([*rows[:_MOST_UNUSABLE], *more])


def shareText(scans: int, patches: int, takesWholeScan: bool) -> str:
    """Return what calibration will take of the scans, in a sentence.

    Args:
        scans: How many there are.
        patches: How many patches may be taken, at most.
        takesWholeScan: Whether the model takes a scan as a whole, which is then one patch.
    """
    if scans > patches:
        return f"{count(patches, 'scan')} of them will be drawn, for a patch each."
    if takesWholeScan:
        return "The model takes each scan as one patch." if scans > 1 else "It is one patch."
    return f"Each gives up to {count(-(-patches // max(scans, 1)), 'patch', 'patches')}."


def calibratedText(answer: Mapping[str, Any], seconds: float) -> str:
    """Return how a calibration went, in two sentences.

    Args:
        answer: What the worker's method ``quantize`` answered.
        seconds: How long it took.
    """
    of = f"{count(answer['scans'], 'scan')} ({count(answer['patches'], 'patch', 'patches')})"
    agreement = agreementText(answer["agreement_with_fp32"])
    sizes = f"{sizeText(answer['fp32_mb'])} became {sizeText(answer['int8_mb'])}"
    first = f"Calibrated on {of} in {durationText(seconds)}: {sizes}."
    return f"{first} In INT8 {agreement}." if agreement else first


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: ``"1 scan"``, ``"2 scans"``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _range(spacing: Sequence[Sequence[float]]) -> str:
    """Write the least and the largest voxel size along (K, J, I) as I x J x K."""
    least, largest = ([f"{size:.3g}" for size in reversed(sizes)] for sizes in spacing)
    same = " x ".join(least)
    return same if least == largest else f"from {same} to {' x '.join(largest)}"
