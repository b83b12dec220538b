"""The command line's commands: what each does, and how its result is shown."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from medptq import answers
from medptq.cli.console import Terminal
from medptq.cli.library import (
    import_network,
    remove_network,
    show_models,
    show_or_clear_cache,
)
from medptq.cli.outcome import Outcome
from medptq.cli.parsing import parsed
from medptq.cli.studying import (
    measure_sensitivity,
    quantize_automatically,
    run_benchmark,
    trials_table,
)
from medptq.errors import Cancelled, MedPTQError
from medptq.progress import Reporter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The words after the program's name; those that it was started with by default.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a scan's name may have letters that it lacks
            stream.reconfigure(errors="backslashreplace")
    options = parsed(arguments)
    command = _COMMANDS[options.command]
    outcome: Outcome | MedPTQError
    with Terminal(quiet=options.quiet) as terminal:
        try:
            outcome = command(options, terminal.reporter)
        except MedPTQError as error:
            outcome = error
        except KeyboardInterrupt:
            outcome = Cancelled()
    status = outcome.exit_status if isinstance(outcome, MedPTQError) else 0
    try:
        if isinstance(outcome, MedPTQError):
            _show_failure(outcome, options, terminal)
        else:
            _show(outcome, options, terminal)
        if sys.stdout is not None:  # as where it was closed, and for Windows' programs
            sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # whoever reads has seen enough, as head does
            with contextlib.suppress(OSError):  # it was stderr that could not be written
                print(f"The answer could not be printed: {error.strerror}.", file=sys.stderr)
        _drop_what_is_left()
        return status or 1
    return status


def _drop_what_is_left() -> None:
    """Drop what could not be printed, as Python would try again at its end and fail with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _show(outcome: Outcome, options: argparse.Namespace, terminal: Terminal) -> None:
    if options.json:
        print(json.dumps({**outcome.answer, "warnings": terminal.warnings}))
        return
    console = Console(highlight=False)
    for part in outcome.shown:
        console.print(part, soft_wrap=isinstance(part, str), markup=False)


def _show_failure(error: MedPTQError, options: argparse.Namespace, terminal: Terminal) -> None:
    if options.json:
        failure = answers.error_answer(error)
        print(json.dumps({"error": failure, "warnings": terminal.warnings}))
    else:
        if "trials" in error.facts:
            table = trials_table(error.facts["trials"])
            Console(stderr=True, highlight=False).print(table, markup=False)
        print(error, file=sys.stderr)


def _inspect(options: argparse.Namespace, reporter: Reporter) -> Outcome:
    from medptq.scans.inspecting import inspect_scans

    answer = answers.inspect_answer(inspect_scans(options.scans, reporter=reporter))
    formats = ", ".join(f"{count} {name}" for name, count in answer["formats"].items())
    lines = [f"{answer['scans']} scans ({formats}), {answer['size_mb']:.0f} MB"]
    for key, words in (("spacing_mm", "Voxel size in mm"), ("shape", "Voxels")):
        if answer[key] is not None:
            least, most = (" x ".join(f"{n:g}" for n in numbers) for numbers in answer[key])
            lines.append(f"{words} (K, J, I): {least if least == most else f'{least} to {most}'}")
    lines += [f"Not usable: {scan['what']}, as {scan['why']}" for scan in answer["unusable"]]
    return Outcome(answer, lines)


def _doctor(_: argparse.Namespace, reporter: Reporter) -> Outcome:
    from medptq.engines.doctor import examine

    [diagnosis] = [examine() for _ in reporter.track([None], "Examining this machine")]
    answer = answers.doctor_answer(diagnosis)
    machine = diagnosis.machine
    gpus = ", ".join(f"{gpu.name} ({gpu.memory_mb / 1024:.0f} GB)" for gpu in machine.gpus)
    lines = [
        f"System      {machine.system}",
        f"CPU         {machine.cpu}, {machine.cores} cores"
        f" ({', '.join(machine.instructions) or 'no vector instructions that matter'})",
        f"GPU         {gpus or 'no NVIDIA GPU found'}",
        f"Memory      {machine.free_memory_gb:.1f} of {machine.memory_gb:.1f} GB free",
        f"Python      {answer['python']['version']}, {answer['python']['executable']}",
        f"Cache       {machine.cache}, {answer['cache_mb']:.0f} MB; "
        f"{machine.free_disk_gb:.0f} GB free",
        f"Library     {answer['library']}",
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
    return Outcome(answer, [*lines, table, f"Used by default: {diagnosis.default}"])


def _quantize(options: argparse.Namespace, reporter: Reporter) -> Outcome:
    if options.auto:
        return quantize_automatically(options, reporter)
    from medptq import api
    from medptq.evaluate.formats import equal, share
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
    answer = answers.quantize_answer(made)
    agreement = answer["agreement_with_fp32"]
    which = "other patches" if agreement["held_out"] else "of the patches"
    shown = (
        f"{answer['output']}: calibrated on {answer['patches']} patches of "
        f"{answer['scans']} scans; {answer['fp32_mb']:.1f} MB became {answer['int8_mb']:.1f} MB; "
        f"on {agreement['patches']} {which} {equal(agreement['voxels_equal'])} of the voxels "
        "are labelled as in FP32"
    )
    if least := agreement["least_alike"]:
        shown += f", and {least['name']} is the least alike (Dice {share(least['dice'])})"
    return Outcome(answer, [f"{shown}."])


def _segment(options: argparse.Namespace, reporter: Reporter) -> Outcome:
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
    # In a process that does nothing else, the process's peak is this run's.
    answer = {**answers.segment_answer(results), "peak_memory_mb": peak_memory_mb()}
    lines = [f"Ran on {answer['engine']} in {answer['precision']}."]
    for scan in answer["scans"]:
        seconds = dict(scan["volume_seconds"])
        total = seconds.pop("total")
        parts = ", ".join(f"{stage} {value:.1f}" for stage, value in seconds.items())
        lines.append(f"{scan['output']}: {total:.1f} s ({parts})")
    return Outcome(answer, lines)


def _compare(options: argparse.Namespace, reporter: Reporter) -> Outcome:
    from medptq import api
    from medptq.evaluate.formats import share
    from medptq.evaluate.results import ratios

    comparison = api.compare(
        options.model,
        options.quantized,
        options.scan,
        options.output,
        reference=options.reference,
        command="medptq compare MODEL QUANTIZED SCAN --output DIR"
        if options.quantized is not None
        else "medptq compare MODEL SCAN --output DIR",
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
            "" if score is None else share(score),
        )
    shown: list[Table | str] = [table, f"{options.output}/report.html has the whole comparison."]
    return Outcome(answers.compare_answer(comparison, options.output), shown)


_COMMANDS: dict[str, Callable[[argparse.Namespace, Reporter], Outcome]] = {
    "models": show_models,
    "import": import_network,
    "remove": remove_network,
    "cache": show_or_clear_cache,
    "doctor": _doctor,
    "inspect": _inspect,
    "quantize": _quantize,
    "sensitivity": measure_sensitivity,
    "segment": _segment,
    "compare": _compare,
    "benchmark": run_benchmark,
}
