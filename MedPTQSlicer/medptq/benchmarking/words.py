"""A table's figures as text."""

from __future__ import annotations

from medptq.benchmarking.summary import BenchmarkTable, Row
from medptq.evaluate.formats import NONE


def score(value: float | None) -> str:
    """Write a score with three digits; a dash if there is none."""
    return NONE if value is None else f"{value:.3f}"


def drop(value: float | None) -> str:
    """Write what is lost in percent; what is won has a plus."""
    if value is None:
        return NONE
    rounded = round(value, 1)
    return "0 %" if rounded == 0 else f"{'+' if rounded < 0 else ''}{abs(rounded):.1f} %"


def about(table: BenchmarkTable) -> str:
    """Say what a table's figures are of."""
    data = table.data
    return (
        f"{data['scans']} scans; calibrated on at most {data['patches']} patches of "
        f"{data['calibration_scans']} other scans without their labels. Means over scans, then "
        "over structures; and what is lost of FP32's, in percent of it, with a plus where it was "
        f"won. NSD within {data['nsd_tolerance_mm']:g} mm."
    )


def name(table: BenchmarkTable, row: Row) -> str:
    """Return a network's id, without the data set's name where it begins with that."""
    return row.id.removeprefix(f"{table.data['name']}-")


def ran(table: BenchmarkTable, recipe: str) -> str:
    """Say what ran a recipe; of several versions of an engine, all."""
    found = {row.figures[recipe].ran for row in table.rows if recipe in row.figures}
    return "; ".join(sorted(found))
