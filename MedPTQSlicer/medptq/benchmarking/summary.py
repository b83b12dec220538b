"""From cells to the figures of tables: means over scans and structures, and what was lost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medptq.benchmarking.recipes import RECIPES, BenchmarkRecipe
from medptq.benchmarking.store import Cell


@dataclass(frozen=True)
class Figures:
    """What one recipe made of a network.

    Attributes:
        recipe: The recipe.
        dsc: Dice of each structure, by its name: the mean over the scans; None where no scan has
            the structure, nor was it found.
        nsd: Normalized surface Dice, likewise.
        voxels_equal: Share of all voxels with the same label as in FP32.
        foreground_equal: The same over voxels that either calls a structure; None if there are
            none.
        engine: What ran it.
        layers: Arithmetic layers by the precision that they ran in.
        fp32: FP32's figures; None if they are not there.
        run: When, where and how long it ran.
    """

    recipe: BenchmarkRecipe
    dsc: Mapping[str, float | None]
    nsd: Mapping[str, float | None]
    voxels_equal: float
    foreground_equal: float | None
    engine: str
    layers: Mapping[str, int]
    run: Mapping[str, Any]
    fp32: Figures | None = None

    @property
    def mean_dsc(self) -> float | None:
        """Mean over the structures."""
        return _mean(self.dsc.values())

    @property
    def mean_nsd(self) -> float | None:
        """Mean over the structures."""
        return _mean(self.nsd.values())

    @property
    def dsc_drop(self) -> float | None:
        """What is lost of FP32's mean Dice, in percent of it; negative if it is better."""
        return None if self.fp32 is None else _drop(self.fp32.mean_dsc, self.mean_dsc)

    @property
    def nsd_drop(self) -> float | None:
        """What is lost of FP32's mean NSD, in percent of it; negative if it is better."""
        return None if self.fp32 is None else _drop(self.fp32.mean_nsd, self.mean_nsd)

    @property
    def ran(self) -> str:
        """What ran it, and in which precisions, for a person to read.

        What an engine cannot run in INT8 of a quantized network runs in another one.
        """
        name, _, version = self.engine.partition(" ")
        if name in ("pytorch", "simulated"):
            return {"pytorch": "PyTorch"}.get(name, name)
        # The same for all networks whose layers run in the same, however many in which.
        kinds = " and ".join(kind.upper() for kind in sorted(self.layers, key=_fewest_bits_first))
        return f"{kinds}, {_ENGINES.get(name, name)} {version.partition('-')[0]}"


_ENGINES = {"openvino": "OpenVINO", "tensorrt": "TensorRT"}


def _fewest_bits_first(kind: str) -> tuple[int, str]:
    digits = "".join(filter(str.isdigit, kind))
    return int(digits or 0), kind


@dataclass(frozen=True)
class Row:
    """A network by all recipes.

    Attributes:
        id: The network's id.
        title: Its name for a person to read.
        parameters: How many weights it has.
        digest: Of weights and card.
        figures: By the recipe's name.
        cells: What the figures are of, likewise.
    """

    id: str
    title: str
    parameters: int
    digest: str
    figures: Mapping[str, Figures]
    cells: Mapping[str, Cell]

    @property
    def millions(self) -> float:
        """Million parameters."""
        return self.parameters / 1e6


@dataclass(frozen=True)
class BenchmarkTable:
    """Networks by recipes on one data set.

    Attributes:
        data: ``name``, ``scans``, ``nsd_tolerance_mm``, ``calibration_scans``, ``patches``,
            ``seed`` and ``digest``.
        recipes: The columns.
        rows: The networks, by their ids.
    """

    data: Mapping[str, Any]
    recipes: tuple[BenchmarkRecipe, ...]
    rows: tuple[Row, ...]


def tables_of(cells: Sequence[Cell]) -> list[BenchmarkTable]:
    """Sort cells into tables, one for each data set; their order does not matter."""
    by_data: dict[tuple[str, str], dict[tuple[str, str], dict[str, Cell]]] = {}
    for cell in cells:
        data, network = cell.inputs["data"], cell.inputs["network"]
        rows = by_data.setdefault((data["name"], data["digest"]), {})
        row = rows.setdefault((network["id"], network["digest"]), {})
        row[cell.inputs["recipe"]["name"]] = cell
    tables = []
    for _, rows in sorted(by_data.items()):
        named = {name for row in rows.values() for name in row}
        tables.append(
            BenchmarkTable(
                data=next(iter(next(iter(rows.values())).values())).inputs["data"],
                recipes=tuple(recipe for name, recipe in RECIPES.items() if name in named),
                rows=tuple(_row(row) for _, row in sorted(rows.items())),
            )
        )
    return tables


def _row(cells: Mapping[str, Cell]) -> Row:
    fp32 = _figures(cells["fp32"], None) if "fp32" in cells else None
    first = next(iter(cells.values()))
    ordered = {name: cells[name] for name in RECIPES if name in cells}
    return Row(
        id=first.inputs["network"]["id"],
        title=first.network["title"],
        parameters=first.network["parameters"],
        digest=first.inputs["network"]["digest"],
        figures={name: _figures(cell, fp32) for name, cell in ordered.items()},
        cells=ordered,
    )


def _figures(cell: Cell, fp32: Figures | None) -> Figures:
    scans = cell.result["scans"]
    voxels = sum(scan["voxels"] for scan in scans)
    differ = voxels - sum(scan["voxels_equal"] for scan in scans)
    foreground = sum(scan["foreground"] for scan in scans)

    def means(score: str) -> dict[str, float | None]:
        return {
            name: _mean([scan[score][value] for scan in scans])
            for value, name in cell.network["structures"].items()
        }

    return Figures(
        recipe=RECIPES[cell.inputs["recipe"]["name"]],
        dsc=means("dice"),
        nsd=means("nsd"),
        voxels_equal=1 - differ / voxels,
        foreground_equal=1 - differ / foreground if foreground else None,
        engine=cell.result["engine"],
        layers=cell.result["layers"],
        run=cell.run,
        fp32=fp32,
    )


def _mean(values: Any) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None


def _drop(before: float | None, after: float | None) -> float | None:
    if not before or after is None:
        return None
    return 100 * (before - after) / before
