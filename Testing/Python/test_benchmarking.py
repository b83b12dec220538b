"""The benchmark: its figures, what is taken up again, and who may do the work."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import medptq
from benchmarking_place import (  # noqa: F401 - some are fixtures
    QUICK,
    networks_of,
    on_one_thread,
    own_cache,
    place,
    run_benchmark,
    warnings_to,
)
from labeled_scans import write_data_set
from medptq.benchmarking.benchmark import benchmark
from medptq.benchmarking.data_set import read_data_set
from medptq.benchmarking.recipes import recipes_here
from medptq.cli import main
from medptq.errors import Cancelled, EngineError
from medptq.evaluate.metrics import dice
from medptq.progress import Reporter


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run in one process wrote that nothing disturbed."""
    output = tmp_path_factory.mktemp("whole")
    os.environ["MEDPTQ_CACHE"] = str(place / "cache")
    done = run_benchmark(place, output)
    assert (done.measured, done.failures) == (8, ())
    return output


def test_figures_are_those_of_the_label_maps(place, whole):
    data = read_data_set(place / "data" / "blocks.json")
    scores: dict[int, list[float]] = {1: [], 2: []}
    for name in data.split["test"]:
        path = place / "data" / "images" / f"{name}.nii.gz"
        [found] = medptq.segment(networks_of(place)[0], path, engine="pytorch", precision="fp32")
        truth = data.read(name).labels
        for label, value in dice(truth, found.segmentation.labels, [1, 2]).items():
            scores[label].append(value)
    [table] = json.loads((whole / "benchmark.json").read_text("utf-8"))["tables"]
    fp32, w4a4 = (table["networks"][0]["recipes"][name] for name in ("fp32", "w4a4-tensor"))
    expected = {
        name: statistics.fmean(scores[n]) for n, name in ((1, "Bright"), (2, "Very bright"))
    }
    assert fp32["dsc"]["structures"] == pytest.approx(expected)
    assert fp32["dsc"]["mean"] == pytest.approx(statistics.fmean(expected.values()))
    assert fp32["dsc"]["mean"] > 0.5, "the network finds what there is"
    assert (fp32["voxels_equal"], fp32["dsc"]["drop_percent"]) == (1.0, 0.0)
    lost = 100 * (fp32["dsc"]["mean"] - w4a4["dsc"]["mean"]) / fp32["dsc"]["mean"]
    assert w4a4["dsc"]["drop_percent"] == pytest.approx(lost)
    assert w4a4["voxels_equal"] < 1
    assert table["data"]["scans"] == 3
    assert table["data"]["calibration_scans"] == 3


def test_every_recipe_of_this_machine_can_be_run(place, tmp_path):
    names = recipes_here()
    assert "w8a8-openvino" in names
    done = run_benchmark(place, tmp_path, networks_of(place)[:1], recipes=names, limit=1)
    assert done.failures == ()
    [row] = done.tables[0].rows
    assert list(row.figures) == names
    built = row.figures["w8a8-openvino"]
    assert built.ran.startswith("INT8, OpenVINO")
    other = replace(built, engine="tensorrt 8.6.1", layers={"fp32": 5, "fp16": 27})
    assert other.ran == "FP16 and FP32, TensorRT 8.6.1"
    assert set(row.figures["w8a8-openvino"].layers) == {"int8"}
    assert row.figures["w4a4-tensor"].layers == {"w4a4": 2}
    assert row.figures["w8a8-tensor"].voxels_equal > 0.98


def test_what_is_there_is_not_run_again(place, whole):
    before = (whole / "benchmark.json").read_bytes()
    done = run_benchmark(place, whole)
    assert done.measured == 0
    assert (whole / "benchmark.json").read_bytes() == before
    assert run_benchmark(place, whole, []).measured == 0, "without networks only tables are made"
    assert (whole / "benchmark.json").read_bytes() == before


def test_a_killed_run_is_taken_up_and_gives_the_same_table(place, whole, tmp_path):
    command = [sys.executable, "-m", "medptq", "benchmark", *networks_of(place)]
    command += ["--data", str(place / "data" / "blocks.json"), "--output", str(tmp_path / "out")]
    command += ["--patches", "3", "--recipes", *QUICK, "--quiet"]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 60
        while len(list((tmp_path / "out" / "cells").glob("[!.]*.json"))) < 2:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -9
    there = len(list((tmp_path / "out" / "cells").glob("[!.]*.json")))
    assert not (tmp_path / "out" / "benchmark.json").exists()
    done = run_benchmark(place, tmp_path / "out")
    assert done.measured == 8 - there
    assert 0 < done.measured < 8
    assert (tmp_path / "out" / "benchmark.json").read_bytes() == (
        whole / "benchmark.json"
    ).read_bytes()
    assert [path for path in tmp_path.rglob("*") if "medptq-part" in path.name] == []


def test_two_workers_give_the_table_of_one_process(place, whole, tmp_path):
    pytest.importorskip("distributed", reason="Dask (the extra 'cluster') is not installed")
    # In a process of its own, as a tracker of Python's stays with the one that starts processes.
    command = [sys.executable, "-m", "medptq", "benchmark", *networks_of(place)]
    command += ["--data", str(place / "data" / "blocks.json"), "--output", str(tmp_path)]
    command += ["--patches", "3", "--recipes", *QUICK, "--workers", "2", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    answer = json.loads(ended.stdout)
    assert (answer["measured"], answer["failures"]) == (8, [])
    assert (tmp_path / "benchmark.json").read_bytes() == (whole / "benchmark.json").read_bytes()


def test_workers_of_a_scheduler_do_the_work(place, whole, tmp_path):
    distributed = pytest.importorskip(
        "distributed", reason="Dask (the extra 'cluster') is not installed"
    )
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        done = run_benchmark(place, tmp_path, scheduler=cluster.scheduler_address)
    assert (done.measured, done.failures) == (8, ())
    assert (tmp_path / "benchmark.json").read_bytes() == (whole / "benchmark.json").read_bytes()


def test_what_workers_are_warned_of_is_told_once(place, tmp_path):
    distributed = pytest.importorskip(
        "distributed", reason="Dask (the extra 'cluster') is not installed"
    )
    write_data_set(tmp_path / "data")
    damaged = tmp_path / "data" / "images" / "scan1.nii.gz"
    damaged.write_bytes(b"no scan")
    said: list[str] = []
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        done = benchmark(
            *(networks_of(place)[:1], tmp_path / "data" / "blocks.json", tmp_path / "out"),
            patches=3,
            recipes=["fp32", "w4a4-tensor"],
            scheduler=cluster.scheduler_address,
            reporter=warnings_to(said),
        )
    assert (done.measured, done.failures) == (2, ())
    assert len(said) == 1
    assert "scan1.nii.gz was left out" in said[0]


@pytest.mark.parametrize("more", [{"workers": 2}, {"scheduler": "tcp://127.0.0.1:1"}])
def test_without_dask_it_says_what_to_do(place, tmp_path, monkeypatch, more):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(EngineError) as caught:
        run_benchmark(place, tmp_path, **more)
    assert caught.value.code == "engine.unavailable"
    assert "medptq[cluster]" in caught.value.todo


def test_a_scheduler_that_is_not_there_is_told(place, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="Dask (the extra 'cluster') is not installed")
    monkeypatch.setattr("medptq.benchmarking.cluster._ANSWER_SECONDS", 1)
    with pytest.raises(EngineError) as caught:
        run_benchmark(place, tmp_path, scheduler="tcp://127.0.0.1:1")
    assert "tcp://127.0.0.1:1" in str(caught.value)


def test_processes_that_share_a_folder_give_the_table_of_one(place, whole, tmp_path):
    for network in reversed(networks_of(place)):
        assert run_benchmark(place, tmp_path, [network]).measured == 4
    run_benchmark(place, tmp_path, [])
    for name in ("benchmark.json", "benchmark.md", "benchmark.csv", "structures.csv"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def _half(text: str, _: str) -> str:
    return text[: len(text) // 2]


def _better(text: str, _: str) -> str:
    return text.replace('"voxels_equal": ', '"voxels_equal": 1')


def _of_another(_: str, other: str) -> str:
    return other


def _nothing(*_: str) -> str:
    return ""


def _deep(*_: str) -> str:
    return "[" * 200_000


def _list(*_: str) -> str:
    return "[1]"


@pytest.mark.parametrize("spoil", [_half, _better, _of_another, _nothing, _deep, _list])
def test_a_cell_that_is_not_whole_or_of_other_inputs_is_not_believed(place, whole, tmp_path, spoil):
    shutil.copytree(whole, tmp_path / "out")
    [victim] = (tmp_path / "out" / "cells").glob("two.w4a4-tensor.*.json")
    [other] = (tmp_path / "out" / "cells").glob("two.fp32.*.json")
    spoiled = spoil(victim.read_text("utf-8"), other.read_text("utf-8"))
    victim.write_text(spoiled, encoding="utf-8")
    said: list[str] = []
    run_benchmark(place, tmp_path / "out", [], reporter=warnings_to(said))
    [table] = json.loads((tmp_path / "out" / "benchmark.json").read_text("utf-8"))["tables"]
    assert "w4a4-tensor" not in table["networks"][1]["recipes"]
    assert "w4a4-tensor" in table["networks"][0]["recipes"]
    assert "1 of 8" in said[0]
    assert run_benchmark(place, tmp_path / "out").measured == 1
    assert (tmp_path / "out" / "benchmark.json").read_bytes() == (
        whole / "benchmark.json"
    ).read_bytes()


@pytest.mark.parametrize("changed", ["network", "labels", "patches", "scans"])
def test_other_inputs_are_other_cells(place, tmp_path, changed):
    here = tmp_path / "place"
    shutil.copytree(place / "data", here / "data")
    shutil.copytree(place / "networks", here / "networks")
    network = [str(here / "networks" / "one.onnx")]
    more: dict[str, Any] = {"recipes": ["fp32"], "limit": 1}
    assert run_benchmark(here, tmp_path / "out", network, **more).measured == 1
    if changed == "network":
        card = here / "networks" / "one.json"
        card.write_text(card.read_text("utf-8").replace("0.25", "0.5"), encoding="utf-8")
    elif changed == "labels":
        labels = here / "data" / "labels"
        shutil.copy(labels / "scan4.nii.gz", labels / "scan3.nii.gz")
    elif changed == "scans":
        more["limit"] = 2
    else:
        more["seed"] = 1
    assert run_benchmark(here, tmp_path / "out", network, **more).measured == 1


def test_it_can_be_stopped_and_keeps_what_is_finished(place, tmp_path):
    cells = tmp_path / "cells"

    def two_are_there() -> bool:
        return len(list(cells.glob("[!.]*.json"))) >= 2

    with pytest.raises(Cancelled):
        run_benchmark(place, tmp_path, reporter=Reporter(cancelled=two_are_there))
    assert len(list(cells.glob("*.json"))) == 2


def test_the_page_takes_names_for_text_and_loads_nothing(whole):
    html = (whole / "benchmark.html").read_text("utf-8")
    assert "&lt;b&gt;Brightness&lt;/b&gt; | 1" in html
    assert "<b>" not in html
    assert "<script" not in html
    assert "http" not in html.split("</style>")[1]
    assert "W4A4" in html
    csv = (whole / "benchmark.csv").read_text("utf-8-sig").splitlines()
    assert len(csv) == 1 + 8
    markdown = (whole / "benchmark.md").read_text("utf-8")
    assert markdown.count("\n| one | ") == 3


def test_the_command_line(place, tmp_path, capsys):
    command = ["benchmark", networks_of(place)[0], "--output", str(tmp_path / "out"), "--json"]
    data = ["--data", str(place / "data" / "blocks.json")]
    assert main([*command, *data, "--recipes", "fp32", "--limit", "1"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["measured"], answer["failures"]) == (1, [])
    assert answer["tables"][0]["networks"][0]["id"] == "one"
    for arguments, code in (
        ([*command, *data, "--recipes", "w1a1"], "quantize.recipe"),
        ([*command, *data, "--seed", "-1"], "quantize.recipe"),
        (command, "scan.data-set"),
        (["benchmark", "--output", str(tmp_path / "none"), "--json"], "output.no-cells"),
    ):
        assert main(arguments) in (3, 5, 7)
        assert json.loads(capsys.readouterr().out)["error"]["code"] == code


@pytest.mark.parametrize(
    "error", [EngineError("memory", "What", why="why", todo="Do this"), Cancelled()]
)
def test_errors_cross_processes_whole(error):
    found = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    assert type(found) is type(error)
    assert (str(found), found.code, found.todo) == (str(error), error.code, error.todo)
