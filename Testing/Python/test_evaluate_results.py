"""The figures of a comparison: what is the baseline, the ratios, the JSON contract."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evaluate_helpers import LABELS, comparison, result
from medptq.evaluate.results import Score, ratios, to_json


def test_json_has_the_keys_of_the_contract() -> None:
    content = json.loads(json.dumps(to_json(comparison()), allow_nan=False))
    assert isinstance(content["engines"], list)
    for engine in content["engines"]:
        assert {
            "engine",
            "precision",
            "model_size_mb",
            "latency_ms",
            "volume_seconds",
            "peak_memory_mb",
            "dice_vs_fp32",
            "nsd_vs_fp32",
            "dice_vs_reference",
            "nsd_vs_reference",
            "layers",
            "agreement",
        } <= engine.keys()
        assert engine["latency_ms"].keys() == {"median", "min", "max", "runs"}
        seconds = engine["volume_seconds"]
        assert seconds.keys() == {"load", "preprocess", "inference", "postprocess", "total"}
        assert seconds["total"] == pytest.approx(
            sum(value for stage, value in seconds.items() if stage != "total")
        )
    int8 = content["engines"][-1]
    assert (int8["engine"], int8["precision"]) == ("openvino", "int8")
    assert int8["dice_vs_fp32"] == {"mean": 0.975, "per_class": {"Liver": 0.99, "Spleen": 0.96}}
    assert int8["nsd_vs_fp32"]["tolerance_mm"] == 1.0
    assert int8["times_better_than_baseline"]["latency"] == pytest.approx(1400 / 280)
    assert int8["agreement"]["volumes_ml"]["Liver"] == {"fp32": 1500.0, "this": 1512.5}
    assert int8["agreement"]["largest"]["Spleen"] == {"voxels": 12, "centre": [4, 5, 6]}
    assert int8["layers"] == {"int8": 41, "fp32": 6}
    assert int8["title"] == "OpenVINO INT8"
    assert content["baseline"] == {"engine": "pytorch", "precision": "fp32"}
    assert content["headline"] == {"engine": "openvino", "precision": "int8"}
    assert content["machine"]["cpu"] == "A fine processor"
    assert content["scan_shape"] == [20, 30, 40]


def test_json_has_no_nan_and_absent_classes_are_null() -> None:
    int8 = result("openvino", "int8", 280.0, dice=Score({1: None, 2: None}))
    odd = replace(
        comparison(), engines=(result("pytorch", "fp32", 1400.0), int8), recipe={"x": float("nan")}
    )
    content = json.loads(json.dumps(to_json(odd), allow_nan=False))
    assert content["recipe"] == {"x": None}
    score = content["engines"][1]["dice_vs_fp32"]
    assert score == {"mean": None, "per_class": {"Liver": None, "Spleen": None}}
    assert content["engines"][0]["dice_vs_fp32"] is None


def test_classes_of_one_name_do_not_hide_one_another() -> None:
    twins = tuple(replace(label, name="Rib") for label in LABELS)
    content = to_json(replace(comparison(), labels=twins))
    assert content["engines"][-1]["dice_vs_fp32"]["per_class"] == {"Rib 1": 0.99, "Rib 2": 0.96}


def test_a_class_that_is_in_neither_map_does_not_count_in_the_mean() -> None:
    assert Score({1: 0.9, 2: None, 3: 0.0}).mean == pytest.approx(0.45)


@pytest.mark.parametrize("order", [1, -1])
def test_the_baseline_is_pytorch_fp32_and_the_headline_the_fastest_int8(order: int) -> None:
    engines = (
        result("openvino", "fp32", 100.0),
        result("openvino", "int8", 300.0),
        result("tensorrt", "int8", 200.0),
        result("pytorch", "fp32", 1000.0),
        result("pytorch", "int8", 5000.0),
    )[::order]
    compared = replace(comparison(), engines=engines)
    assert (compared.baseline.engine, compared.baseline.precision) == ("pytorch", "fp32")
    assert (compared.headline.engine, compared.headline.precision) == ("tensorrt", "int8")


def test_without_pytorch_another_fp32_engine_is_the_baseline() -> None:
    engines = (result("openvino", "int8", 10.0), result("openvino", "fp32", 20.0))
    compared = replace(comparison(), engines=engines)
    assert compared.baseline is engines[1]
    assert ratios(compared.headline, compared.baseline).latency == 2.0
