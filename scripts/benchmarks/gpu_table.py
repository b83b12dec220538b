"""The tables of :mod:`gpu`, as Markdown."""

from __future__ import annotations

from typing import Any

from gpu_limits import least_ms
from gpu_network import PATCH, RUNS
from publishing import footer

_SHOWN = 5  # layers of an engine


def table(report: dict[str, Any]) -> str:
    """Return what was measured: all ways, what was tried for INT8, and the slowest layers."""
    text = [
        f"# The networks on a GPU, patches of {PATCH}³",
        "",
        f"Random weights. Median of {RUNS} runs, on the device, of a whole batch. *Against* "
        "TensorRT's FP32 (which is TF32) and PyTorch's at the same batch. *At best*: the time that "
        "the convolutions and matrix products alone take at the GPU's peaks, measured in the same "
        "run. *Error*: root mean square of the output's difference from PyTorch FP32, as a share "
        "of the output's own. *Layers*: convolutions and matrix products by what they read, as "
        "TensorRT's inspector tells."
        + (" Builds had TensorRT's timings of earlier ones." if report["had_timings"] else ""),
        "",
        "| network | batch | run as | ms | ms at best | against TensorRT FP32 "
        "| against PyTorch FP32 | engine MB | device MB | build s | error | layers |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, found in report["networks"].items():
        text += [_line(name, way, found) for way in found["ways"]]
        if "failed" in found:
            text.append(f"| {name} | | *{found['failed']}* | | | | | | | | | |")
    text += ["", "What was tried for INT8, the one that was taken first:", ""]
    text += [
        "| network | batch | in INT8 | ms | error | note |",
        "|---|---:|---|---:|---:|---|",
    ]
    for name, found in report["networks"].items():
        for way in found["ways"]:
            for tried in way.get("tried", ()) if way["way"] == "TensorRT INT8" else ():
                text.append(
                    f"| {name} | {way['batch']} | {tried['placement']} "
                    f"| {_optional(tried, 'milliseconds', '.2f')} "
                    f"| {_optional(tried, 'error', '.2%')} | {tried['note']} |"
                )
    text += ["", "The slowest layers of what was taken for INT8, at the first batch:", ""]
    text += ["| network | ms | layer |", "|---|---:|---|"]
    for name, found in report["networks"].items():
        taken = [way for way in found["ways"] if way["way"] == "TensorRT INT8"]
        layers = taken[0].get("slowest_layers_ms", {}) if taken else {}
        for layer, milliseconds in list(layers.items())[:_SHOWN]:
            text.append(f"| {name} | {milliseconds:.3f} | {_short(layer)} |")
    return "\n".join(text) + "\n" + footer(report)


def _line(name: str, way: dict[str, Any], found: dict[str, Any]) -> str:
    head = f"| {name} | {way['batch']} | {way['way']} "
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
