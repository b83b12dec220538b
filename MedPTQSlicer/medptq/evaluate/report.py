"""The report of a comparison: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medptq.artifacts import atomic_file
from medptq.errors import OutputError
from medptq.evaluate import formats
from medptq.evaluate.charts import Bar, bar_chart
from medptq.evaluate.headlines import headlines_of
from medptq.evaluate.pages import render_page
from medptq.evaluate.results import Comparison, Score, ratios

_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True)
class ClassRow:
    """One structure in the table of structures; figures are None where there is none."""

    name: str
    color: str
    volume_fp32: float | None
    volume_int8: float | None
    dice: float | None
    nsd: float | None
    reference_fp32: float | None
    reference_int8: float | None


def write_report(
    comparison: Comparison,
    pictures: Mapping[str, Path | bytes],
    folder: Path,
    *,
    overwrite: bool = False,
) -> Path:
    """Write ``report.html`` and return its path.

    The file is self-contained: pictures and styles are inside it, it holds no scripts, and a
    content security policy keeps a browser from loading anything from elsewhere.

    Args:
        comparison: The figures.
        pictures: PNG or JPEG files, or their content, by caption.
        folder: Where to write; it is made if need be.
        overwrite: Replace a report that is there.

    Raises:
        OutputError: A picture is missing or of another kind, or the report exists or cannot be
            written.
    """
    html = render_page(
        "report.html.j2",
        comparison=comparison,
        pictures={caption: _inline(picture) for caption, picture in pictures.items()},
        **_content(comparison),
    )
    path = folder / "report.html"
    with atomic_file(path, overwrite=overwrite) as part:
        part.write_text(html, encoding="utf-8")
    return path


def _content(comparison: Comparison) -> dict[str, Any]:
    best, baseline = comparison.headline, comparison.baseline
    rows = _class_rows(comparison)
    found = [row for row in rows if row.dice is not None or row.reference_int8 is not None]
    return {
        "best": best,
        "baseline": baseline,
        "headlines": headlines_of(comparison),
        "charts": _charts(comparison),
        "rows": sorted(found, key=lambda row: 2.0 if row.dice is None else row.dice),
        "absent": [row.name for row in rows if row not in found],
        "ratios": [ratios(result, baseline) for result in comparison.engines],
        "labels": {label.value: label.name for label in comparison.labels},
    }


def _charts(comparison: Comparison) -> dict[str, Any]:
    best = comparison.headline
    stages = ("load", "preprocess", "inference", "postprocess")

    def simple(title: str, value: Any, text: Any) -> Any:
        bars = [
            Bar(result.title, (value(result),), text(value(result)), result is best)
            for result in comparison.engines
        ]
        return bar_chart(title, bars)

    whole_scan = [
        Bar(
            result.title,
            tuple(getattr(result.volume_seconds, stage) for stage in stages),
            formats.seconds(result.volume_seconds.total),
            result is best,
        )
        for result in comparison.engines
    ]
    megabytes = "{:,.0f} MB".format
    return {
        "Network, one patch": simple(
            "Median latency of the network for one patch, in milliseconds",
            lambda result: result.latency.median,
            formats.milliseconds,
        ),
        "Whole scan": bar_chart(
            "Seconds for the whole scan, by stage", whole_scan, [s.capitalize() for s in stages]
        ),
        "Size on the disk": simple(
            "Size of the network's file, in MB",
            lambda result: result.model_size_mb,
            lambda size: f"{formats.decimals(size, 1)} MB",
        ),
        "Peak memory": simple(
            "Largest resident memory of the process, in MB",
            lambda result: result.peak_memory_mb,
            megabytes,
        ),
    }


def _class_rows(comparison: Comparison) -> list[ClassRow]:
    best, baseline = comparison.headline, comparison.baseline

    def of(score: Score | None, label: int) -> float | None:
        return None if score is None else score.per_class.get(label)

    volumes = best.agreement.volumes_ml if best.agreement is not None else {}
    rows = []
    for label in comparison.labels:
        volume_fp32, volume_int8 = volumes.get(label.value, (None, None))
        rows.append(
            ClassRow(
                name=label.name,
                color="#{:02x}{:02x}{:02x}".format(*label.color),
                volume_fp32=volume_fp32,
                volume_int8=volume_int8,
                dice=of(best.dice_vs_fp32, label.value),
                nsd=of(best.nsd_vs_fp32, label.value),
                reference_fp32=of(baseline.dice_vs_reference, label.value),
                reference_int8=of(best.dice_vs_reference, label.value),
            )
        )
    return rows


def _inline(picture: Path | bytes) -> str:
    try:
        content = picture if isinstance(picture, bytes) else picture.read_bytes()
    except OSError as error:
        raise _bad_picture(error.strerror or str(error)) from error
    for signature, kind in _KINDS.items():
        if content.startswith(signature):
            return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
    raise _bad_picture("it is neither PNG nor JPEG")


def _bad_picture(why: str) -> OutputError:
    return OutputError(
        "picture",
        "A picture could not be put into the report",
        why=why,
        todo="Save it as a PNG file and write the report again",
    )
