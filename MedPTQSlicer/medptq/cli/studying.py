"""The commands that try out what quantization does: sensitivity, quantize --auto, benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from rich.table import Column, Table

from medptq import answers
from medptq.cli.outcome import Outcome
from medptq.progress import Reporter

_MOST = 10


def measure_sensitivity(options: argparse.Namespace, reporter: Reporter) -> Outcome:
    """Do what ``medptq sensitivity`` asks for."""
    from medptq import studies
    from medptq.evaluate.formats import percent

    study = studies.sensitivity(
        options.model,
        options.scans,
        options.output,
        weight_bits=options.weight_bits,
        activation_bits=options.activation_bits,
        patches=options.patches,
        overwrite=options.overwrite,
        reporter=reporter,
    )
    layers = study.sensitivity.layers
    table = Table(Column("layer", overflow="fold"), "operator", "lost alone", "lost all but it")
    for row in layers[:_MOST]:
        losses = (percent(1 - found.dice) for found in (row.alone, row.all_but))
        table.add_row(row.layer, row.op_type, *losses)
    together = study.sensitivity.together
    words = (
        f"With all {len(layers)} layers in {study.scheme.name}, mean Dice with FP32's labels is "
        f"{together.dice:.4f} on {study.patches} patches of {study.scans} scans; lost by layer, "
        "the worst first:"
    )
    where = f"{options.output}/sensitivity.html has all layers, with plots."
    shown: list[Table | str] = [words, table, where]
    return Outcome(answers.sensitivity_answer(study, options.output), shown)


def quantize_automatically(options: argparse.Namespace, reporter: Reporter) -> Outcome:
    """Do what ``medptq quantize --auto`` asks for."""
    from medptq import studies
    from medptq.quantization.recipe import Recipe

    made = studies.auto_quantize(
        options.model,
        options.scans,
        options.output,
        least_agreement=options.least_agreement,
        recipe=Recipe(options.observer, options.percentile, options.patches, options.seed),
        overwrite=options.overwrite,
        reporter=reporter,
    )
    answer = answers.quantize_answer(made)
    search = answer["search"]
    [chosen] = (trial for trial in search["trials"] if trial["chosen"])
    words = (
        f"{answer['output']}: {chosen['name']} is the cheapest, on {search['engine']}, whose "
        f"labels agree with FP32's to a mean Dice of {search['least_agreement']:g} on "
        f"{search['patches']} patches of {search['scans']} scans that it was not calibrated on."
    )
    return Outcome(answer, [trials_table(search["trials"]), words])


def trials_table(trials: Sequence[dict[str, Any]]) -> Table:
    """Return what ``--auto`` tried, as a table.

    Args:
        trials: As :meth:`medptq.evaluate.trial.Trial.to_json` returns them.
    """
    from medptq.evaluate.formats import NONE, milliseconds, share

    table = Table("tried", "Dice with FP32", "least alike", "one patch", "MB", "")
    for trial in trials:
        measured = "passed" if trial["passed"] else "too far from FP32"
        verdict = "no cheaper" if trial["dice"] is None else measured
        least = trial["least_alike"]
        table.add_row(
            trial["name"],
            share(trial["dice"]),
            f"{least['name']}, {share(least['dice'])}" if least else NONE,
            milliseconds(trial["milliseconds"]),
            f"{trial['megabytes']:.1f}",
            "chosen" if trial["chosen"] else "" if trial["recipe"] is None else verdict,
        )
    return table


def run_benchmark(options: argparse.Namespace, reporter: Reporter) -> Outcome:
    """Do what ``medptq benchmark`` asks for."""
    from medptq.benchmarking.benchmark import benchmark
    from medptq.benchmarking.words import drop, score

    done = benchmark(
        options.networks,
        options.data,
        options.output,
        folder=options.folder,
        recipes=options.recipes,
        limit=options.limit,
        patches=options.patches,
        seed=options.seed,
        workers=options.workers,
        scheduler=options.scheduler,
        reporter=reporter,
    )
    shown: list[Table | str] = []
    for part in done.tables:
        table = Table("network", "recipe", "ran", "DSC", "lost", "NSD", "lost")
        for row in part.rows:
            for name, found in row.figures.items():
                table.add_row(
                    *(row.id, name, found.ran),
                    *(score(found.mean_dsc), drop(found.dsc_drop)),
                    *(score(found.mean_nsd), drop(found.nsd_drop)),
                )
        shown += [f"{part.data['name']}, {part.data['scans']} scans", table]
    shown.append(f"{options.output}/benchmark.html has it all; {done.measured} results are new.")
    return Outcome(answers.benchmark_answer(done, options.output), shown)
