"""A comparison's tables and charts in a real MRML scene."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluate_helpers import comparison, result
from medptq.evaluate.metrics import Agreement
from medptq.evaluate.results import Comparison, Score, to_json
from MedPTQSlicerLib.comparisonFigures import classFigures, engineFigures
from MedPTQSlicerLib.comparisonTables import addComparison, removeComparison
from slicer_scenes import SlicerScene


@pytest.fixture
def scene() -> SlicerScene:
    return SlicerScene()


def report_of(compared: Comparison) -> dict[str, Any]:
    """Return the content of report.json as it is read back."""
    content: dict[str, Any] = json.loads(json.dumps(to_json(compared), allow_nan=False))
    return content


def with_reference(compared: Comparison) -> Comparison:
    fp32, openvino, int8 = compared.engines
    scores = Score({1: 0.91, 2: None}), Score({1: 0.9, 2: None})
    surfaces = Score({1: 0.95, 2: None}), Score({1: 0.94, 2: None})
    fp32, int8 = (
        replace(engine, dice_vs_reference=score, nsd_vs_reference=surface)
        for engine, score, surface in zip((fp32, int8), scores, surfaces, strict=True)
    )
    return replace(compared, engines=(fp32, openvino, int8))


def rows_of(table: Any) -> list[list[str]]:
    return [
        [table.GetCellText(row, column) for column in range(table.GetNumberOfColumns())]
        for row in range(table.GetNumberOfRows())
    ]


def headers_of(table: Any) -> list[str]:
    assert table.GetUseColumnTitleAsColumnHeader()
    names = [table.GetColumnName(column) for column in range(table.GetNumberOfColumns())]
    assert [table.GetColumnTitle(name) for name in names] == names
    return names


CLASS_HEADERS = [
    *("Structure", "FP32 (ml)", "INT8 (ml)", "Dice", "Surface Dice"),
    "Largest disagreement (mm³)",
]


def test_a_row_for_each_structure(scene: SlicerScene) -> None:
    table = addComparison(scene.scene, report_of(comparison())).classTable
    assert headers_of(table) == CLASS_HEADERS
    assert rows_of(table) == [
        ["Liver", "1,500", "1,512", "0.9900", "0.9950", "0.0"],
        ["Spleen", "200.0", "198.0", "0.9600", "0.9810", "33.8"],
    ]


def test_a_reference_adds_columns_and_absent_structures_have_dashes(scene: SlicerScene) -> None:
    compared = with_reference(comparison())
    table = addComparison(scene.scene, report_of(compared)).classTable
    assert headers_of(table) == [
        *CLASS_HEADERS,
        *("Reference, FP32", "Reference, INT8"),
        *("Reference surface, FP32", "Reference surface, INT8"),
    ]
    assert [row[-4:] for row in rows_of(table)] == [
        ["0.9100", "0.9000", "0.9500", "0.9400"],
        ["–", "–", "–", "–"],
    ]


def test_structures_in_neither_map_or_without_a_name() -> None:
    compared = comparison()
    int8 = replace(
        compared.engines[-1],
        dice_vs_fp32=Score({1: 0.99, 2: None}),
        nsd_vs_fp32=Score({1: 1.0, 2: None}),
        agreement=Agreement(1.0, 1.0, 0, {1: (5.0, 5.0), 7: (1.0, 1.0)}, {}),
    )
    liver, spleen, unnamed = classFigures(
        report_of(replace(compared, engines=(*compared.engines[:-1], int8)))
    )
    assert (liver.name, liver.largestMm3, liver.largestCentre) == ("Liver", 0.0, None)
    assert (spleen.name, spleen.dice, spleen.fp32Ml, spleen.largestMm3) == (
        *("Spleen", None, None),
        None,
    )
    assert (unnamed.name, unnamed.int8Ml, unnamed.dice) == ("7", 1.0, None)


def test_the_largest_disagreement_can_be_jumped_to() -> None:
    _, spleen = classFigures(report_of(comparison()))
    assert spleen.largestCentre == (4, 5, 6)
    assert spleen.largestMm3 == pytest.approx(12 * 5 * 0.75 * 0.75)


def test_a_row_for_each_engine(scene: SlicerScene) -> None:
    table = addComparison(scene.scene, report_of(comparison())).engineTable
    assert headers_of(table)[:3] == ["Engine", "Patch (ms)", "Whole scan (s)"]
    assert rows_of(table) == [
        ["PyTorch FP32", "1,400.0", "14.88", "9.0", "1,280", "–", "1.00"],
        ["OpenVINO FP32", "700.0", "7.88", "9.0", "1,280", "0.9999", "2.0"],
        ["OpenVINO INT8", "280.0", "3.67", "2.2", "640", "0.9750", "5.0"],
    ]


def test_the_baseline_and_the_headline_are_those_of_the_report() -> None:
    compared = comparison()
    slow = result("slow", "int8", 5000.0, dice=Score({1: 0.5, 2: 0.5}))
    figures = engineFigures(report_of(replace(compared, engines=(slow, *compared.engines))))
    assert [(engine.isBaseline, engine.isHeadline) for engine in figures] == [
        *((False, False), (True, False)),
        *((False, False), (False, True)),
    ]


def test_charts_have_a_named_bar_for_each_engine(scene: SlicerScene) -> None:
    charts = addComparison(scene.scene, report_of(comparison())).charts
    found = {}
    for chart in charts:
        bars = {}
        for index in range(chart.GetNumberOfPlotSeriesNodes()):
            series = chart.GetNthPlotSeriesNode(index)
            assert series.GetPlotType() == series.PlotTypeBar
            column = series.GetTableNode().GetTable().GetColumnByName(series.GetYColumnName())
            assert column.GetNumberOfTuples() == 1
            bars[series.GetName()] = column.GetValue(0)
        found[f"{chart.GetTitle()}, {chart.GetYAxisTitle()}"] = list(bars.values())
        assert list(bars) == ["PyTorch FP32", "OpenVINO FP32", "OpenVINO INT8"]
        colors = {chart.GetNthPlotSeriesNode(index).GetColor() for index in range(3)}
        assert len(colors) == 3
        # The bars lie from -0.4 to 0.4; left to itself, the chart cuts the first in half.
        assert not chart.GetXAxisRangeAuto()
        assert chart.GetXAxisRange()[0] < -0.4 < 0.4 < chart.GetXAxisRange()[1]
    assert found == {
        "Network, one patch, ms": [1400.0, 700.0, 280.0],
        "Whole scan, s": [14.875, 7.875, pytest.approx(3.675)],
        "Size on the disk, MB": [9.0, 9.0, 2.25],
        "Peak memory, MB": [1280, 1280, 640],
    }


def test_a_second_comparison_takes_the_place_of_the_first(scene: SlicerScene) -> None:
    scene.volume(np.zeros((2, 2, 2)))
    addComparison(scene.scene, report_of(comparison()))
    count = scene.scene.GetNumberOfNodes()
    addComparison(scene.scene, report_of(with_reference(comparison())))
    assert scene.scene.GetNumberOfNodes() == count
    removeComparison(scene.scene)
    assert scene.scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
    assert scene.scene.GetNumberOfNodesByClass("vtkMRMLPlotSeriesNode") == 0
    assert scene.scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 0
    assert scene.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1


def test_it_survives_saving_and_restoring_the_scene(scene: SlicerScene, tmp_path: Path) -> None:
    nodes = addComparison(scene.scene, report_of(comparison()))
    restored = scene.saved_and_restored(tmp_path)
    for table in (nodes.classTable, nodes.engineTable):
        again = restored.named("vtkMRMLTableNode", table.GetName())
        assert headers_of(again) == headers_of(table)
        assert rows_of(again) == rows_of(table)
    chart = restored.named("vtkMRMLPlotChartNode", "Peak memory")
    series = chart.GetNthPlotSeriesNode(2)
    column = series.GetTableNode().GetTable().GetColumnByName(series.GetYColumnName())
    assert (series.GetName(), column.GetVariantValue(0).ToDouble()) == ("OpenVINO INT8", 640.0)
    removeComparison(restored.scene)
    for class_name in ("Table", "TableStorage", "PlotChart", "PlotSeries"):
        nodes_left = restored.scene.GetNumberOfNodesByClass(f"vtkMRML{class_name}Node")
        assert nodes_left == 0, class_name
