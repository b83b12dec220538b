"""Sensitivity and the search for a recipe, as people and programs ask for them."""

from __future__ import annotations

import csv
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest

import medptq
from medptq.cli import main
from medptq.engines.built import entries
from medptq.engines.selection import usable_engines
from medptq.errors import (
    Cancelled,
    EngineError,
    ModelError,
    OutputError,
    QuantizationError,
    ScanError,
)
from medptq.evaluate import recipe_search
from medptq.evaluate.formats import percent
from medptq.evaluate.trial import Trial, name_of
from medptq.progress import Reporter
from medptq.quantization.quantizing import quantize_model
from medptq.quantization.recipe import OBSERVERS, Recipe
from small_networks import one_thread
from tiny_network import write_network, write_scan

INT8 = pytest.mark.skipif(
    "int8" not in {p for e in usable_engines().values() for p in e.availability().precisions},
    reason="no engine of this machine runs INT8 natively",
)
FEW = Recipe(patches=4)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies é 中")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDPTQ_CACHE", str(folder / "cache"))
        patch.setenv("MEDPTQ_LIBRARY", str(folder / "library"))
        write_network(folder)
        for seed in range(4):
            write_scan(folder / "scans" / f"scan {seed}.nii.gz", seed=seed)
        yield folder


# Sensitivity


def test_sensitivity_writes_a_page_and_tables(work, capsys):
    command = ["sensitivity", str(work / "net.onnx"), "--scans", str(work / "scans"), "--quiet"]
    command += ["--output", str(work / "layers"), "--weight-bits", "4", "--patches", "2"]
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert sorted(file.name for file in (work / "layers").iterdir()) == [
        "sensitivity.csv",
        "sensitivity.html",
        "sensitivity.json",
    ]
    written = json.loads((work / "layers" / "sensitivity.json").read_text(encoding="utf-8"))
    assert {**written, "output": answer["output"], "warnings": []} == answer
    assert written["scheme"] == "W4A8"
    assert written["patches"] == 2
    assert {row["op_type"] for row in written["layers"]} == {"Conv"}
    assert 0 < written["together"]["dice"] <= 1
    with (work / "layers" / "sensitivity.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == [row["layer"] for row in written["layers"]]
    assert float(rows[0]["alone_dice"]) == written["layers"][0]["alone"]["dice"]
    page = (work / "layers" / "sensitivity.html").read_text(encoding="utf-8")
    for row in written["layers"]:
        assert row["layer"] in page
    assert len(re.findall(r'<svg class="chart histogram"', page)) == 4
    assert "<script" not in page
    assert "scan 0" not in page + json.dumps(written)
    assert str(work) not in page

    assert main(command) == 7, "the folder is there already"
    assert main([*command, "--overwrite"]) == 0
    assert "sensitivity.html has all layers" in capsys.readouterr().out


def test_a_folder_with_more_than_its_own_files_is_refused_before_anything_is_measured(work):
    output = work / "notes"
    output.mkdir()
    (output / ".DS_Store").touch()
    (output / "sensitivity.csv").touch()
    (output / "mine.txt").touch()
    with pytest.raises(OutputError) as caught:
        medptq.sensitivity("no-such-network", work / "scans", output, overwrite=True)
    assert caught.value.code == "output.other-files"
    (output / "mine.txt").unlink()
    with pytest.raises(ModelError):
        medptq.sensitivity("no-such-network", work / "scans", output, overwrite=True)


def test_what_is_refused_leaves_no_empty_folders(work):
    output = work / "new" / "folder" / "layers"
    with pytest.raises(ModelError):
        medptq.sensitivity("no-such-network", work / "scans", output)
    assert not (work / "new").exists()


def test_sensitivity_can_be_stopped(work):
    reporter = Reporter(cancelled=lambda: True)
    with pytest.raises(Cancelled):
        medptq.sensitivity(work / "net.onnx", work / "scans", work / "stopped", reporter=reporter)
    assert not (work / "stopped").exists()
    assert not [path for path in work.iterdir() if ".medptq-part" in path.name]


# Choosing a recipe


@INT8
def test_auto_takes_the_cheapest_that_passes_and_says_what_it_tried(work, capsys):
    command = ["quantize", str(work / "net.onnx"), "--scans", str(work / "scans"), "--quiet"]
    command += ["--output", str(work / "auto"), "--auto", "--least-agreement", "0.9"]
    assert main([*command, "--patches", "4", "--json"]) == 0
    printed = capsys.readouterr()
    assert "agrees with FP32" not in printed.err, "the table tells that of each"
    answer = json.loads(printed.out)
    made = medptq.load_model(work / "auto")
    search = made.manifest["search"]
    assert answer["search"] == search
    assert (search["least_agreement"], search["scans"]) == (0.9, 1)
    trials = {trial["name"]: trial for trial in search["trials"]}
    assert trials["FP32"]["dice"] == 1.0
    [chosen] = [trial for trial in search["trials"] if trial["chosen"]]
    assert chosen["passed"]
    assert chosen["dice"] >= 0.9
    assert trials["FP32"]["least_alike"]["dice"] == 1.0
    assert chosen["least_alike"]["dice"] <= chosen["dice"]
    observer = made.manifest["calibration"]["observer"]
    assert made.recipe.observer == "agreement"
    assert Recipe.from_json(chosen["recipe"]) == replace(made.recipe, observer=observer)
    assert chosen["name"] == f"W8A8, {observer}"
    tried = [name for name, trial in trials.items() if trial["dice"] and "A8" in name]
    assert len({name.split(", ")[1] for name in tried}) == 1, "it is not looked for again"
    assert chosen["megabytes"] == pytest.approx(made.int8.stat().st_size / 1e6)
    # Calibrated on the other scans.
    assert made.manifest["calibration"]["scans"] == 3

    # What was tried and not taken leaves nothing behind.
    assert not [p for p in work.iterdir() if ".medptq-part" in p.name]
    assert sum(built.precision == "int8" for _, built in entries()) == 1

    assert main(command) == 7, "the folder is there already"
    assert main([*command, "--patches", "4", "--overwrite"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "chosen" in shown
    assert f"W8A8, {observer}" in shown


@INT8
def test_auto_says_how_near_it_came_where_nothing_passes(work, monkeypatch, capsys):
    stages = []
    reporter = Reporter(on_progress=lambda progress: stages.append(progress.stage))
    with pytest.raises(QuantizationError) as caught:
        medptq.auto_quantize(
            work / "net.onnx",
            work / "scans",
            work / "none",
            least_agreement=1.0,
            recipe=Recipe(observer="percentile", percentile=60.0, patches=4),
            reporter=reporter,
        )
    error = caught.value
    assert error.code == "quantize.agreement"
    nearest = re.search(r"reaches (0\.\d{4})", error.why)
    assert nearest
    assert f"--least-agreement {nearest[1]}" in error.todo
    assert "FP32" in error.todo
    assert not (work / "none").exists()
    tried = [name for name in dict.fromkeys(stages) if name.startswith("Recipe")]
    assert tried[0].endswith("W8A8, percentile")
    assert tried[1].endswith("W4A8, percentile"), "as only its cost tells whether it is worth it"
    assert sum("W8A8" in name and "spared" not in name for name in tried) == 6

    def failing(*_: object, **__: object) -> None:
        raise pickle.loads(pickle.dumps(error))  # noqa: S301 - it may come from another process

    monkeypatch.setattr(medptq.studies, "auto_quantize", failing)
    command = ["quantize", "net.onnx", "--scans", "scans", "--auto", "--output", "none", "--quiet"]
    assert main(command) == 5
    told = capsys.readouterr().err
    assert "percentile" in told
    assert "no cheaper" in told
    assert told.rstrip().endswith(str(error))
    assert main([*command, "--json"]) == 5
    trials = json.loads(capsys.readouterr().out)["error"]["trials"]
    assert [trial["passed"] for trial in trials if trial["recipe"]].count(True) == 0
    chosen = {trial["recipe"]["observer"] for trial in trials if trial["recipe"]}
    assert chosen <= set(OBSERVERS), "what is chosen by agreement is named"
    assert len(trials) > len(tried)
    assert any("scales per channel" in name for name in tried)
    assert any("spared" in name for name in tried)
    assert sum(built.precision == "int8" for _, built in entries()) <= 1


@INT8
def test_auto_takes_what_has_passed_if_a_later_recipe_fails(work, monkeypatch):
    def quantized(*args: object, **options: object) -> object:
        if options["recipe"].weight_bits == 4:
            raise EngineError("build", "It cannot be built", why="a kernel is missing", todo="Wait")
        return quantize_model(*args, **options)

    monkeypatch.setattr(recipe_search, "quantize_model", quantized)
    warnings: list[str] = []
    made = medptq.auto_quantize(
        *(work / "net.onnx", work / "scans", work / "eight"),
        least_agreement=0.5,
        recipe=Recipe(observer="max", patches=4),
        reporter=Reporter(on_warning=warnings.append),
    )
    assert made.recipe.weight_bits == 8
    assert any("No other recipe was tried: It cannot be built" in text for text in warnings)


@INT8
def test_auto_needs_scans_to_measure_on(work, tmp_path):
    scan = write_scan(tmp_path / "one" / "scan.nii.gz")
    with pytest.raises(ScanError) as caught:
        medptq.auto_quantize(work / "net.onnx", scan.parent, work / "alone")
    assert caught.value.code == "scan.too-few"


def test_sensitivity_is_not_measured_on_no_patches(work):
    with pytest.raises(QuantizationError) as caught:
        medptq.sensitivity(work / "net.onnx", work / "scans", work / "none", patches=-8)
    assert caught.value.code == "quantize.recipe"


def test_auto_refuses_what_cannot_be(work):
    with pytest.raises(QuantizationError) as caught:
        medptq.auto_quantize(work / "net.onnx", work / "scans", work / "x", least_agreement=1.5)
    assert caught.value.code == "quantize.recipe"
    (work / "kept").mkdir(exist_ok=True)
    (work / "kept" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError):
        medptq.auto_quantize(work / "net.onnx", work / "scans", work / "kept")


@INT8
def test_auto_can_be_stopped(work):
    seen = []

    def stop() -> bool:
        return any(stage.startswith("Recipe 2") for stage in seen)

    reporter = Reporter(on_progress=lambda p: seen.append(p.stage), cancelled=stop)
    with pytest.raises(Cancelled):
        medptq.auto_quantize(
            work / "net.onnx", work / "scans", work / "halted", recipe=FEW, reporter=reporter
        )
    assert not (work / "halted").exists()
    assert not [path for path in work.iterdir() if ".medptq-part" in path.name]


def test_losses_are_never_said_to_be_none_unless_they_are():
    said = [percent(loss) for loss in (0, 1e-7, 0.00012, 0.0123, 0.456)]
    assert said == ["0 %", "< 0.001 %", "0.012 %", "1.23 %", "45.6 %"]


def trial(milliseconds: float, megabytes: float) -> Trial:
    return Trial("", Recipe(), 1.0, 1.0, None, milliseconds, megabytes, passed=True)


def test_cost_is_time_and_then_size():
    assert trial(80, 10).cheaper_than(trial(100, 5))
    assert not trial(120, 5).cheaper_than(trial(100, 10))
    assert trial(104, 5).cheaper_than(trial(100, 10)), "times alike: the smaller file"
    assert not trial(96, 10).cheaper_than(trial(100, 10)), "all alike"


def test_recipes_have_names():
    assert name_of(Recipe()) == "W8A8, agreement"
    assert name_of(Recipe("entropy")) == "W8A8, entropy"
    many = Recipe(weight_bits=4, recovery=True, spared=("a", "b"))
    assert name_of(many) == "W4A8, agreement, recovered, 2 layers spared"
    assert name_of(Recipe(activation_bits=4)) == "W8A4, mse"
    assert name_of(Recipe(observer="max", spared=("a",))) == "W8A8, max, 1 layer spared"


def test_studies_are_verbs_of_the_package():
    assert Path(medptq.sensitivity.__code__.co_filename).name == "studies.py"
    assert Path(medptq.auto_quantize.__code__.co_filename).name == "studies.py"
