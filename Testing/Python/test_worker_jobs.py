"""The worker's work: a real network, in a real process, from the first request to a sudden end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import SimpleITK as sitk

import medptq
from medptq.cli import main
from medptq.models.loading import load_model
from medptq.quantization.quantized_model import is_quantized_model, load_quantized_model
from tiny_network import write_network, write_scan
from worker_client import COMMAND, Worker, wait_until_gone

# The launcher that Slicer's Python is: it starts the worker and waits for it.
LAUNCHER = "import subprocess, sys; subprocess.run(sys.argv[1:])"
LONG = {"patches": 1_000_000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("worker é 中 space")
    write_network(made)
    for seed in range(2):
        write_scan(made / "scans" / f"Doe Jané {seed}.nii.gz", seed=seed)
    write_scan(made / "large" / "head.nii.gz", (96, 96, 96))
    return made


@pytest.fixture(scope="module")
def worker(folder):
    with Worker(folder / "worker", "--log", str(folder / "log.txt")) as started:
        yield started


@pytest.fixture(scope="module")
def int8(folder, worker):
    worker.call("quantize", **_quantize(folder, "int8", {"patches": 4, "percentile": 100}))
    return folder / "int8"


def _quantize(folder: Path, output: str, recipe: dict) -> dict:
    return {
        "model": str(folder / "net.onnx"),
        "scans": str(folder / ("large" if recipe == LONG else "scans")),
        "output": str(folder / output),
        "recipe": recipe,
    }


def _calibrating(worker: Worker, request_id: int) -> None:
    """Wait until a request is in the middle of calibration."""
    worker.until(
        lambda m: (
            m.get("method") == "progress"
            and (m["params"]["id"], m["params"]["stage"]) == (request_id, "Calibrating")
            and m["params"]["done"] > 0
        )
    )


def _remains(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".medptq-part" in path.name]


def test_quantizing_tells_how_far_it_is_and_gives_what_the_command_gives(folder, worker, capsys):
    request_id = worker.send("quantize", **_quantize(folder, "one", {"patches": 4}))
    result = worker.answer(request_id)["result"]
    args = [str(folder / "net.onnx"), "--scans", str(folder / "scans"), "--patches", "4"]
    assert main(["quantize", *args, "--output", str(folder / "two"), "--json", "--quiet"]) == 0
    expected = json.loads(capsys.readouterr().out)
    assert result == {**expected, "output": str(folder / "one")}
    for name in ("fp32.onnx", "int8.onnx", "model.json"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()

    about = [m for m in worker.seen if m.get("params", {}).get("id") == request_id]
    assert about[0]["method"] == "heartbeat"
    reports = worker.told("progress", request_id)
    assert {"Calibrating", "Checking INT8 against FP32"} <= {r["stage"] for r in reports}
    calibrating = [r for r in reports if r["stage"] == "Calibrating"]
    assert calibrating[-1] == {
        "id": request_id,
        "stage": "Calibrating",
        "done": 4,
        "total": 4,
        "fraction": 1.0,
        "eta_seconds": 0.0,
    }
    worker.call("ping")  # nothing on the request comes after its answer
    assert worker.seen[-2]["id"] == request_id


def test_the_second_segmentation_is_warm(folder, worker, int8):
    def segment(precision: str, name: str) -> dict:
        return worker.call(
            "segment",
            network=str(int8),
            scan=str(folder / "scans" / "Doe Jané 0.nii.gz"),
            output=str(folder / "labels" / name),
            engine="pytorch",
            precision=precision,
        )

    worker.call("release")
    first = segment("fp32", "é 1.nii.gz")
    assert (first["engine"], first["precision"], first["warm"]) == ("pytorch", "fp32", False)
    assert segment("fp32", "é 2.nii.gz")["warm"] is True
    assert segment("int8", "é 3.nii.gz")["warm"] is False
    assert segment("fp32", "é 4.nii.gz")["warm"] is True
    assert segment("int8", "é 5.nii.gz")["warm"] is True
    maps = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        for path in sorted((folder / "labels").iterdir())
    ]
    assert set(np.unique(maps[0])) == {0, 1, 2}
    assert np.array_equal(maps[0], maps[1])
    assert np.array_equal(maps[0], maps[3])
    assert np.array_equal(maps[2], maps[4])
    assert worker.call("release")["released"] == 2
    assert segment("fp32", "é 6.nii.gz")["warm"] is False


def test_a_network_that_was_replaced_is_not_taken_for_the_old_one(folder, worker, int8):
    network = folder / "changing"
    scan = str(folder / "scans" / "Doe Jané 0.nii.gz")

    def segment() -> bool:
        params = {"network": str(network), "scan": scan, "output": str(folder / "c.nrrd")}
        return worker.call("segment", **params, engine="pytorch", precision="int8", overwrite=True)[
            "warm"
        ]

    args = [str(folder / "net.onnx"), "--scans", str(folder / "scans"), "--quiet"]
    assert main(["quantize", *args, "--output", str(network), "--observer", "max"]) == 0
    segment()
    assert segment()
    more = ["--overwrite", "--observer", "percentile", "--percentile", "60"]
    assert main(["quantize", *args, "--output", str(network), *more]) == 0
    assert not segment()


def test_loading_shows_the_card_and_how_it_was_quantized(folder, worker, int8):
    plain = worker.call("load", model=str(folder / "net.onnx"))
    assert plain["card"] == json.loads((folder / "net.json").read_text()) | {
        "output": {"blending": "gaussian", "interpolated": "outputs"},
        "postprocessing": [],
    }
    assert plain["quantized"] is None
    twin = worker.call("load", model=str(int8))
    assert twin["card"] == plain["card"]
    assert twin["quantized"]["recipe"] == load_quantized_model(int8).recipe.to_json()
    assert twin["quantized"]["agreement_with_fp32"]["voxels_equal"] > 0.9
    assert twin["quantized"]["int8_mb"] > 0


def test_the_doctor_is_in(folder, worker):
    answer = worker.call("doctor")
    assert {engine["name"] for engine in answer["engines"]} >= {"openvino", "pytorch"}
    for engine in answer["engines"]:
        if engine["name"] in ("openvino", "pytorch"):
            assert engine["availability"]["usable"]
        proofs = {"ok"} if engine["availability"]["usable"] else set()
        assert {proof["verdict"] for proof in engine["proofs"]} == proofs
    machine = answer["machine"]
    assert machine["cores"] >= 1
    assert 0 < machine["free_memory_gb"] < machine["memory_gb"]
    assert machine["free_disk_gb"] > 0
    assert machine["cache"] == str(folder / "worker" / "cache")
    assert answer["library"] == str(folder / "worker" / "library")
    assert answer["cache_mb"] >= 0
    assert answer["python"] == {
        "version": "{}.{}.{}".format(*sys.version_info[:3]),
        "executable": sys.executable,
    }
    assert answer["versions"]["medptq"] == medptq.__version__
    assert all(answer["versions"][name] for name in ("torch", "openvino", "onnx", "SimpleITK"))


def test_requests_queue_and_can_be_cancelled_while_they_wait_and_while_they_run(folder, worker):
    long = worker.send("quantize", **_quantize(folder, "never", LONG))
    first, second, third = (worker.send("release") for _ in range(3))
    _calibrating(worker, long)
    assert "models" in worker.call("models")  # it need not wait
    assert worker.call("ping") == {"running": long, "queued": [first, second, third]}
    duplicate = {"jsonrpc": "2.0", "id": second, "method": "release"}
    worker.write(json.dumps(duplicate).encode() + b"\n")
    assert worker.answer(second)["error"]["code"] == -32600
    assert worker.call("cancel", id=12345) == {"was": "unknown"}

    asked = worker.send("cancel", id=second)
    error = worker.answer(second)["error"]
    assert (error["code"], error["data"]["code"]) == (-32800, "cancelled.user")
    assert worker.answer(asked)["result"] == {"was": "queued"}

    def is_later_beat(message):
        is_beat = message.get("method") == "heartbeat"
        return is_beat and message["params"]["elapsed_seconds"] >= 2

    beat = worker.until(is_later_beat)["params"]
    assert (beat["id"], beat["stage"]) == (long, "Calibrating")
    assert len(worker.told("heartbeat", long)) >= 2

    asked = worker.send("cancel", id=long)
    assert worker.answer(asked, timeout=2)["result"] == {"was": "running"}
    assert worker.answer(long, timeout=2)["error"]["code"] == -32800
    assert "released" in worker.answer(first)["result"]
    assert "released" in worker.answer(third)["result"]
    assert not (folder / "never").exists()
    assert _remains(folder) == []


@pytest.mark.parametrize(
    ("method", "changes", "code"),
    [
        ("segment", {"scan": "/no/such/scan.nii.gz"}, "scan.missing"),
        ("segment", {"network": "/no/such/net.onnx"}, "model.missing"),
        ("segment", {"network": "no-such-network"}, "model.unknown"),
        ("segment", {"engine": "abacus"}, "engine.unknown"),
        ("segment", {"precision": "int8"}, "model.not-quantized"),
        ("segment", {"output": "scans"}, "output.exists"),
        ("quantize", {"recipe": {"patches": 0}}, "quantize.recipe"),
        ("quantize", {"recipe": {"observer": "eye"}}, "quantize.recipe"),
        ("quantize", {"output": "scans"}, "output.exists"),
    ],
)
def test_what_a_user_can_mend_is_told_with_its_code(folder, worker, method, changes, code):
    params = _quantize(folder, "failed", {"patches": 2})
    if method == "segment":
        scan = str(folder / "scans" / "Doe Jané 0.nii.gz")
        params = {"network": params["model"], "scan": scan, "output": str(folder / "f.nrrd")}
        params["engine"] = "pytorch"
    if changes.get("output") == "scans":
        changes = {"output": params.get("scans") or str(folder / "net.onnx")}
        if method == "segment":
            (folder / "taken.nrrd").write_bytes(b"mine")
            changes = {"output": str(folder / "taken.nrrd")}
    error = worker.error(method, **{**params, **changes})
    assert error["code"] == -32000
    assert error["data"]["code"] == code
    assert all(error["data"][part] for part in ("what", "why", "todo"))
    assert _remains(folder) == []


def test_what_is_left_out_is_told_when_it_is_and_in_the_result(folder, worker):
    write_scan(folder / "mixed" / "good.nii.gz")
    (folder / "mixed" / "bad.nii.gz").write_bytes(b"rubbish")
    params = {"network": str(folder / "net.onnx"), "scan": str(folder / "mixed")}
    request_id = worker.send(
        "segment", **params, output=str(folder / "mixed labels"), engine="pytorch"
    )
    result = worker.answer(request_id)["result"]
    [warning] = worker.told("warning", request_id)
    assert result["warnings"] == [warning["text"]]
    assert "bad.nii.gz" in warning["text"]
    assert [Path(scan["output"]).name for scan in result["scans"]] == ["good.nii.gz"]


def test_the_log_tells_stages_and_no_names(folder, worker, int8):
    worker.error("load", model=str(folder / "scans" / "Doe Jané 0.nii.gz"))
    text = (folder / "log.txt").read_text(encoding="utf-8")
    assert "quantize" in text
    assert "Calibrating" in text
    assert "model.unknown" in text
    for name in ("Doe", "Jan", str(folder), "head", "net.onnx"):
        assert name not in text


def test_shutting_down_in_the_middle_cancels_everything(folder, tmp_path):
    with Worker(tmp_path) as worker:
        long = worker.send("quantize", **_quantize(folder, "shut", LONG))
        queued = worker.send("release")
        _calibrating(worker, long)
        asked = worker.send("shutdown")
        codes = {}
        while len(codes) < 3:
            message = worker.next()
            if "method" not in message:
                codes[message["id"]] = message.get("error", {}).get("code")
        assert codes == {asked: None, queued: -32800, long: -32800}
        assert worker.ends() == 0
    assert not (folder / "shut").exists()
    assert _remains(folder) == []


def test_nothing_is_believed_of_what_a_killed_worker_left(folder, tmp_path):
    output = folder / "killed"
    with Worker(tmp_path) as worker:
        request = worker.send("quantize", **_quantize(folder, "killed", LONG))
        _calibrating(worker, request)
        worker.process.kill()
        worker.process.wait()
    assert not output.exists()
    assert _remains(folder) != []
    assert not is_quantized_model(output)
    assert _remains(folder) == []
    load_model(folder / "net.onnx")


@pytest.mark.skipif(sys.platform == "win32", reason="the pipes are not handed on like this there")
@pytest.mark.parametrize("victim", ["launcher", "worker"])
def test_nothing_runs_on_when_the_parent_or_the_worker_is_killed(folder, int8, tmp_path, victim):
    network = write_network(tmp_path)
    card = json.loads(network.with_suffix(".json").read_text())
    card["input"]["overlap"] = 0.9  # takes minutes
    network.with_suffix(".json").write_text(json.dumps(card))
    with Worker(tmp_path, command=(sys.executable, "-c", LAUNCHER, *COMMAND)) as worker:
        pid = worker.hello["params"]["pid"]
        request = worker.send(
            "compare",
            model=str(network),
            quantized=str(int8),
            scan=str(folder / "large" / "head.nii.gz"),
            output=str(tmp_path / "report"),
        )
        children: list[psutil.Process] = []
        # A worker that ends in good order ends them; without it they must see for themselves, for
        # which they must have begun.
        begun = 4 if victim == "worker" else 0
        while not children or sum(children[0].cpu_times()[:2]) < begun:
            assert "error" not in worker.next()
            children = psutil.Process(pid).children()
        if victim == "worker":
            psutil.Process(pid).kill()
        else:
            worker.process.kill()
        wait_until_gone([pid, *(child.pid for child in children)])
    assert worker.told("heartbeat", request)
    assert not (tmp_path / "report").exists()
