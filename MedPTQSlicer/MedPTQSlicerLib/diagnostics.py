"""What is copied for a report of a fault: versions, engines, the verdict, and no patient's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

import medptq
from medptq.installation.facts import Facts
from MedPTQSlicerLib.computerCheck import ComputerReport
from MedPTQSlicerLib.requirements import loadRequirements

_MOST_LINES = 40
_SCAN = re.compile(r"\.(?:nii|nrrd|nhdr|mha|mhd|dcm|img|hdr|gz)\b", re.IGNORECASE)
_NO_PATH = re.compile(r"\b(?:and/or|cpu/gpu|[in]/[oa]|(?:m|[kmg]?b|it)/s|\d+/\d+)\b", re.IGNORECASE)
_KIND = re.compile(r"^\s*[\w.]*(?:Error|Exception|Warning)(?=:)")
_HIDDEN = "<a line that names a file>"


def detailLines(report: ComputerReport) -> Iterator[str]:
    """Yield what a check has found, in short lines."""
    if report.error is not None:
        yield f"Error: {report.error.code}: {report.error}"
    yield from (f"Also: {each}" for each in report.verdict.also)
    if report.answer is not None:
        for engine in report.answer["engines"]:
            yield from _engineLines(engine, report.answer["default"])
        yield from _machineLines(report.answer["machine"])
    facts = report.facts
    if facts is not None:
        for gpu in facts.gpus:
            free, all_ = gpu.free_memory_mb / 1024, gpu.memory_mb / 1024
            yield f"GPU: {gpu.name}, driver {gpu.driver}, {free:.1f} of {all_:.1f} GiB free"
        if not facts.gpus:
            yield "GPU: no NVIDIA GPU with a working driver"
        yield f"System: {facts.system}"
    if report.python is not None:
        own = "Slicer's own" if report.python.isSlicers else "chosen by the user"
        yield f"Python: {report.python.path}, {own}"
    if facts is not None:
        yield f"  {facts.python} ({facts.kind}), {facts.free_disk_gb:.0f} GB free"
        yield f"  {facts.site_packages}"
        yield from _packageLines(facts)


def diagnosticsText(
    report: ComputerReport | None,
    *,
    slicer: str,
    log: Path,
    logText: str,
    stderr: str,
    home: Path,
) -> str:
    """Return all that is needed to understand a fault on another computer, as plain text.

    Paths of the user's own files are left out, and the home folder is written as ``~``.

    Args:
        report: The last check; None if there was none.
        slicer: Slicer's version.
        log: Where the worker's log is.
        logText: What is in it.
        stderr: What the worker's libraries have printed.
        home: The user's home folder.
    """
    parts = [f"MedPTQ {medptq.__version__} in 3D Slicer {slicer}"]
    roots: list[str] = [str(Path(medptq.__file__).parents[1])]
    if report is None:
        parts.append("This computer was not checked.")
    else:
        verdict = report.verdict
        parts += [f"{verdict.light.upper()}: {verdict.line}"]
        parts += [part for part in (verdict.why, verdict.todo) if part]
        parts += [""]
        parts += detailLines(report)
        roots += [report.facts.prefix] if report.facts is not None else []
    parts += ["", f"Log: {log}", *_last(logText)]
    parts += [
        "",
        "Last output of the worker:",
        *(withoutPaths(line, roots) for line in _last(stderr)),
    ]
    return _shortened("\n".join(parts), home) + "\n"


def withoutPaths(line: str, roots: Sequence[str]) -> str:
    """Return a line, or what is left of one that names a file or folder other than programs'.

    Where a path ends cannot be told: names of patients hold spaces, commas and brackets. So nothing
    is kept of such a line but the kind of error that it begins with.

    Args:
        line: What a library has printed; it may name a patient's file.
        roots: The folders of programs.
    """
    rest = line
    for root in roots:
        rest = re.sub(rf"{re.escape(root)}(?:[\\/][^\s\"'<>|:;,]*|(?![\w.-]))", "", rest)
    rest = _NO_PATH.sub("", rest)
    if not (_SCAN.search(rest) or "/" in rest or "\\" in rest):
        return line
    kind = _KIND.match(line)
    return f"{kind[0]}: {_HIDDEN}" if kind else _HIDDEN


def _packageLines(facts: Facts) -> Iterator[str]:
    requirements = [
        each
        for each in loadRequirements()
        if each.marker is None or each.marker.evaluate(dict(facts.environment))
    ]
    for requirement in requirements:
        version = facts.packages.get(canonicalize_name(requirement.name), "missing")
        yield f"  {requirement.name} {version} (needs {requirement.specifier})"


def _machineLines(machine: Mapping[str, Any]) -> Iterator[str]:
    yield f"CPU: {machine['cpu']}, {machine['cores']} cores"
    yield f"  {', '.join(machine['instructions']) or 'no vector instructions that matter'}"
    yield f"Memory: {machine['free_memory_gb']:.1f} of {machine['memory_gb']:.1f} GB free"
    yield f"Cache: {machine['cache']}, {machine['free_disk_gb']:.0f} GB free"


def _engineLines(engine: Mapping[str, Any], default: str) -> Iterator[str]:
    availability = engine["availability"]
    name = f"{engine['name']} {availability['version'].partition('-')[0]}".strip()
    if not availability["usable"]:
        yield f"Engine {name}: cannot be used: {availability['reason']}"
        return
    used = " (default)" if engine["name"] == default else ""
    yield f"Engine {name}{used}"
    for proof in engine["proofs"]:
        if proof["verdict"] == "ok":
            layers = ", ".join(f"{count} {name}" for name, count in proof["layers"].items())
            yield f"  {proof['precision']}: ok, {proof['milliseconds']:.2f} ms ({layers})"
        else:
            yield f"  {proof['precision']}: {proof['verdict']}: {proof['reason']}"


def _last(text: str) -> list[str]:
    return text.splitlines()[-_MOST_LINES:]


def _shortened(text: str, home: Path) -> str:
    for written in {str(home), home.as_posix()}:
        text = text.replace(written, "~")
    return text
