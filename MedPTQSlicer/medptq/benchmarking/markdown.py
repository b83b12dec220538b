"""The tables as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from medptq.benchmarking.summary import BenchmarkTable, Figures
from medptq.benchmarking.words import about, drop, name, ran, score
from medptq.evaluate.formats import NONE, equal

_Text: TypeAlias = Callable[[Figures], str]


def to_markdown(tables: Sequence[BenchmarkTable]) -> str:
    """Return the tables as Markdown: networks by recipes, once for each score."""
    lines = ["# Networks of few bits", ""]
    for table in tables:
        lines += [f"## {_plain(table.data['name'])}", "", about(table), ""]
        for title, text in _SHOWN.items():
            lines += [f"### {title}", "", *_table(table, text), ""]
    return "\n".join(lines)


def _table(table: BenchmarkTable, text: _Text) -> Iterator[str]:
    heads = [f"{recipe.title}<br>{ran(table, recipe.name)}" for recipe in table.recipes]
    yield f"| Network | Parameters | {' | '.join(heads)} |"
    yield f"|---|---:|{'---:|' * len(heads)}"
    for row in table.rows:
        cells = [
            text(row.figures[recipe.name]) if recipe.name in row.figures else NONE
            for recipe in table.recipes
        ]
        yield f"| {_plain(name(table, row))} | {row.millions:.1f} M | {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Keep a name from being read as anything but text."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _dsc(figures: Figures) -> str:
    return score(figures.mean_dsc) + _lost(figures, figures.dsc_drop)


def _nsd(figures: Figures) -> str:
    return score(figures.mean_nsd) + _lost(figures, figures.nsd_drop)


def _lost(figures: Figures, lost: float | None) -> str:
    return "" if figures.recipe.name == "fp32" else f" ({drop(lost)})"


_SHOWN: dict[str, _Text] = {
    "DSC": _dsc,
    "NSD": _nsd,
    "Voxels labelled as in FP32": lambda figures: equal(figures.voxels_equal),
}
