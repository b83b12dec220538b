"""From a folder of scans to an INT8 segmentation and its report, through the command line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

import medptq
from medptq.artifacts import sha256_of
from medptq.cli import main
from medptq.engines.selection import usable_engines
from medptq.errors import OutputError
from medptq.evaluate.comparing import COMPARISON_FILES
from tiny_network import write_network, write_scan

OPENVINO = pytest.mark.skipif(
    "int8" not in {p for e in usable_engines().values() for p in e.availability().precisions},
    reason="no engine of this machine runs INT8 natively",
)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole way é 中")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDPTQ_CACHE", str(folder / "cache"))
        write_network(folder)
        for seed in range(3):
            write_scan(folder / "scans" / f"scan {seed}.nii.gz", seed=seed)
        status = main(
            ["quantize", str(folder / "net.onnx"), "--scans", str(folder / "scans"), "--quiet"]
            + ["--output", str(folder / "int8"), "--patches", "6"]
        )
        assert status == 0
        yield folder


def _labels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def _json(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def test_the_manifest_says_how_it_was_made_and_names_no_scan(work):
    text = (work / "int8" / "manifest.json").read_text(encoding="utf-8")
    manifest = json.loads(text)
    assert manifest["recipe"] == medptq.Recipe(patches=6).to_json()
    digests = sorted(sha256_of(path) for path in (work / "scans").iterdir())
    assert manifest["calibration"]["scans_sha256"] == digests
    assert manifest["calibration"]["patches"] == 6
    assert all(scale > 0 for scale in manifest["calibration"]["scales"].values())
    assert manifest["versions"]["medptq"] == medptq.__version__
    assert manifest["agreement_with_fp32"]["voxels_equal"] > 0.98
    for name, digest in manifest["files"].items():
        assert sha256_of(work / "int8" / name) == digest
    assert "scan 0" not in text
    assert str(work) not in text


def test_quantizing_again_gives_the_same_network(work):
    args = ["--scans", str(work / "scans"), "--patches", "6", "--quiet"]
    assert main(["quantize", str(work / "net.onnx"), "--output", str(work / "again"), *args]) == 0
    for name in ("fp32.onnx", "int8.onnx", "model.json"):
        assert (work / "again" / name).read_bytes() == (work / "int8" / name).read_bytes()
    other = ["--seed", "1", "--output", str(work / "other")]
    assert main(["quantize", str(work / "net.onnx"), *args, *other]) == 0
    one, two = (
        json.loads((work / name / "manifest.json").read_text(encoding="utf-8"))["calibration"]
        for name in ("int8", "other")
    )
    assert one["patches_sha256"] != two["patches_sha256"]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_every_engine_finds_the_blocks_where_they_are(work, engine, precision, capsys):
    if engine not in usable_engines():
        pytest.skip(f"{engine} cannot be used here")
    output = work / f"{engine}-{precision}.nrrd"
    status = main(
        ["segment", str(work / "int8"), str(work / "scans" / "scan 0.nii.gz"), "--json", "--quiet"]
        + ["--output", str(output), "--engine", engine, "--precision", precision]
    )
    answer = _json(capsys)
    assert status == 0
    assert (answer["engine"], answer["precision"]) == (engine, precision)
    assert answer["scans"][0]["volume_seconds"]["total"] > 0
    scan, labels = (
        sitk.ReadImage(str(work / "scans" / "scan 0.nii.gz")),
        sitk.ReadImage(str(output)),
    )
    assert labels.GetSize() == scan.GetSize()
    np.testing.assert_allclose(labels.GetOrigin(), scan.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(labels.GetDirection(), scan.GetDirection(), atol=1e-5)
    found = _labels(output)
    k, j, i = (n // 4 for n in found.shape)
    truth = np.zeros_like(found)
    truth[k : 3 * k, j : 3 * j, i : 3 * i] = 1
    truth[k : 2 * k, j : 2 * j, i : 2 * i] = 2
    assert (found == truth).mean() > 0.99


def test_a_folder_of_scans_becomes_a_folder_of_label_maps(work, capsys):
    (work / "mixed").mkdir()
    write_scan(work / "mixed" / "a.nii.gz", seed=7)
    write_scan(work / "mixed" / "b.mha", seed=8)
    (work / "mixed" / "broken.nii.gz").write_bytes(b"not an image")
    status = main(
        ["segment", str(work / "int8"), str(work / "mixed"), "--json", "--quiet"]
        + ["--output", str(work / "labels")]
    )
    answer = _json(capsys)
    assert status == 0
    assert sorted(path.name for path in (work / "labels").iterdir()) == ["a.nii.gz", "b.nii.gz"]
    [warning] = answer["warnings"]
    assert "broken.nii.gz" in warning


@OPENVINO
def test_the_best_precision_is_measured_once_and_remembered(work, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path))
    scan = str(work / "scans" / "scan 1.nii.gz")
    command = ["segment", str(work / "int8"), scan, "--json", "--overwrite"]
    answers = []
    for _ in range(2):
        assert main([*command, "--output", str(work / "best.nii.gz")]) == 0
        output = capsys.readouterr()
        answers.append((json.loads(output.out), "Timing engines" in output.err))
    (first, timed), (second, again) = answers
    assert timed
    assert not again
    assert (first["engine"], first["precision"]) == (second["engine"], second["precision"])


@OPENVINO
def test_the_comparison_holds_what_it_promises(work, capsys):
    reference = work / "reference.nii.gz"
    scan = work / "scans" / "scan 2.nii.gz"
    arguments = ["--output", str(reference), "--precision", "fp32", "--quiet"]
    assert main(["segment", str(work / "net.onnx"), str(scan), *arguments]) == 0
    capsys.readouterr()
    status = main(
        ["compare", str(work / "net.onnx"), str(work / "int8"), str(scan), "--json", "--quiet"]
        + ["--output", str(work / "report"), "--reference", str(reference)]
    )
    answer = _json(capsys)
    assert status == 0
    assert {path.name for path in (work / "report").iterdir()} == set(COMPARISON_FILES)
    (work / "notes").mkdir()
    (work / "notes" / "mine.txt").touch()
    with pytest.raises(OutputError, match=r"mine\.txt"):  # before it looks for the scan
        medptq.compare(
            *(work / "net.onnx", work / "int8", work / "none", work / "notes"), overwrite=True
        )
    report = json.loads((work / "report" / "report.json").read_text(encoding="utf-8"))
    assert {key: answer[key] for key in report} == report
    ways = {(engine["engine"], engine["precision"]) for engine in report["engines"]}
    assert ways >= {("pytorch", "fp32"), ("openvino", "fp32"), ("openvino", "int8")}
    for engine in report["engines"]:
        assert engine["model_size_mb"] > 0
        latency = engine["latency_ms"]
        assert 0 < latency["min"] <= latency["median"] <= latency["max"]
        assert latency["runs"] >= 1
        seconds = engine["volume_seconds"]
        parts = [seconds[name] for name in ("load", "preprocess", "inference", "postprocess")]
        assert seconds["total"] == pytest.approx(sum(parts))
        assert engine["peak_memory_mb"] > 50
        assert engine["dice_vs_fp32"]["mean"] > 0.95
        assert set(engine["dice_vs_fp32"]["per_class"]) == {"Bright", "Very bright"}
        assert engine["dice_vs_reference"]["mean"] > 0.95
    assert np.array_equal(_labels(work / "report" / "fp32.nii.gz"), _labels(reference))
    tables = {}
    for name in ("report", "structures"):
        with (work / "report" / f"{name}.csv").open(encoding="utf-8-sig", newline="") as file:
            tables[name] = list(csv.DictReader(file))
    assert {(row["engine"], row["precision"]) for row in tables["report"]} == ways
    assert len(tables["structures"]) == 2 * len(ways)
    page = (work / "report" / "report.html").read_text(encoding="utf-8")
    assert "Not for clinical use" in page
    assert "scan 2" not in page + json.dumps(report)
    with Image.open(work / "report" / "overlay.png") as picture:
        assert min(picture.size) > 300


def test_the_functions_do_what_the_commands_do(work):
    model = medptq.load_model(work / "net.onnx")
    int8 = medptq.quantize(
        model, work / "scans", work / "by function", recipe=medptq.Recipe(patches=6)
    )
    assert int8.int8.read_bytes() == (work / "int8" / "int8.onnx").read_bytes()
    [result] = medptq.segment(int8, work / "scans" / "scan 0.nii.gz", precision="fp32")
    assert result.output is None
    assert set(np.unique(result.segmentation.labels)) == {0, 1, 2}


def test_the_program_runs_as_a_module_and_lists_its_models():
    done = subprocess.run(
        [sys.executable, "-m", "medptq", "models", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    models = {model["id"]: model for model in json.loads(done.stdout)["models"]}
    assert models["deepbet"]["licence"] == "MIT"
    assert "deepbet-locator" not in models
