"""In which order gpu.py runs the steps of networks, and what it keeps of them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"))

import gpu_running
import publishing
from gpu_table import table

# Stands for gpu.py's own processes: exports and quantizes in no time, and tells rows.
PROCESS = """
import argparse, json, pathlib, sys, time
parser = argparse.ArgumentParser()
for name in ("--network", "--step", "--work"):
    parser.add_argument(name)
parser.add_argument("--peaks", action="store_true")
options = parser.parse_args()
folder = pathlib.Path(options.work) / options.network
def tell(**facts):
    print("@" + json.dumps(facts), flush=True)
with open(folder.parent / "log", "a") as log:
    log.write(f"{options.network} {options.step}\\n")
if options.step == "export":
    if options.network == "broken":
        sys.exit("it cannot be written")
    time.sleep(0.3)
    (folder / "export.json").write_text(json.dumps({"parameters": 5}))
elif options.step == "quantize":
    if not (folder / "export.json").exists():
        sys.exit("there is no network")
    (folder / "quantize.json").write_text(json.dumps({"agreement": 1.0}))
elif options.step == "pytorch":
    tell(ready=True)
    sys.stdin.readline()
    for way, ms in (("FP32", 8.0), ("TF32", 6.0), ("AMP", 5.0)):
        tell(way=f"PyTorch {way}", batch=1, ms=ms, memory_mb=400.0, error=0.0)
elif options.step == "build":
    tell(begun="TensorRT FP32", batch=1)
    if options.network == "slow":
        time.sleep(60)
    for _ in range(100 if options.network.startswith("waits") else 0):
        if (folder.parent / "log").read_text().count(" build\\n") == 2:
            break
        time.sleep(0.1)
    with open(folder.parent / "log", "a") as log:
        log.write(f"{options.network} built\\n")
elif options.step == "measure":
    waits = options.network.startswith("waits")  # until both have loaded
    (folder / "loaded").touch()
    for _ in range(100 if waits else 0):
        if len(list(folder.parent.glob("waits*/loaded"))) == 2:
            break
        time.sleep(0.1)
    tell(ready=True)
    sys.stdin.readline()
    for what in ("begins", "ends") if waits else ():
        with open(folder.parent / "log", "a") as log:
            log.write(f"{options.network} {what}\\n")
        time.sleep(0.3)
    half = dict(builds_at_a_time=2, ms=2.0, memory_mb=100.0, error=0.01, form="own layer", tried=[])
    tell(begun="TensorRT FP32", batch=1)
    tell(**{**half, "way": "TensorRT FP32", "batch": 1, "ms": 3.0, "refused": "it is off by 2.8%"})
    tell(begun="TensorRT FP16", batch=1)
    tell(**half, way="TensorRT FP16", batch=1)
    tell(begun="TensorRT INT8", batch=1)
    tell(way="TensorRT INT8", batch=1, failed="no kernel")
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu_running, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu_running, "_LEAST_SECONDS", 0.0)
    script = tmp_path / "process.py"
    script.write_text(PROCESS, encoding="utf-8")

    def started(*networks: str, **others: object) -> dict:
        defaults = {
            "networks": networks,
            "batches": [1],
            "gpus": ["0"],
            "steps": gpu_running.GPU_STEPS,
            "limit": 60.0,
            "total": 100.0,
            "resume": False,
            "compile": False,
            "timings": None,
            "prepare": 4,
            "builds": 1,
            "work": tmp_path / "work",
        }
        options = argparse.Namespace(**{**defaults, **others})
        (tmp_path / "work" / "log").unlink(missing_ok=True)
        command = [sys.executable, str(script), "--work", str(tmp_path / "work")]
        return gpu_running.Run(options, command).all()

    return started


def steps(tmp_path: Path) -> list[str]:
    lines = (tmp_path / "work" / "log").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.endswith(("export", "quantize"))]


def written(tmp_path: Path) -> dict:
    [path] = tmp_path.glob("gpu-*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_one_step_of_all_comes_after_the_other_and_every_row_is_written(run, tmp_path):
    report = run("a", "b")
    done = steps(tmp_path)
    # Which of the two is prepared first, and so begun first, is left to chance.
    assert sorted(done[:2]) == ["a pytorch", "b pytorch"]
    assert sorted(zip(done[2:6:2], done[3:6:2], strict=True)) == [
        *(("a build", "a built"), ("b build", "b built")),
    ]
    assert sorted(done[6:]) == ["a measure", "b measure"]
    ways = [row["way"] for row in report["networks"]["a"]["ways"]]
    assert ways == [
        *("PyTorch FP32", "PyTorch TF32", "PyTorch AMP"),
        *("TensorRT FP32", "TensorRT FP16", "TensorRT INT8"),
    ]
    assert written(tmp_path)["networks"] == report["networks"]
    text = table(report)
    # Ours, its ratios to TensorRT FP32 and FP16 and to PyTorch FP32, and the memory.
    assert "| a | 1 | 2.00 | FP16, own layer | 1.50 | 1.00 | 4.00 |  | 4.00 |" in text
    assert "TensorRT FP32, *not offered: it is off by 2.8%*" in text
    assert "*no kernel*" in text


def test_networks_are_built_side_by_side_and_timed_one_by_one(run, tmp_path):
    report = run("waits", "waits-too", builds=2)
    assert sorted(steps(tmp_path)[2:4]) == ["waits build", "waits-too build"]
    assert sorted(steps(tmp_path)[4:6]) == ["waits built", "waits-too built"]
    assert sorted(steps(tmp_path)[6:8]) == ["waits measure", "waits-too measure"]
    first, other = ((line, line.replace("begins", "ends")) for line in steps(tmp_path)[8::2])
    assert steps(tmp_path)[8:] == [*first, *other]
    assert first != other
    assert "2 networks were built at a time" in table(report)


def test_what_does_not_end_in_time_is_a_row_and_the_others_are_kept(run):
    report = run("slow", "a", limit=10.0)  # beside others its process takes seconds to begin
    [row] = [row for row in report["networks"]["slow"]["ways"] if row.get("unfinished")]
    assert row["failed"] == "not finished within 10 s"
    assert len(report["networks"]["a"]["ways"]) == 6


def test_building_leaves_time_to_measure(run, tmp_path):
    report = run("slow", total=8.0)
    assert steps(tmp_path) == ["slow pytorch", "slow build", "slow measure"]
    assert len(report["networks"]["slow"]["ways"]) == 7


def test_what_was_built_can_be_measured_later(run, tmp_path):
    run("a", steps=("build",))
    report = run("a", "never-built", steps=("measure",))
    assert sorted(steps(tmp_path)) == ["a measure", "never-built measure"]
    assert len(report["networks"]["a"]["ways"]) == 3


def test_what_is_prepared_beforehand_is_told_by_the_later_run(run, tmp_path):
    run("a", steps=("prepare",))
    assert (tmp_path / "work" / "a" / "quantize.json").exists()
    assert steps(tmp_path) == []
    assert not list(tmp_path.glob("gpu-*"))  # what today's results hold would be lost
    report = run("a", steps=("measure",))
    assert (tmp_path / "work" / "log").read_text(encoding="utf-8").count("export") == 0
    assert report["networks"]["a"]["parameters"] == 5


def test_it_goes_on_where_it_was_stopped(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--steps", "pytorch"])
    run("a", steps=("pytorch",))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--resume"])
    report = run("a", "b", resume=True)
    assert report["command"] == "python gpu.py --steps pytorch; python gpu.py --resume"
    assert "a pytorch" not in steps(tmp_path)
    builds = sorted(name for name in steps(tmp_path) if name.endswith("build"))
    assert builds == ["a build", "b build"]
    assert [len(found["ways"]) for found in report["networks"].values()] == [6, 6]
    # What had failed is tried again.
    run("a", resume=True)
    assert steps(tmp_path) == ["a build", "a built", "a measure"]


def test_what_is_compiled_is_timed_by_a_later_run_that_keeps_the_versions_of_before(run, tmp_path):
    run("a", steps=("pytorch",))
    path = next(tmp_path.glob("gpu-*.json"))
    before = written(tmp_path)
    before = {**before, "machine": "another", "versions": {**before["versions"], "engine": "8.6"}}
    path.write_text(json.dumps(before), encoding="utf-8")
    report = run("a", steps=("pytorch",), resume=True, compile=True)
    assert steps(tmp_path) == ["a pytorch"]
    assert report["versions"]["engine"] == "8.6"
    assert report["machine"].startswith("another; ")


def test_when_the_time_is_up_what_was_not_run_is_told(run, tmp_path):
    report = run("a", total=0.0)
    assert report["networks"]["a"]["ways"] == []
    assert "*not run: PyTorch FP32, " in table(report)


def test_a_network_that_cannot_be_exported_says_so_and_the_others_go_on(run):
    report = run("broken", "a")
    assert "it cannot be written" in report["networks"]["broken"]["failed"]
    assert len(report["networks"]["a"]["ways"]) == 6
