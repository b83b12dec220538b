"""The ways in which a comparison is shown: what is drawn where, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias

from MedPTQSlicerLib.compareLayout import Arrangement
from MedPTQSlicerLib.compareSegmentations import Style
from MedPTQSlicerLib.disagreement import DISAGREEMENT_LABELS

Drawn: TypeAlias = Literal["fp32", "int8", "differences"]
View: TypeAlias = Literal["first", "last", "3D"]

FP32_COLOR, INT8_COLOR = (
    tuple(part / 255 for part in label.color) for label in DISAGREEMENT_LABELS[:2]
)
BOTH_COLOR = (0.55, 0.55, 0.55)

ALONE = Style(fill=0.45, outline=1)
_OUTLINE = Style(fill=0, outline=3)
_FILL = Style(fill=0.45, outline=0)
_DISAGREEING = Style(fill=0.85, outline=1)
_GHOST = Style(fill=0.45, outline=1, surface=0.15)  # in 3D alone


@dataclass(frozen=True)
class Mode:
    """One way to show FP32 and INT8.

    Attributes:
        arrangement: The layout.
        label: What the first slice view is called.
        color: Of the bar above it; red, green, blue, from 0 to 1.
        drawn: What is drawn, in which views, and how.
        surfaces: What the 3D view needs the surfaces of.
    """

    arrangement: Arrangement
    label: str
    color: tuple[float, ...]
    drawn: Mapping[Drawn, tuple[tuple[View, ...], Style]]
    surfaces: tuple[Drawn, ...]


class Shown(Enum):
    """How FP32 and INT8 are shown; the names are those of the panel's state."""

    SIDE_BY_SIDE = Mode(
        Arrangement.SIDE_BY_SIDE,
        "FP32",
        FP32_COLOR,
        {"fp32": (("first",), ALONE), "int8": (("last", "3D"), ALONE)},
        ("int8",),
    )
    BOTH = Mode(
        Arrangement.ONE_VIEW,
        "FP32 (outline) and INT8",
        BOTH_COLOR,
        {"fp32": (("first",), _OUTLINE), "int8": (("first", "3D"), _FILL)},
        ("int8", "fp32"),  # they may blink
    )
    DISAGREEMENT = Mode(
        Arrangement.ONE_VIEW,
        "Differences",
        BOTH_COLOR,
        {"fp32": (("3D",), _GHOST), "differences": (("first", "3D"), _DISAGREEING)},
        ("differences", "fp32"),
    )
