"""MedQuanBench on the networks that train.py trained: what few bits cost, and what recovery saves.

    python scripts/benchmarks/medquanbench.py --trained trained --data ../shared/data --output DIR

What DIR holds already is not measured again, and several processes, each with its own GPU and
some of the networks (``--networks``), may fill it at the same time. Without ``--trained`` only
the tables are written. Last come a recipe's cost over all networks, and what was to be reached.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from publishing import RESULTS, circumstances

import medptq
from medptq.benchmarking.recipes import RECIPES
from medptq.benchmarking.summary import BenchmarkTable, Figures, Row
from medptq.benchmarking.words import drop, name
from medptq.evaluate.formats import NONE

DATA_SETS = Path(__file__).parents[1] / "data_sets"
_CLOSE, _NEAR, _SHARE = 0.002, 0.01, 1 / 3  # of Dice; of FP32's Dice; of adaptive's own drop
_NOISE = 0.001  # of Dice: a drop this small is none that could be won back


def run(trained: Path, data: Path, output: Path, recipes: Sequence[str], wanted: set[str]) -> None:
    """Measure the networks of a folder, each on the data set that its name begins with."""
    for description in sorted(DATA_SETS.glob("*.json")):
        networks = [
            folder / f"{folder.name}.pth"
            for folder in sorted(trained.glob(f"{description.stem}-*"))
            if not wanted or folder.name in wanted
        ]
        if networks:
            reporter = medptq.Reporter(on_warning=print)
            medptq.benchmark(
                *(networks, description, output),
                folder=data / description.stem,
                recipes=recipes,
                reporter=reporter,
            )


def targets(tables: Sequence[BenchmarkTable]) -> list[str]:
    """Return how each network stands against what was to be reached, as Markdown."""
    lines = [
        "## What was to be reached",
        "",
        f"Dice lost. *W8A8 in an engine*: the most of the engines, at most {_CLOSE}; with one "
        "scale for each activation, and with one for each of its channels. *W4A8 "
        f"recovered*: at most {_NEAR:.0%} of FP32's. *W4A4 recovered*: at most a third of what "
        "adaptive stratification loses; where that is within the noise of "
        f"{_NOISE}, there is nothing to be won back. Behind ±: the standard error over the "
        "scans.".replace("%", " %"),
        "",
        "| Network | W8A8 in an engine | scales per channel | W4A8 recovered | W4A4 adaptive "
        "| W4A4 recovered | share "
        "| recovered, ends and a fifth in 8 bits | share |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    rows = [(table, row) for table in tables for row in table.rows if "fp32" in row.figures]
    lines += [
        f"| {table.data['name']}: {name(table, row)} | {_against(row)} |" for table, row in rows
    ]
    return [*lines, ""]


def _against(row: Row) -> str:
    lost = {recipe: _lost(figures) for recipe, figures in row.figures.items()}
    fp32 = row.figures["fp32"].mean_dsc or 0.0
    engines = [lost[key] for key in lost if re.fullmatch("w8a8-(openvino|tensorrt)", key)]
    by_channel = [lost[key] for key in lost if key.startswith("w8a8-channel-")]
    adaptive = lost.get("w4a4-adaptive")
    cells = [
        _judged(max(engines), _CLOSE) if engines else NONE,
        _judged(max(by_channel), _CLOSE) if by_channel else NONE,
        _judged(lost["w4a8-recovered"], _NEAR * fp32) if "w4a8-recovered" in lost else NONE,
        NONE if adaptive is None else f"{adaptive:.4f}{_error(row, 'w4a4-adaptive')}",
    ]
    for key in ("w4a4-recovered", "w4a4-mixed"):
        if adaptive is None or key not in lost:
            cells += [NONE, NONE]
        elif adaptive <= _NOISE:
            cells += [f"{lost[key]:.4f}{_error(row, key)}", "nothing to win"]
        else:
            share = _judged(lost[key] / adaptive, _SHARE, 2)
            cells += [f"{lost[key]:.4f}{_error(row, key)}", share]
    return " | ".join(cells)


def _error(row: Row, key: str) -> str:
    """Return the standard error of a loss, from what each scan lost."""
    fp32, other = (
        [_mean_dice(scan) for scan in row.cells[name].result["scans"]] for name in ("fp32", key)
    )
    lost = [one - two for one, two in zip(fp32, other, strict=True)]
    return f" ± {statistics.stdev(lost) / len(lost) ** 0.5:.4f}" if len(lost) > 1 else ""


def _mean_dice(scan: dict[str, Any]) -> float:
    return statistics.fmean(value for value in scan["dice"].values() if value is not None)


def _judged(value: float, most: float, digits: int = 4) -> str:
    text = f"{value:.{digits}f}"
    return text if value <= most else f"**{text}**"


def _lost(figures: Figures) -> float:
    if figures.fp32 is None or figures.mean_dsc is None or figures.fp32.mean_dsc is None:
        return float("nan")
    return figures.fp32.mean_dsc - figures.mean_dsc


def overview(tables: Sequence[BenchmarkTable]) -> list[str]:
    """Return what each recipe costs over all networks, as Markdown."""
    lines = [
        "## Over all networks",
        "",
        "What is lost of FP32's mean Dice, in percent of it; and of all structures of all networks "
        "the one that loses the most Dice, which a mean hides.",
        "",
        "| Recipe | Networks | Median | Worst | of | Most lost by a structure | of |",
        "|---|---:|---:|---:|---|---:|---|",
    ]
    rows = [
        (f"{table.data['name']}: {name(table, row)}", row) for table in tables for row in table.rows
    ]
    for key, recipe in RECIPES.items():
        drops, structures = [], []
        for title, row in rows:
            figures = row.figures.get(key)
            if figures is None or figures.fp32 is None or figures.dsc_drop is None:
                continue
            drops.append((figures.dsc_drop, title))
            structures += [
                (before - after, f"{title}, {structure}")
                for structure, before in figures.fp32.dsc.items()
                if before is not None and (after := figures.dsc[structure]) is not None
            ]
        if drops and key != "fp32":
            median = statistics.median(lost for lost, _ in drops)
            (worst, network), (most, structure) = max(drops), max(structures)
            lines.append(
                f"| {recipe.title}, `{key}` | {len(drops)} | {drop(median)} | {drop(worst)} "
                f"| {network} | {most:.4f} | {structure} |"
            )
    return [*lines, ""]


def _without_scans(folder: Path) -> dict[str, Any]:
    """Return the folder's JSON without each scan's scores, which are most of it."""
    content: dict[str, Any] = json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))
    for table in content["tables"]:
        for network in table["networks"]:
            for figures in network["recipes"].values():
                del figures["scans"]
    return content


def _footer(tables: Sequence[BenchmarkTable], note: str) -> str:
    """Say where, when and by what the cells were measured."""
    runs = [
        figures.run for table in tables for row in table.rows for figures in row.figures.values()
    ]
    machines = ", ".join(sorted({run["processor"] for run in runs}))
    torch = ", ".join(sorted({run["versions"]["torch"] for run in runs}))
    dates = sorted({run["date"][:10] for run in runs})
    return (
        f"{machines}; medptq {medptq.__version__}, torch {torch}. Measured from {dates[0]} to "
        f"{dates[-1]} by `medptq benchmark NETWORK --data DATA --folder SCANS --output DIR "
        "--recipes ...`, several at a time; tables by `python scripts/benchmarks/medquanbench.py "
        f"--output DIR`. Bold: not reached. {note}".rstrip()
        + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trained", type=Path, help="folder that train.py wrote")
    parser.add_argument("--data", type=Path, help="folder of the data sets' folders")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", metavar="NAME", default=())
    parser.add_argument("--networks", nargs="+", metavar="NAME", default=())
    parser.add_argument("--name", default="medquanbench", help="of the results' files")
    parser.add_argument("--note", default="", help="what a reader of the cells must know")
    options = parser.parse_args()
    if options.trained is not None:
        if options.data is None:
            parser.error("--data is missing")
        run(options.trained, options.data, options.output, options.recipes, set(options.networks))
    tables = medptq.benchmark((), None, options.output).tables
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{options.name}-{circumstances()['date']}"
    for suffix in (".csv", ".html"):
        shutil.copyfile(options.output / f"benchmark{suffix}", path.with_suffix(suffix))
    path.with_suffix(".json").write_text(
        json.dumps(_without_scans(options.output), indent=1) + "\n", encoding="utf-8"
    )
    text = (options.output / "benchmark.md").read_text(encoding="utf-8").rstrip("\n")
    text = "\n".join([text, "", *overview(tables), *targets(tables), _footer(tables, options.note)])
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    print("\n".join(targets(tables)))


if __name__ == "__main__":
    main()
