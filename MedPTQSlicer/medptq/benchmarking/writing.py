"""The tables as files: JSON, Markdown, CSV and a page in HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import medptq
from medptq.artifacts import atomic_file, write_json
from medptq.benchmarking.markdown import to_markdown
from medptq.benchmarking.page import to_html
from medptq.benchmarking.summary import BenchmarkTable, Figures, Row
from medptq.evaluate.tables import write_table


def write_tables(tables: Sequence[BenchmarkTable], folder: Path) -> None:
    """Write the tables into a folder, in place of those that are there.

    =====================  ===================================================================
    ``benchmark.json``     every figure, down to scans and structures; no dates and times, so
                           that the same cells give the same file
    ``benchmark.md``       Dice, NSD and agreement, networks by recipes
    ``benchmark.html``     the same for a reader, with everything else
    ``benchmark.csv``      a row for each network and recipe
    ``structures.csv``     a row for each of these and each structure
    ``timings.csv``        how long each took, when, and on what
    =====================  ===================================================================

    Raises:
        OutputError: A file cannot be written.
    """
    with atomic_file(folder / "benchmark.json", overwrite=True) as part:
        write_json(part, to_json(tables))
    with atomic_file(folder / "benchmark.md", overwrite=True) as part:
        part.write_text(to_markdown(tables), encoding="utf-8")
    with atomic_file(folder / "benchmark.html", overwrite=True) as part:
        part.write_text(to_html(tables), encoding="utf-8")
    write_table(folder / "benchmark.csv", _rows(tables), overwrite=True)
    write_table(folder / "structures.csv", _structure_rows(tables), overwrite=True)
    write_table(folder / "timings.csv", _timing_rows(tables), overwrite=True)


def to_json(tables: Sequence[BenchmarkTable]) -> dict[str, Any]:
    """Return the tables as plain values for JSON.

    ``tables`` is a list of objects with ``data``, ``recipes`` and ``networks``; a network has
    ``recipes``, by name: ``dsc``, ``nsd`` {mean, structures, drop_percent}, ``voxels_equal`` and
    ``foreground_equal`` (shares, against FP32), ``engine``, ``layers`` and ``scans``.
    """
    return {
        "medptq": medptq.__version__,
        "tables": [
            {
                "data": dict(table.data),
                "recipes": [
                    {
                        "precision": recipe.precision,
                        "granularity": recipe.granularity,
                        **recipe.to_json(),
                    }
                    for recipe in table.recipes
                ],
                "networks": [_network_to_json(row) for row in table.rows],
            }
            for table in tables
        ],
    }


def _network_to_json(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "title": row.title,
        "parameters": row.parameters,
        "digest": row.digest,
        "recipes": {
            name: {
                "dsc": {
                    "mean": figures.mean_dsc,
                    "drop_percent": figures.dsc_drop,
                    "structures": dict(figures.dsc),
                },
                "nsd": {
                    "mean": figures.mean_nsd,
                    "drop_percent": figures.nsd_drop,
                    "structures": dict(figures.nsd),
                },
                "voxels_equal": figures.voxels_equal,
                "foreground_equal": figures.foreground_equal,
                "engine": figures.engine,
                "layers": dict(figures.layers),
                "scans": row.cells[name].result["scans"],
            }
            for name, figures in row.figures.items()
        },
    }


def _each(tables: Sequence[BenchmarkTable]) -> Iterator[tuple[dict[str, Any], Figures]]:
    for table in tables:
        for row in table.rows:
            for name, figures in row.figures.items():
                yield {"data": table.data["name"], "network": row.id, "recipe": name}, figures


def _rows(tables: Sequence[BenchmarkTable]) -> list[dict[str, Any]]:
    return [
        {
            **what,
            "precision": figures.recipe.precision,
            "granularity": figures.recipe.granularity,
            "ran": figures.ran,
            "dsc": figures.mean_dsc,
            "dsc_drop_percent": figures.dsc_drop,
            "nsd": figures.mean_nsd,
            "nsd_drop_percent": figures.nsd_drop,
            "voxels_equal_share": figures.voxels_equal,
            "foreground_equal_share": figures.foreground_equal,
            "layers": ", ".join(f"{count} {name}" for name, count in figures.layers.items()),
        }
        for what, figures in _each(tables)
    ]


def _structure_rows(tables: Sequence[BenchmarkTable]) -> list[dict[str, Any]]:
    return [
        {**what, "structure": name, "dsc": figures.dsc[name], "nsd": figures.nsd[name]}
        for what, figures in _each(tables)
        for name in figures.dsc
    ]


def _timing_rows(tables: Sequence[BenchmarkTable]) -> list[dict[str, Any]]:
    return [
        {
            **what,
            "seconds_preparing": figures.run["seconds"]["preparing"],
            "seconds_testing": figures.run["seconds"]["testing"],
            "processor": figures.run["processor"],
            "date": figures.run["date"],
        }
        for what, figures in _each(tables)
    ]
