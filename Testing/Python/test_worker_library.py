"""What the panel asks of a real worker: models, import, remove, clear, inspect, and twins by id."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medptq.engines.selection import native_ways
from tiny_network import write_network, write_scan
from worker_client import Worker

FEW = {"patches": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("worker é 中 space")
    write_network(made / "brought")
    write_scan(made / "scans" / "Doe Jané.nii.gz")
    return made


@pytest.fixture(scope="module")
def worker(folder):
    with Worker(folder / "worker", "--log", str(folder / "log.txt")) as started:
        yield started


@pytest.fixture
def imported(folder, worker):
    """The id of a network in a library that holds nothing else."""
    made = worker.call("import", path=str(folder / "brought" / "net.onnx"))
    assert made == {"id": "brightness", "title": "Brightness", "warnings": []}
    yield made["id"]
    worker.call("remove", model=made["id"])


def _row(worker: Worker, model_id: str) -> dict:
    return {row["id"]: row for row in worker.call("models")["models"]}[model_id]


def _segment(worker: Worker, folder: Path, name: str, **more: object) -> dict:
    scan, output = str(folder / "scans" / "Doe Jané.nii.gz"), str(folder / name)
    params = {"network": "brightness", "scan": scan, "output": output, "overwrite": True}
    return worker.call("segment", **params, **more)


def test_models_are_listed_with_what_is_here_of_them(folder, worker, imported):
    answer = worker.call("models")
    assert answer["library"] == str(folder / "worker" / "library")
    assert answer["cache_mb"] >= 0
    regions, deepbet, *_, mine = answer["models"]
    assert (regions["id"], regions["origin"], regions["downloaded"]) == (
        *("brain-regions-t1", "included"),
        True,
    )
    assert (deepbet["id"], deepbet["origin"], deepbet["downloaded"]) == (
        *("deepbet", "catalogue"),
        False,
    )
    assert deepbet["card"]["input"]["patch_size"] == [256, 256, 256]
    assert mine == {
        "id": "brightness",
        "title": "Brightness",
        "task": "Finds what is bright",
        "modality": "MR",
        "region": "Anywhere",
        "structures": ["Bright", "Very bright"],
        "size_mb": mine["size_mb"],
        "licence": "Apache-2.0",
        "source": "made by a test",
        "citation": "none",
        "card": json.loads((folder / "brought" / "net.json").read_text())
        | {"postprocessing": [], "output": mine["card"]["output"]},
        "origin": "imported",
        "downloaded": True,
        "int8": None,
        "fp32_ready": False,
        "problem": "",
        "untested": "",
    }


def test_a_network_is_calibrated_used_and_removed_by_its_id(folder, worker, imported):
    scans = str(folder / "scans")
    made = worker.call("quantize", model=imported, scans=scans, recipe=FEW)
    assert made["output"] == str(folder / "worker" / "library" / "brightness" / "int8")
    taken = worker.error("quantize", model=imported, scans=scans, recipe=FEW)
    assert taken["data"]["code"] == "output.exists"
    worker.call("quantize", model=imported, scans=scans, recipe=FEW, overwrite=True)
    twin = _row(worker, imported)["int8"]
    assert set(twin) == {"folder", "created", "scans", "agreement_with_fp32", "ready", "mb"}
    assert (twin["scans"], twin["ready"]) == (1, False)

    first = _segment(worker, folder, "1.nrrd", engine="pytorch", precision="int8")
    again = _segment(worker, folder, "2.nrrd", engine="pytorch", precision="int8")
    assert (first["precision"], first["warm"], again["warm"]) == ("int8", False, True)
    assert _row(worker, imported)["int8"]["ready"]
    best = _segment(worker, folder, "3.nrrd", precision="best")
    assert (best["engine"], best["precision"]) in native_ways()

    assert worker.call("remove", model=imported, what="int8")["freed_mb"] > 0
    assert _row(worker, imported)["int8"] is None
    assert _segment(worker, folder, "4.nrrd", engine="pytorch")["precision"] == "fp32"


@pytest.mark.skipif(
    ("openvino", "int8") not in native_ways(), reason="no engine of this machine runs INT8 natively"
)
def test_the_twin_in_the_library_is_compared(folder, worker, imported):
    scan = str(folder / "scans" / "Doe Jané.nii.gz")
    params = {"model": imported, "scan": scan, "output": str(folder / "report")}
    assert worker.error("compare", **params)["data"]["code"] == "model.not-quantized"
    worker.call("quantize", model=imported, scans=str(folder / "scans"), recipe=FEW)
    answer = worker.call("compare", **params, quantized=None)
    assert answer["headline"]["precision"] == "int8"
    assert (folder / "report" / "report.csv").is_file()


def test_the_cache_is_cleared_and_the_network_still_there(folder, worker, imported):
    _segment(worker, folder, "5.nrrd", engine="pytorch")
    assert worker.call("models")["cache_mb"] > 0
    assert worker.call("clear")["freed_mb"] > 0
    assert worker.call("models")["cache_mb"] == 0
    assert _segment(worker, folder, "6.nrrd", engine="pytorch")["warm"] is False
    maps = [sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{n}.nrrd"))) for n in (5, 6)]
    assert np.array_equal(*maps)


def test_a_folder_is_looked_at_before_calibration(folder, worker):
    write_scan(folder / "mixed" / "a.nii.gz", (24, 22, 20))
    write_scan(folder / "mixed" / "b.mha", (30, 22, 10))
    (folder / "mixed" / "Doe.nrrd").write_bytes(b"rubbish")
    request_id = worker.send("inspect", scans=str(folder / "mixed"))
    answer = worker.answer(request_id)["result"]
    [bad] = answer.pop("unusable")
    assert bad["what"] == "Doe.nrrd"
    assert bad["why"]
    assert answer.pop("size_mb") > 0
    assert answer == {
        "scans": 2,
        "formats": {"NIfTI": 1, "MetaImage": 1},
        "spacing_mm": [[2.0, 1.5, 1.0], [2.0, 1.5, 1.0]],
        "shape": [[24, 22, 10], [30, 22, 20]],
        "warnings": [],
    }
    assert worker.told("progress", request_id)[-1]["fraction"] == 1
    vectors = worker.call("inspect", scans=str(folder / "mixed"), channels=2)
    assert (vectors["scans"], vectors["spacing_mm"], vectors["shape"]) == (0, None, None)


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("import", {"path": "/no/such/net.onnx"}, "model.missing"),
        ("import", {"path": "/"}, "model.import"),
        ("remove", {"model": "no-such-network"}, "model.unknown"),
        ("remove", {"model": "../../etc"}, "model.unknown"),
        ("inspect", {"scans": "/no/such/folder"}, "scan.missing"),
        ("quantize", {"model": "no-such-network", "scans": "/"}, "model.unknown"),
    ],
)
def test_what_a_user_can_mend_is_told_with_its_code(worker, method, params, code):
    assert worker.error(method, **params)["data"]["code"] == code


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("import", {}),
        ("remove", {"model": "deepbet", "what": "everything"}),
        ("inspect", {"scans": "/", "channels": 0}),
        ("clear", {"really": True}),
    ],
)
def test_wrong_params_are_refused(worker, method, params):
    assert worker.error(method, **params)["code"] == -32602


def test_the_log_names_nothing(folder, worker, imported):
    worker.call("inspect", scans=str(folder / "scans"))
    worker.call("remove", model=imported, what="int8")
    worker.call("clear")
    text = (folder / "log.txt").read_text(encoding="utf-8")
    for method in ("import", "remove", "clear", "inspect"):
        assert method in text
    for name in ("Doe", "Jan", "bright", "net.onnx", str(folder)):
        assert name not in text
