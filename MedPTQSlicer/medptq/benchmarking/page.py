"""The tables as a page in HTML."""

from __future__ import annotations

from collections.abc import Sequence

import medptq
from medptq.benchmarking.recipes import BenchmarkRecipe
from medptq.benchmarking.summary import BenchmarkTable, Figures
from medptq.benchmarking.words import about, drop, name, ran, score
from medptq.evaluate.formats import equal
from medptq.evaluate.pages import render_page


def to_html(tables: Sequence[BenchmarkTable]) -> str:
    """Return the tables as a page that needs nothing else: no scripts, nothing from elsewhere."""
    figures = [f for table in tables for row in table.rows for f in row.figures.values()]
    return render_page(
        "benchmarking/benchmark.html.j2",
        tables=tables,
        columns=_columns,
        machines=sorted({_machine(found) for found in figures}),
        version=medptq.__version__,
        **{word.__name__: word for word in (about, drop, equal, name, ran, score)},
    )


def _columns(table: BenchmarkTable) -> list[tuple[str, list[BenchmarkRecipe]]]:
    """Return the recipes by precision, in the order of the precisions' first ones."""
    groups: dict[str, list[BenchmarkRecipe]] = {}
    for recipe in table.recipes:
        groups.setdefault(recipe.precision, []).append(recipe)
    return list(groups.items())


def _machine(figures: Figures) -> str:
    versions = figures.run["versions"]
    words = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{figures.run['processor']}; {words}"
