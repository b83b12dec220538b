"""A comparison's figures as tables and bar charts in the scene."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from medptq.evaluate import formats
from MedPTQSlicerLib.comparisonFigures import (
    ClassFigures,
    EngineFigures,
    Report,
    classFigures,
    engineFigures,
)

if TYPE_CHECKING:
    from slicer import vtkMRMLPlotChartNode, vtkMRMLScene, vtkMRMLTableNode

_MARK = "MedPTQ.Comparison"  # attribute of all nodes that are made here

Columns: TypeAlias = Mapping[str, Sequence[str]]

# As in the report: the baseline is pale, the headline stands out.
_BASELINE_COLOR = (0.66, 0.71, 0.76)
_HEADLINE_COLOR = (0.04, 0.50, 0.58)
_OTHER_COLORS = ((0.88, 0.64, 0.35), (0.48, 0.32, 0.58), (0.44, 0.49, 0.54))

# VTK draws the bars of a single row around 0, from -0.4 to 0.4, and its own range cuts the first
# one in half. The rest is room for the legend.
_BARS_AND_LEGEND = (-0.5, 1.4)
_TITLE_FONT, _LEGEND_FONT = 16, 11  # the view is small

_CHARTS: tuple[tuple[str, str, Callable[[EngineFigures], float | None]], ...] = (
    ("Network, one patch", "ms", lambda engine: engine.patchMs),
    ("Whole scan", "s", lambda engine: engine.scanSeconds),
    ("Size on the disk", "MB", lambda engine: engine.sizeMb),
    ("Peak memory", "MB", lambda engine: engine.memoryMb),
)


@dataclass(frozen=True)
class ComparisonNodes:
    """What a comparison looks like in the scene.

    Attributes:
        classTable: A row for each structure; row n is ``classFigures(report)[n]``.
        engineTable: A row for each engine and precision.
        charts: Bar charts of the time for one patch, the time for the whole scan, the network's
            size and the peak memory; each has one series for each engine and precision.
    """

    classTable: vtkMRMLTableNode
    engineTable: vtkMRMLTableNode
    charts: tuple[vtkMRMLPlotChartNode, ...]


def addComparison(scene: vtkMRMLScene, report: Report) -> ComparisonNodes:
    """Add the tables and charts of a comparison to a scene; those of an earlier one are removed.

    They are saved and restored with the scene. Nothing is shown: the layout decides what shows
    where.

    Args:
        scene: The scene.
        report: The content of report.json.
    """
    removeComparison(scene)
    engines = engineFigures(report)
    classTable = _addTable(scene, "FP32 and INT8 by structure")
    _fillTable(classTable, _classColumns(classFigures(report)))
    engineTable = _addTable(scene, "FP32 and INT8 by engine")
    _fillTable(engineTable, _engineColumns(engines))
    return ComparisonNodes(classTable, engineTable, _addCharts(scene, engines))


def removeComparison(scene: vtkMRMLScene) -> None:
    """Remove what :func:`addComparison` has added, also to a scene that was saved and restored."""
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    for node in nodes:
        if node.GetAttribute(_MARK) is not None:
            if node.IsA("vtkMRMLStorableNode"):
                scene.RemoveNode(node.GetStorageNode())
            scene.RemoveNode(node)


def _classColumns(classes: Sequence[ClassFigures]) -> Columns:
    columns = {
        "Structure": [figures.name for figures in classes],
        "FP32 (ml)": [formats.millilitres(figures.fp32Ml) for figures in classes],
        "INT8 (ml)": [formats.millilitres(figures.int8Ml) for figures in classes],
        "Dice": [formats.share(figures.dice) for figures in classes],
        "Surface Dice": [formats.share(figures.surfaceDice) for figures in classes],
        "Largest disagreement (mm\N{SUPERSCRIPT THREE})": [
            formats.decimals(figures.largestMm3, 1) for figures in classes
        ],
    }
    if any(figures.int8ReferenceDice is not None for figures in classes):
        columns |= {
            "Reference, FP32": [formats.share(figures.fp32ReferenceDice) for figures in classes],
            "Reference, INT8": [formats.share(figures.int8ReferenceDice) for figures in classes],
            "Reference surface, FP32": [
                formats.share(figures.fp32ReferenceSurfaceDice) for figures in classes
            ],
            "Reference surface, INT8": [
                formats.share(figures.int8ReferenceSurfaceDice) for figures in classes
            ],
        }
    return columns


def _engineColumns(engines: Sequence[EngineFigures]) -> Columns:
    return {
        "Engine": [engine.title for engine in engines],
        "Patch (ms)": [formats.decimals(engine.patchMs, 1) for engine in engines],
        "Whole scan (s)": [formats.decimals(engine.scanSeconds, 2) for engine in engines],
        "Size (MB)": [formats.decimals(engine.sizeMb, 1) for engine in engines],
        "Peak memory (MB)": [formats.decimals(engine.memoryMb, 0) for engine in engines],
        "Dice to FP32": [formats.share(engine.dice) for engine in engines],
        "Times faster": [
            formats.NONE if engine.timesFaster is None else formats.ratio_text(engine.timesFaster)
            for engine in engines
        ],
    }


def _addCharts(
    scene: vtkMRMLScene, engines: Sequence[EngineFigures]
) -> tuple[vtkMRMLPlotChartNode, ...]:
    # Slicer's bars have no names on their axis, so each is a series of its own, which the legend
    # names. All of them read from one hidden table of a single row.
    values = _addTable(scene, "FP32 and INT8, chart values")
    values.SetHideFromEditors(True)
    charts = []
    for title, unit, valueOf in _CHARTS:
        chart = _addNode(scene, "vtkMRMLPlotChartNode", title)
        chart.SetTitle(title)
        chart.SetYAxisTitle(unit)
        chart.SetTitleFontSize(_TITLE_FONT)
        chart.SetLegendFontSize(_LEGEND_FONT)
        chart.SetXAxisTitleVisibility(False)
        chart.SetXAxisRangeAuto(False)
        chart.SetXAxisRange(*_BARS_AND_LEGEND)
        for engine, color in zip(engines, _colors(engines), strict=True):
            column = f"{title}: {engine.title}"
            _addNumber(values, column, valueOf(engine))
            series = _addNode(scene, "vtkMRMLPlotSeriesNode", engine.title)
            series.SetHideFromEditors(True)
            series.SetAndObserveTableNodeID(values.GetID())
            series.SetYColumnName(column)
            series.SetPlotType(series.PlotTypeBar)
            series.SetColor(*color)
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
        charts.append(chart)
    return tuple(charts)


def _colors(engines: Sequence[EngineFigures]) -> list[tuple[float, float, float]]:
    colors, others = [], 0
    for engine in engines:
        if engine.isHeadline:
            colors.append(_HEADLINE_COLOR)
        elif engine.isBaseline:
            colors.append(_BASELINE_COLOR)
        else:
            colors.append(_OTHER_COLORS[others % len(_OTHER_COLORS)])
            others += 1
    return colors


def _addTable(scene: vtkMRMLScene, name: str) -> vtkMRMLTableNode:
    table = _addNode(scene, "vtkMRMLTableNode", name)
    table.SetUseColumnTitleAsColumnHeader(True)
    table.SetLocked(True)
    return table


def _addNode(scene: vtkMRMLScene, className: str, name: str) -> vtkMRMLTableNode:
    node = scene.AddNewNodeByClass(className, name)
    node.SetAttribute(_MARK, "1")
    return node


def _fillTable(table: vtkMRMLTableNode, columns: Columns) -> None:
    """Fill a table with texts: figures with the digits they deserve, a dash where there is none."""
    import vtk

    for name, texts in columns.items():
        column = vtk.vtkStringArray()
        column.SetName(name)
        for text in texts:
            column.InsertNextValue(text)
        table.AddColumn(column)
        table.SetColumnTitle(name, name)  # without a title, the names would be the first row


def _addNumber(table: vtkMRMLTableNode, name: str, value: float | None) -> None:
    import vtk

    column = vtk.vtkDoubleArray()
    column.SetName(name)
    column.InsertNextValue(np.nan if value is None else value)
    table.AddColumn(column)
