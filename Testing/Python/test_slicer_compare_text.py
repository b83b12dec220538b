"""What the panel says of a comparison."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from evaluate_helpers import LABELS, comparison, result
from medptq.evaluate.results import Comparison, Score, to_json
from medptq.models.segmentation_model import Label
from MedPTQSlicerLib.compareText import LEGEND, labelNames, placeText, summaryText, warningText
from MedPTQSlicerLib.disagreement import Disagreement


def report_of(compared: Comparison) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(to_json(compared), allow_nan=False))
    return content


def with_int8(**changed: Any) -> dict[str, Any]:
    compared = comparison()
    fp32, openvino, int8 = compared.engines
    return report_of(replace(compared, engines=(fp32, openvino, replace(int8, **changed))))


def test_the_summary_names_what_is_compared() -> None:
    assert summaryText(report_of(comparison())) == (
        "OpenVINO INT8, compared with PyTorch FP32: 5.0× faster, Dice to FP32 0.9750, 4.0× smaller."
    )


def test_the_summary_tells_of_a_reference() -> None:
    compared = comparison()
    fp32, openvino, int8 = compared.engines
    fp32 = replace(fp32, dice_vs_reference=Score({1: 0.92, 2: 0.90}))
    int8 = replace(int8, dice_vs_reference=Score({1: 0.91, 2: 0.89}))
    report = report_of(replace(compared, engines=(fp32, openvino, int8)))
    assert "Dice to FP32 0.9750, Dice to the reference 0.9000 (FP32 0.9100), 4.0" in summaryText(
        report
    )


def test_a_loss_is_called_one() -> None:
    slow = result("openvino", "int8", 2800.0)
    report = with_int8(latency=slow.latency, model_size_mb=18.0, dice_vs_fp32=None)
    assert summaryText(report) == (
        "OpenVINO INT8, compared with PyTorch FP32: 2.0× slower, 2.0× larger."
    )


def test_no_dice_that_is_not_one_is_written_as_one() -> None:
    almost = with_int8(dice_vs_fp32=Score({1: 0.99999, 2: 1.0}))
    assert "Dice to FP32 0.9999," in summaryText(almost)
    same = with_int8(dice_vs_fp32=Score({1: 1.0, 2: 1.0}))
    assert "Dice to FP32 1.0000," in summaryText(same)


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ({1: 0.99, 2: 0.96}, ""),
        ({1: 0.95, 2: None}, ""),
        ({1: 0.99, 2: 0.9499}, "INT8 is not like FP32 in Spleen (Dice 0.9499). "),
        ({1: 0.5, 2: 0.0}, "INT8 is not like FP32 in Spleen (Dice 0.0000), nor in 1 other. "),
    ],
)
def test_a_warning_where_int8_is_another_result(
    dice: dict[int, float | None], expected: str
) -> None:
    warning = warningText(with_int8(dice_vs_fp32=Score(dice)))
    assert warning.startswith(expected)
    assert bool(warning) == bool(expected)


NAMES = labelNames(LABELS)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (
            Disagreement(1234, (0, 0, 0), fp32=1, int8=0),
            "FP32 says Liver, INT8 says nothing: 1,234 voxels, 3,471 mm³",
        ),
        (
            Disagreement(1, (0, 0, 0), fp32=9, int8=2),
            "FP32 says 9, INT8 says Spleen: 1 voxel, 2.8 mm³",
        ),
    ],
)
def test_a_place_says_what_each_has_found(place: Disagreement, expected: str) -> None:
    assert placeText(place, NAMES, report_of(comparison())) == expected


def test_two_structures_of_one_name_have_the_reports_names() -> None:
    labels = (*LABELS, Label(3, "Liver", (1, 2, 3)))
    compared = comparison()
    fp32, openvino, int8 = compared.engines
    int8 = replace(int8, dice_vs_fp32=Score({1: 0.9, 2: 0.9, 3: 0.9}))
    report = report_of(replace(compared, labels=labels, engines=(fp32, openvino, int8)))
    names = labelNames(labels)
    assert names == {1: "Liver 1", 2: "Spleen", 3: "Liver 3"}
    assert list(report["engines"][-1]["dice_vs_fp32"]["per_class"]) == list(names.values())


def test_the_legend_has_the_colours_of_what_is_drawn() -> None:
    assert "rgb(240, 110, 60)" in LEGEND
    assert LEGEND.count("Only&nbsp;in&nbsp;") == 2
