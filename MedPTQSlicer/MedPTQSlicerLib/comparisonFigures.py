"""A comparison's figures, picked from report.json for the tables of the panel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Report: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class ClassFigures:
    """One structure in FP32 and INT8. None where there is no figure: it is in neither of the two.

    Attributes:
        name: The structure's name.
        fp32Ml: Its volume in FP32, in ml.
        int8Ml: Its volume in INT8, in ml.
        dice: Dice of the two.
        surfaceDice: Normalized surface Dice of the two.
        fp32ReferenceDice: Dice of FP32 and the reference segmentation, if one was given.
        int8ReferenceDice: Dice of INT8 and the reference segmentation, likewise.
        fp32ReferenceSurfaceDice: Normalized surface Dice of the same.
        int8ReferenceSurfaceDice: Likewise.
        largestMm3: Volume of the largest connected piece that differs, in mm³; 0 if none does.
        largestCentre: Index (k, j, i) of a voxel in the middle of that piece.
    """

    name: str
    fp32Ml: float | None
    int8Ml: float | None
    dice: float | None
    surfaceDice: float | None
    fp32ReferenceDice: float | None
    int8ReferenceDice: float | None
    fp32ReferenceSurfaceDice: float | None
    int8ReferenceSurfaceDice: float | None
    largestMm3: float | None
    largestCentre: tuple[int, int, int] | None


@dataclass(frozen=True)
class EngineFigures:
    """What one engine needs at one precision.

    Attributes:
        title: Engine and precision, to show.
        isBaseline: Whether the others are measured against it.
        isHeadline: Whether it is the result to show first.
        patchMs: Median time of the network for one patch, in ms.
        scanSeconds: Time for the whole scan, in s.
        sizeMb: The network's file, in MB.
        memoryMb: Peak memory of the process, in MB.
        dice: Mean Dice to the baseline.
        referenceDice: Mean Dice to the reference segmentation, if one was given.
        timesFaster: How many times faster a patch is than in the baseline.
    """

    title: str
    isBaseline: bool
    isHeadline: bool
    patchMs: float | None
    scanSeconds: float | None
    sizeMb: float | None
    memoryMb: float | None
    dice: float | None
    referenceDice: float | None
    timesFaster: float | None


def classFigures(report: Report) -> tuple[ClassFigures, ...]:
    """Return the figures of each structure, in the model's order.

    Structures that the model does not name, but that are in a label map, come last.

    Args:
        report: The content of report.json.
    """
    fp32, int8 = _engine(report, "baseline"), _engine(report, "headline")
    agreement = int8["agreement"] or {"volumes_ml": {}, "largest": {}}
    voxelMm3 = math.prod(report["scan_spacing"])
    dice = _perClass(int8, "dice_vs_fp32")

    def figures(name: str) -> ClassFigures:
        volumes = agreement["volumes_ml"].get(name, {})
        largest = agreement["largest"].get(name)
        k, j, i = largest["centre"] if largest else (0, 0, 0)
        return ClassFigures(
            name=name,
            fp32Ml=volumes.get("fp32"),
            int8Ml=volumes.get("this"),
            dice=dice.get(name),
            surfaceDice=_perClass(int8, "nsd_vs_fp32").get(name),
            fp32ReferenceDice=_perClass(fp32, "dice_vs_reference").get(name),
            int8ReferenceDice=_perClass(int8, "dice_vs_reference").get(name),
            fp32ReferenceSurfaceDice=_perClass(fp32, "nsd_vs_reference").get(name),
            int8ReferenceSurfaceDice=_perClass(int8, "nsd_vs_reference").get(name),
            largestMm3=largest["voxels"] * voxelMm3 if largest else 0.0 if volumes else None,
            largestCentre=(k, j, i) if largest else None,
        )

    return tuple(figures(name) for name in dict.fromkeys((*dice, *agreement["volumes_ml"])))


def engineFigures(report: Report) -> tuple[EngineFigures, ...]:
    """Return the figures of each engine and precision, in the report's order.

    Args:
        report: The content of report.json.
    """
    baseline, headline = _engine(report, "baseline"), _engine(report, "headline")
    return tuple(
        EngineFigures(
            title=engine["title"],
            isBaseline=engine is baseline,
            isHeadline=engine is headline,
            patchMs=engine["latency_ms"]["median"],
            scanSeconds=engine["volume_seconds"]["total"],
            sizeMb=engine["model_size_mb"],
            memoryMb=engine["peak_memory_mb"],
            dice=(engine["dice_vs_fp32"] or {}).get("mean"),
            referenceDice=(engine["dice_vs_reference"] or {}).get("mean"),
            timesFaster=engine["times_better_than_baseline"]["latency"],
        )
        for engine in report["engines"]
    )


def _engine(report: Report, role: str) -> Mapping[str, Any]:
    """Return the result that the report names as its baseline or its headline."""
    chosen = report[role]
    return next(engine for engine in report["engines"] if chosen.items() <= engine.items())


def _perClass(engine: Mapping[str, Any], score: str) -> Mapping[str, float | None]:
    per_class: Mapping[str, float | None] = (engine[score] or {"per_class": {}})["per_class"]
    return per_class
