"""The tables of :mod:`gpu`, as Markdown."""

from __future__ import annotations

from typing import Any

from gpu_limits import least_ms
from gpu_network import LEAST_RUNS, RUNS
from gpu_prepare import PATCH
from publishing import footer

_MINE = ("TensorRT FP16", "TensorRT INT8")
_WORST_ERROR = 0.03
"""Root mean square on the patch, as a share of the output's own."""
_SHOWN = 5  # layers of an engine
_EXPECTED = (
    *("PyTorch FP32", "PyTorch TF32", "PyTorch AMP"),
    *("TensorRT FP32", "TensorRT FP16", "TensorRT INT8"),
)


def table(report: dict[str, Any]) -> str:
    """Return what was measured: all ways, what was tried for INT8, and the slowest layers."""
    text = [
        f"# The networks on a GPU, patches of {PATCH}³",
        "",
        f"Random weights. Median of {RUNS} runs (at least {LEAST_RUNS} of what is slow), on the "
        "device, of a whole batch. *Against* TensorRT's FP32 (which is TF32) and PyTorch's at the "
        "same batch. *Ours* is the fastest of FP16 in the forms of normalizations that are listed "
        "and INT8 as it was placed here. *At best*: the time that the convolutions and matrix "
        "products alone take at the GPU's peaks, measured in the same run. *Error*: root mean "
        "square of the output's difference from PyTorch FP32, as a share of the output's own. "
        "*Layers*: convolutions and matrix products by what they read, as TensorRT's inspector "
        "tells." + _of_builds(report),
        "",
        *([report["note"], ""] if "note" in report else []),  # of who published it
        *_of_ours(report),
        "",
        "All that was measured. Behind FP16: how normalizations were written.",
        "",
        "| network | batch | run as | ms | ms at best | against TensorRT FP32 "
        "| against PyTorch FP32 | engine MB | device MB | build s | error | layers |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, found in report["networks"].items():
        text += [_line(name, way, found) for way in found["ways"]]
        missing = [way for way in _EXPECTED if all(row["way"] != way for row in found["ways"])]
        if missing:
            text.append(f"| {name} | | *not run: {', '.join(missing)}* | | | | | | | | | |")
        if "failed" in found:
            text.append(f"| {name} | | *{found['failed']}* | | | | | | | | | |")
    text += ["", "What was tried for INT8, the one that was taken first:", ""]
    text += [
        "| network | batch | in INT8 | normalizations | ms | error | note |",
        "|---|---:|---|---|---:|---:|---|",
    ]
    for name, found in report["networks"].items():
        for way in found["ways"]:
            for tried in way.get("tried", ()) if way["way"] == "TensorRT INT8" else ():
                text.append(
                    f"| {name} | {way['batch']} | {tried['placement']} | {tried['form']} "
                    f"| {_optional(tried, 'milliseconds', '.2f')} "
                    f"| {_optional(tried, 'error', '.2%')} | {tried['note']} |"
                )
    text += ["", "The slowest layers of ours, at each batch:", ""]
    text += ["| network | batch | ms | layer |", "|---|---:|---:|---|"]
    for name, found in report["networks"].items():
        for batch, ours in _ours(found).items():
            layers = ours.get("slowest_layers_ms", {}) if ours else {}
            for layer, milliseconds in list(layers.items())[:_SHOWN]:
                text.append(f"| {name} | {batch} | {milliseconds:.3f} | {_short(layer)} |")
    return "\n".join(text) + "\n" + footer(report)


def _of_ours(report: dict[str, Any]) -> list[str]:
    """Return the table of the fastest way that medptq offers for each network and batch."""
    text = [
        "| network | batch | ours, ms | runs in | times TensorRT FP32 | times TensorRT FP16 "
        "| times PyTorch FP32 | engine smaller | memory less |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for name, found in report["networks"].items():
        for batch, ours in _ours(found).items():
            if ours is None:
                halves = [way for way in found["ways"] if way["way"] in _MINE]
                is_tried = any(way["batch"] == batch for way in halves)
                why = "nothing that agrees" if is_tried else "not run in FP16"
                text.append(f"| {name} | {batch} | | *{why}* | | | | | |")
                continue
            ways = [way for way in found["ways"] if way["batch"] == batch]
            factors = [
                _ratio(ours, key, base, ways)
                for key, base in (
                    *(("ms", base) for base in ("TensorRT FP32", "TensorRT FP16", "PyTorch FP32")),
                    ("engine_mb", "TensorRT FP32"),
                    ("memory_mb", "PyTorch FP32"),
                )
            ]
            cells = [f"{ours['ms']:.2f}", _runs_in(ours), *factors]
            text.append(f"| {name} | {batch} | {' | '.join(cells)} |")
    return text


def _ours(found: dict[str, Any]) -> dict[int, dict[str, Any] | None]:
    """Return the fastest way that medptq offers for each size of batch, and that is right."""
    mine: dict[int, dict[str, Any] | None] = {}
    for way in found["ways"]:
        batch = way["batch"]
        best = mine.setdefault(batch, None)
        is_mine = way["way"] in _MINE and "refused" not in way and "ms" in way
        if is_mine and _is_right(way, found) and (best is None or way["ms"] < best["ms"]):
            mine[batch] = way
    return mine


def _runs_in(way: dict[str, Any]) -> str:
    """Return a way's title, but of INT8 without a layer in INT8 that it is FP16."""
    title = _title(way).removeprefix("TensorRT ")
    is_int8 = way["way"] != "TensorRT INT8" or "int8" in way.get("layers", {})
    return title if is_int8 else title.replace("INT8", "FP16, built again")


def _is_right(way: dict[str, Any], found: dict[str, Any]) -> bool:
    """Tell whether its output on the patch is PyTorch's, as far as that keeps to it in AMP."""
    amp = [
        other["error"]
        for other in found["ways"]
        if other["way"] == "PyTorch AMP" and "error" in other
    ]
    return bool(way["error"] <= max([_WORST_ERROR, *(2 * error for error in amp)]))


def _ratio(ours: dict[str, Any], key: str, base: str, ways: list[dict[str, Any]]) -> str:
    """Return how many times as much the fastest way of a name has or takes."""
    others = [other for other in ways if other["way"] == base and key in other and "ms" in other]
    if not others or ours[key] <= 0:
        return ""
    return f"{min(others, key=lambda other: float(other['ms']))[key] / ours[key]:.2f}"


def _title(way: dict[str, Any]) -> str:
    form = way.get("form", "as it is")
    is_told = form != "as it is" and way["way"] != "TensorRT FP32"
    return f"{way['way']}, {form}" if is_told else str(way["way"])


def _of_builds(report: dict[str, Any]) -> str:
    """Return what the builds' times depend on, of whatever run they are."""
    rows = [row for found in report["networks"].values() for row in found["ways"]]
    at_a_time = max((row.get("builds_at_a_time", 1) for row in rows), default=1)
    text = " Builds had TensorRT's timings of earlier ones." * any(
        row.get("had_timings") for row in rows
    )
    if at_a_time > 1:
        text += (
            f" {at_a_time} networks were built at a time on a GPU, and timed afterwards, one by "
            "one."
        )
    return text


def _line(name: str, way: dict[str, Any], found: dict[str, Any]) -> str:
    refused = f", *not offered: {way['refused']}*" if "refused" in way else ""
    head = f"| {name} | {way['batch']} | {_title(way)}{refused} "
    if "failed" in way:
        return f"{head}| *{way['failed']}* | | | | | | | | |"
    layers = ", ".join(f"{n} {kind}" for kind, n in way.get("layers", {}).items())
    cells = [
        f"{way['ms']:.2f}",
        _at_best(way, found),
        *(_factor(f"{base} FP32", way, found) for base in ("TensorRT", "PyTorch")),
        _optional(way, "engine_mb", ".1f"),
        f"{way['memory_mb']:.0f}",
        _optional(way, "build_seconds", ".0f"),
        f"{way['error']:.2%}",
        layers,
    ]
    return f"{head}| {' | '.join(cells)} |"


def _at_best(way: dict[str, Any], found: dict[str, Any]) -> str:
    precision = way["way"].rpartition(" ")[2].lower()
    if precision not in ("fp16", "int8") or "work" not in found or "peaks" not in found:
        return ""
    return f"{least_ms(found['work'], found['peaks'], precision, way['batch']):.2f}"


def _factor(base: str, way: dict[str, Any], found: dict[str, Any]) -> str:
    for other in found["ways"]:
        if other["way"] == base and other["batch"] == way["batch"] and "ms" in other:
            return f"{other['ms'] / way['ms']:.2f}"
    return ""


def _short(layer: str) -> str:
    text = layer.replace("|", "/")
    return text if len(text) <= 120 else f"{text[:80]} … {text[-36:]}"


def _optional(facts: dict[str, Any], key: str, form: str) -> str:
    value = facts.get(key)
    return "" if value is None else format(value, form)
