"""The tables for spreadsheets: what is in them, and that they are read back as they were."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from evaluate_helpers import LABELS, comparison
from medptq.errors import OutputError
from medptq.evaluate.results import Comparison
from medptq.evaluate.tables import engine_rows, structure_rows, write_table
from medptq.models.segmentation_model import Label


def read(path):
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")  # by which Excel tells UTF-8
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def with_names(*names: str) -> Comparison:
    labels = [
        Label(label.value, name, label.color) for label, name in zip(LABELS, names, strict=True)
    ]
    return replace(comparison(), labels=labels)


def test_each_engine_and_precision_has_a_row(tmp_path):
    write_table(tmp_path / "report.csv", engine_rows(comparison()))
    rows = read(tmp_path / "report.csv")
    assert [(row["engine"], row["precision"], row["is_baseline"]) for row in rows] == [
        ("pytorch", "fp32", "1"),
        ("openvino", "fp32", "0"),
        ("openvino", "int8", "0"),
    ]
    int8 = rows[-1]
    assert float(int8["patch_ms_median"]) == 280.0
    assert float(int8["times_faster_patch"]) == 5.0
    assert float(int8["dice_vs_fp32_mean"]) == pytest.approx(0.975)
    assert (int8["dice_vs_reference_mean"], int8["voxels_that_differ"]) == ("", "1234")
    assert int8["scan_spacing_mm"] == "5 x 0.75 x 0.75"
    assert {row["model"] for row in rows} == {"two-organs"}


def test_each_structure_has_a_row_for_each_of_them(tmp_path):
    write_table(tmp_path / "structures.csv", structure_rows(comparison()))
    rows = read(tmp_path / "structures.csv")
    assert len(rows) == 3 * len(LABELS)
    found = {(r["engine"], r["precision"], r["structure"]): r for r in rows}
    spleen = found["openvino", "int8", "Spleen"]
    assert (spleen["volume_fp32_ml"], spleen["volume_ml"]) == ("200.0", "198.0")
    assert (spleen["dice_vs_fp32"], spleen["largest_difference_voxels"]) == ("0.96", "12")
    baseline = found["pytorch", "fp32", "Spleen"]
    assert (baseline["volume_ml"], baseline["dice_vs_fp32"]) == ("200.0", "")


def test_names_are_text_whatever_they_look_like(tmp_path):
    names = ('=HYPERLINK("x")', 'Leber; "links", é 中\n2')
    write_table(tmp_path / "structures.csv", structure_rows(with_names(*names)))
    rows = read(tmp_path / "structures.csv")
    assert [row["structure"] for row in rows[:2]] == ["'" + names[0], names[1]]


def test_a_table_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "report.csv").write_text("mine")
    with pytest.raises(OutputError):
        write_table(tmp_path / "report.csv", engine_rows(comparison()))
    assert (tmp_path / "report.csv").read_text() == "mine"
