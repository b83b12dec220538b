"""The command line's commands: what each does, and how its result is shown."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from medptq.cli.arguments import make_parser
from medptq.cli.console import Terminal
from medptq.errors import Cancelled, MedPTQError
from medptq.progress import Reporter


@dataclass(frozen=True)
class Answer:
    """A command's result: for machines, and as shown to people."""

    content: dict[str, Any]
    shown: Sequence[Table | str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The words after the program's name; those that it was started with by default.
    """
    options = make_parser().parse_args(arguments)
    command = _COMMANDS[options.command]
    with Terminal(quiet=options.quiet) as terminal:
        try:
            answer = command(options, terminal.reporter)
        except (MedPTQError, KeyboardInterrupt) as error:
            failure = error if isinstance(error, MedPTQError) else Cancelled()
            return _fail(failure, options, terminal)
    if options.json:
        print(json.dumps({**answer.content, "warnings": terminal.warnings}, ensure_ascii=False))
    else:
        console = Console(highlight=False)
        for part in answer.shown:
            console.print(part, soft_wrap=isinstance(part, str))
    return 0


def _fail(error: MedPTQError, options: argparse.Namespace, terminal: Terminal) -> int:
    if options.json:
        failure = {
            "code": error.code,
            "message": str(error),
            "what": error.what,
            "why": error.why,
            "todo": error.todo,
        }
        print(json.dumps({"error": failure, "warnings": terminal.warnings}, ensure_ascii=False))
    else:
        print(error, file=sys.stderr)
    return error.exit_status


def _models(_: argparse.Namespace, __: Reporter) -> Answer:
    from medptq.models.catalogue import entries

    table = Table("id", "what", "modality", "region", "structures", "MB", "licence", "source")
    rows = []
    for entry in entries():
        names: list[str] = [label["name"] for label in entry.card["labels"]]
        row = {
            "id": entry.id,
            "title": entry.title,
            "task": entry.task,
            "modality": entry.modality,
            "region": entry.region,
            "structures": names,
            "size_mb": entry.download.size_mb,
            "licence": entry.provenance.licence,
            "source": entry.provenance.source,
            "citation": entry.provenance.citation,
        }
        rows.append(row)
        table.add_row(
            entry.id,
            entry.task,
            entry.modality,
            entry.region,
            ", ".join(names) if len(names) <= 3 else f"{len(names)} structures",
            f"{entry.download.size_mb:.1f}",
            entry.provenance.licence,
            entry.provenance.source,
        )
    return Answer({"models": rows}, [table])


def _doctor(_: argparse.Namespace, reporter: Reporter) -> Answer:
    from medptq.engines.doctor import examine

    [diagnosis] = [examine() for _ in reporter.track([None], "Examining this machine")]
    machine = diagnosis.machine
    gpus = ", ".join(f"{gpu.name} ({gpu.memory_mb / 1024:.0f} GB)" for gpu in machine.gpus)
    lines = [
        f"System      {machine.system}",
        f"CPU         {machine.cpu}, {machine.cores} cores"
        f" ({', '.join(machine.instructions) or 'no vector instructions that matter'})",
        f"GPU         {gpus or 'no NVIDIA GPU found'}",
        f"Memory      {machine.free_memory_gb:.1f} of {machine.memory_gb:.1f} GB free",
        f"Cache       {machine.cache}, {machine.free_disk_gb:.0f} GB free",
    ]
    table = Table("engine", "version", "precision", "proof", "ms", "layers run as")
    for engine in diagnosis.engines:
        if not engine.availability.usable:
            table.add_row(engine.name, "-", "-", engine.availability.reason, "", "")
        for proof in engine.proofs:
            table.add_row(
                engine.name,
                engine.availability.version,
                proof.precision,
                proof.verdict if proof.verdict == "ok" else f"{proof.verdict}: {proof.reason}",
                "" if proof.milliseconds is None else f"{proof.milliseconds:.2f}",
                ", ".join(f"{n} {name}" for name, n in (proof.layers or {}).items()),
            )
    content = {**asdict(diagnosis), "machine": {**asdict(machine), "cache": str(machine.cache)}}
    return Answer(content, [*lines, table, f"Used by default: {diagnosis.default}"])


def _quantize(options: argparse.Namespace, reporter: Reporter) -> Answer:
    from medptq import api
    from medptq.quantization.recipe import Recipe

    recipe = Recipe(options.observer, options.percentile, options.patches, options.seed)
    made = api.quantize(
        options.model,
        options.scans,
        options.output,
        recipe=recipe,
        overwrite=options.overwrite,
        reporter=reporter,
    )
    fp32, int8 = made.model.onnx.stat().st_size / 1e6, made.int8.stat().st_size / 1e6
    calibration, agreement = made.manifest["calibration"], made.manifest["agreement_with_fp32"]
    content = {
        "output": str(made.folder),
        "scans": calibration["scans"],
        "patches": calibration["patches"],
        "fp32_mb": fp32,
        "int8_mb": int8,
        "agreement_with_fp32": agreement,
    }
    shown = (
        f"{made.folder}: calibrated on {calibration['patches']} patches of "
        f"{calibration['scans']} scans; {fp32:.1f} MB became {int8:.1f} MB; on "
        f"{agreement['patches']} of the patches {agreement['voxels_equal']:.2%} of the voxels are "
        "labelled as in FP32."
    )
    return Answer(content, [shown])


def _segment(options: argparse.Namespace, reporter: Reporter) -> Answer:
    from medptq import api
    from medptq.evaluate.memory import peak_memory_mb

    results = api.segment(
        options.model,
        options.scan,
        options.output,
        engine=options.engine,
        precision=None if options.precision == "best" else options.precision,
        overwrite=options.overwrite,
        reporter=reporter,
    )
    rows, lines = [], []
    for result in results:
        seconds = {"load": result.load_seconds, **asdict(result.segmentation.seconds)}
        total = sum(seconds.values())
        rows.append({"output": str(result.output), "volume_seconds": {**seconds, "total": total}})
        parts = ", ".join(f"{stage} {value:.1f}" for stage, value in seconds.items())
        lines.append(f"{result.output}: {total:.1f} s ({parts})")
    content = {
        "engine": results[0].engine,
        "precision": results[0].precision,
        "scans": rows,
        "peak_memory_mb": peak_memory_mb(),
    }
    return Answer(content, [f"Ran on {results[0].engine} in {results[0].precision}.", *lines])


def _compare(options: argparse.Namespace, reporter: Reporter) -> Answer:
    from medptq import api
    from medptq.evaluate.results import ratios, to_json

    comparison = api.compare(
        options.model,
        options.quantized,
        options.scan,
        options.output,
        reference=options.reference,
        command="medptq compare MODEL QUANTIZED SCAN --output DIR",
        overwrite=options.overwrite,
        reporter=reporter,
    )
    table = Table("engine", "one patch, ms", "times faster", "scan, s", "MB", "memory, MB", "Dice")
    for result in comparison.engines:
        score = result.dice_vs_fp32.mean if result.dice_vs_fp32 is not None else None
        table.add_row(
            result.title,
            f"{result.latency.median:.0f}",
            f"{ratios(result, comparison.baseline).latency:.2f}",
            f"{result.volume_seconds.total:.1f}",
            f"{result.model_size_mb:.1f}",
            f"{result.peak_memory_mb:.0f}",
            "" if score is None else f"{score:.4f}",
        )
    shown: list[Table | str] = [table, f"{options.output}/report.html has the whole comparison."]
    return Answer({"output": options.output, **to_json(comparison)}, shown)


_COMMANDS: dict[str, Callable[[argparse.Namespace, Reporter], Answer]] = {
    "models": _models,
    "doctor": _doctor,
    "quantize": _quantize,
    "segment": _segment,
    "compare": _compare,
}
