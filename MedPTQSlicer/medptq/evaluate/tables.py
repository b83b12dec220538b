"""A comparison as two tables for spreadsheets: CSV, one header line, one thing a row."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from medptq.artifacts import atomic_file
from medptq.evaluate.results import Comparison, EngineResult, Score, ratios

Row: TypeAlias = Mapping[str, Any]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def engine_rows(comparison: Comparison) -> list[Row]:
    """Return a row for each engine and precision: times, size, memory and mean scores.

    Each says of itself what it was measured on, so that tables can be put below one another. A
    figure that there is none of is empty.
    """
    return [_engine_row(comparison, result) for result in comparison.engines]


def structure_rows(comparison: Comparison) -> list[Row]:
    """Return a row for each engine, precision and structure: volumes and scores."""
    return [
        {
            **_what(comparison, result),
            "label": label.value,
            "structure": label.name,
            **_volumes(comparison, result, label.value),
            "dice_vs_fp32": _of(result.dice_vs_fp32, label.value),
            "nsd_vs_fp32": _of(result.nsd_vs_fp32, label.value),
            "dice_vs_reference": _of(result.dice_vs_reference, label.value),
            "nsd_vs_reference": _of(result.nsd_vs_reference, label.value),
        }
        for result in comparison.engines
        for label in comparison.labels
    ]


def write_table(path: Path, rows: Sequence[Row], *, overwrite: bool = False) -> None:
    """Write rows as CSV that Excel, LibreOffice and pandas read alike: UTF-8 with a mark, commas.

    Text that a spreadsheet would compute is written with a ``'`` before it, as names come from
    cards that anybody may have written.

    Raises:
        OutputError: The file is there already or cannot be written.
    """
    with (
        atomic_file(path, overwrite=overwrite) as part,
        part.open("w", encoding="utf-8-sig", newline="") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _what(comparison: Comparison, result: EngineResult) -> dict[str, Any]:
    return {
        "model": comparison.model_id,
        "date": comparison.date,
        "engine": result.engine,
        "precision": result.precision,
    }


def _engine_row(comparison: Comparison, result: EngineResult) -> Row:
    latency, seconds, agreement = result.latency, result.volume_seconds, result.agreement
    better = ratios(result, comparison.baseline)
    return {
        **_what(comparison, result),
        "is_baseline": int(result is comparison.baseline),
        "patch_ms_median": latency.median,
        "patch_ms_min": latency.min,
        "patch_ms_max": latency.max,
        "patch_runs": latency.runs,
        "scan_s_load": seconds.load,
        "scan_s_preprocess": seconds.preprocess,
        "scan_s_inference": seconds.inference,
        "scan_s_postprocess": seconds.postprocess,
        "scan_s_total": seconds.total,
        "model_size_mb": result.model_size_mb,
        "peak_memory_mb": result.peak_memory_mb,
        "times_faster_patch": better.latency,
        "times_faster_scan": better.volume,
        "times_smaller": better.size,
        "times_less_memory": better.memory,
        "dice_vs_fp32_mean": _mean(result.dice_vs_fp32),
        "nsd_vs_fp32_mean": _mean(result.nsd_vs_fp32),
        "dice_vs_reference_mean": _mean(result.dice_vs_reference),
        "nsd_vs_reference_mean": _mean(result.nsd_vs_reference),
        "voxels_equal_share": None if agreement is None else agreement.share,
        "voxels_that_differ": None if agreement is None else agreement.disagreeing_voxels,
        "patch_size": " x ".join(map(str, comparison.patch_size)),
        "scan_shape": " x ".join(map(str, comparison.scan_shape)),
        "scan_spacing_mm": " x ".join(f"{mm:g}" for mm in comparison.scan_spacing),
        "calibration_scans": comparison.calibration_scans,
        "cpu": comparison.machine.cpu,
        "cores": comparison.machine.cores,
        "gpu": comparison.machine.gpu,
        "os": comparison.machine.os,
    }


def _volumes(comparison: Comparison, result: EngineResult, label: int) -> dict[str, Any]:
    found = result.agreement
    # Of the baseline itself, whose volumes any other result tells.
    told = found or next((r.agreement for r in comparison.engines if r.agreement), None)
    fp32, this = (None, None) if told is None else told.volumes_ml.get(label, (0.0, 0.0))
    largest = None if found is None else found.largest.get(label)
    return {
        "volume_fp32_ml": fp32,
        "volume_ml": fp32 if found is None else this,
        "largest_difference_voxels": None if largest is None else largest.voxels,
    }


def _of(score: Score | None, label: int) -> float | None:
    return None if score is None else score.per_class.get(label)


def _mean(score: Score | None) -> float | None:
    return None if score is None else score.mean


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
