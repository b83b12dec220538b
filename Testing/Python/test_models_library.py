"""The library: what is imported, listed and removed, and that nothing else is touched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import medptq
from medptq.answers import models_answer
from medptq.cli import main
from medptq.engines.cache import open_session
from medptq.engines.pytorch import PyTorchEngine
from medptq.errors import Cancelled, MedPTQError, ModelError, OutputError
from medptq.housekeeping import ModelState
from medptq.inference.networks import request_for
from medptq.models.cache import cache_folder
from medptq.models.library import network_folder, twin_folder
from medptq.progress import Reporter
from medptq.quantization.quantized_model import QuantizedModel
from tiny_library import own_library
from tiny_network import write_network, write_scan

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

RECIPE = medptq.Recipe(patches=2)


@pytest.fixture(autouse=True)
def library(tmp_path, monkeypatch):
    return own_library(tmp_path, monkeypatch)


@pytest.fixture
def net(tmp_path):
    return write_network(tmp_path / "brought")


@pytest.fixture
def scans(tmp_path):
    write_scan(tmp_path / "scans" / "Doe.nii.gz")
    return tmp_path / "scans"


def state(model_id: str) -> ModelState:
    return {found.id: found for found in medptq.list_models()}[model_id]


def test_listing_loads_nothing_heavy(net, scans):
    medptq.quantize(medptq.import_model(net), scans, recipe=RECIPE)
    code = (
        "import sys, medptq\n"
        "assert [state.id for state in medptq.list_models()][-1] == 'brightness'\n"
        "assert medptq.list_models()[-1].int8 is not None\n"
        "assert medptq.remove_model('brightness', 'int8')\n"
        "heavy = {'torch', 'monai', 'onnx', 'openvino', 'scipy', 'SimpleITK'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_imported_network_is_found_by_its_id_and_needs_its_file_no_more(net, scans):
    imported = medptq.import_model(net)
    [labels] = [r.segmentation.labels for r in medptq.segment(net, scans, engine="pytorch")]
    shutil.rmtree(net.parent)

    assert (imported.id, imported.onnx.parent) == ("brightness", network_folder("brightness"))
    assert medptq.load_model("brightness") == imported
    [again] = medptq.segment("brightness", scans, engine="pytorch")
    assert np.array_equal(again.segmentation.labels, labels)
    found = state("brightness")
    assert (found.origin, found.downloaded, found.int8, found.problem) == (
        *("imported", True, None),
        "",
    )
    assert found.card == json.loads((network_folder("brightness") / "card.json").read_text())


def test_the_twin_is_used_where_the_network_is_asked_for_by_its_id(net, scans):
    medptq.import_model(net)
    with pytest.raises(ModelError, match="was not quantized"):
        medptq.segment("brightness", scans, precision="int8")
    made = medptq.quantize("brightness", scans, recipe=RECIPE)
    assert made.folder == twin_folder("brightness")
    [result] = medptq.segment("brightness", scans, engine="pytorch", precision="int8")
    assert result.precision == "int8"
    assert medptq.load_model("brightness").onnx == network_folder("brightness") / "network.onnx"
    assert isinstance(medptq.load_model(made.folder), QuantizedModel)  # paths go on working
    twin = state("brightness").int8
    assert twin is not None
    assert (twin.folder, twin.scans) == (made.folder, 1)
    assert twin.agreement_with_fp32["voxels_equal"] > 0.9


def test_a_network_is_ready_once_it_is_built_for_this_machine(net, scans, monkeypatch):
    imported = medptq.import_model(net)
    engine, reporter = PyTorchEngine(), Reporter()
    assert not state("brightness").fp32_ready
    open_session(engine, request_for(imported, "fp32"), reporter).close()
    assert state("brightness").fp32_ready

    twin = medptq.quantize("brightness", scans, recipe=RECIPE)
    assert not state("brightness").int8.ready
    assert not state("brightness").fp32_ready  # the twin's own FP32 graph is what runs now
    for precision in ("int8", "fp32"):
        open_session(engine, request_for(twin, precision), reporter).close()
    assert state("brightness").int8.ready
    assert state("brightness").fp32_ready

    for what, other in (("machine_digest", "another"), ("installed_version", "0.1")):
        with monkeypatch.context() as patch:
            patch.setattr(f"medptq.engines.built.{what}", lambda *_, other=other: other)
            assert not state("brightness").int8.ready
            assert not state("brightness").fp32_ready
    medptq.clear_cache()
    assert not state("brightness").int8.ready


def test_what_is_quantized_without_a_place_in_the_library_needs_a_folder(net, scans):
    with pytest.raises(OutputError, match="Import it first"):
        medptq.quantize(net, scans, recipe=RECIPE)
    assert medptq.list_models()[-1].id != "brightness"


@pytest.mark.parametrize("end", ["failed", "cancelled", "refused"])
def test_quantizing_that_does_not_end_well_leaves_the_old_twin(net, scans, tmp_path, end):
    medptq.import_model(net)
    medptq.quantize("brightness", scans, recipe=RECIPE)
    before = {path: path.read_bytes() for path in twin_folder("brightness").iterdir()}
    calls = 0

    def cancelled() -> bool:
        nonlocal calls
        calls += 1
        return end == "cancelled" and calls > 20

    if end == "failed":
        (scans / "Doe.nii.gz").write_bytes(b"rubbish")
    with pytest.raises(MedPTQError) as caught:
        medptq.quantize(
            *("brightness", scans),
            recipe=medptq.Recipe(patches=100),
            overwrite=end != "refused",
            reporter=Reporter(cancelled=cancelled),
        )
    assert isinstance(caught.value, Cancelled) == (end == "cancelled")
    assert {path: path.read_bytes() for path in twin_folder("brightness").iterdir()} == before
    assert [
        path.name for path in twin_folder("brightness").parent.iterdir() if "part" in path.name
    ] == []


def test_removing_deletes_what_it_says_and_nothing_else(net, scans, library):
    medptq.import_model(net)
    twin = medptq.quantize("brightness", scans, recipe=RECIPE)
    open_session(PyTorchEngine(), request_for(twin, "int8"), Reporter()).close()
    (library / "brightness" / "notes.txt").write_text("mine")
    (library / "my folder").mkdir()
    kept = cache_folder("networks") / "brightness-of-mine"
    kept.mkdir(parents=True)

    assert medptq.remove_model("brightness", "int8") > 1000
    assert state("brightness").int8 is None
    assert not list(cache_folder("engines").glob("*.blob"))
    assert medptq.load_model("brightness")
    assert medptq.remove_model("brightness") > 1000
    with pytest.raises(ModelError, match="There is no model"):
        medptq.load_model("brightness")
    with pytest.raises(ModelError, match="There is no model"):
        medptq.remove_model("brightness")
    assert sorted(path.name for path in library.rglob("*")) == [
        *("brightness", "my folder"),
        "notes.txt",
    ]
    assert kept.is_dir()
    assert net.is_file()


@pytest.mark.parametrize("name", ["../outside", "..", ".", "", "a/b", "/etc", "C:x"])
def test_an_id_is_never_a_way_out(name, library, tmp_path):
    (tmp_path / "outside" / "network").mkdir(parents=True)
    (tmp_path / "outside" / "int8").mkdir()
    library.mkdir()
    with pytest.raises(ModelError, match="There is no model"):
        medptq.remove_model(name)
    assert (tmp_path / "outside" / "int8").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_is_not_followed(net, library, tmp_path):
    medptq.import_model(net)
    elsewhere = tmp_path / "elsewhere"
    (library / "brightness").rename(elsewhere)
    (library / "brightness").mkdir()
    (library / "brightness" / "network").symlink_to(elsewhere / "network")
    with pytest.raises(OutputError, match="it is a link"):
        medptq.remove_model("brightness")
    assert (elsewhere / "network" / "network.onnx").is_file()


def test_clearing_the_cache_leaves_the_library(net, scans):
    medptq.import_model(net)
    twin = medptq.quantize("brightness", scans, recipe=RECIPE)
    open_session(PyTorchEngine(), request_for(twin, "int8"), Reporter()).close()
    assert medptq.clear_cache() > 0
    assert not cache_folder("engines").exists()
    assert state("brightness").int8 is not None


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("network/card.json", b"{", "card"),
        ("network/card.json", None, "card"),
        ("network/record.json", b"[]", "record"),
        ("network/record.json", b'{"format": 9, "sha256": "0"}', "format is 9"),
        ("network/network.onnx", None, "missing"),
        ("int8/manifest.json", b"{}", "manifest"),
        ("int8/manifest.json", b"\xff", "manifest"),
        ("int8/int8.onnx", None, "int8.onnx is missing"),
        ("network", None, "only its INT8 twin"),
    ],
)
def test_what_is_damaged_is_listed_with_what_is_wrong(net, scans, library, file, content, words):
    medptq.import_model(net)
    medptq.quantize("brightness", scans, recipe=RECIPE)
    path = library / "brightness" / file
    if path.is_dir():
        shutil.rmtree(path)
    elif content is None:
        path.unlink()
    else:
        path.write_bytes(content)

    found = state("brightness")
    assert words in found.problem
    assert (found.int8 is None) == file.startswith("int8")
    assert found.downloaded != file.startswith("network")
    json.dumps(models_answer(medptq.list_models()), allow_nan=False)
    assert main(["models"]) == 0
    medptq.remove_model("brightness")
    assert medptq.list_models()[-1].id != "brightness"


def test_a_network_that_was_changed_in_the_library_is_not_run(net):
    imported = medptq.import_model(net)
    content = bytearray(imported.onnx.read_bytes())
    content[-3] ^= 1
    imported.onnx.write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256") as caught:
        medptq.load_model("brightness")
    assert caught.value.code == "model.library"


def test_a_damaged_twin_is_worked_around_unless_it_is_asked_for(net, scans):
    medptq.import_model(net)
    twin = medptq.quantize("brightness", scans, recipe=RECIPE)
    twin.int8.write_bytes(b"rubbish")
    warnings: list[str] = []
    [result] = medptq.segment(
        "brightness", scans, engine="pytorch", reporter=Reporter(on_warning=warnings.append)
    )
    assert result.precision == "fp32"
    assert "INT8 was left out" in warnings[0]
    with pytest.raises(ModelError, match="SHA-256"):
        medptq.segment("brightness", scans, engine="pytorch", precision="int8")


def test_the_commands_do_what_the_functions_do(tmp_path, net, scans, capsys):
    assert main(["import", str(net), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "brightness"
    assert main(["quantize", "brightness", "--scans", str(scans), "--patches", "2", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["models", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["models"][-1]
    assert row["int8"]["folder"] == str(twin_folder("brightness"))
    output = str(tmp_path / "labels.nrrd")
    args = ["--engine", "pytorch", "--precision", "int8", "--quiet", "--output", output]
    assert main(["segment", "brightness", str(scans / "Doe.nii.gz"), *args]) == 0
    assert main(["remove", "brightness", "--int8", "--quiet"]) == 0
    assert main(["segment", "brightness", str(scans), *args, "--overwrite"]) == 4
    args[3] = "fp32"
    assert main(["segment", "brightness", str(scans / "Doe.nii.gz"), *args, "--overwrite"]) == 0
    capsys.readouterr()
    assert main(["cache", "--json"]) == 0
    size = json.loads(capsys.readouterr().out)["cache_mb"]
    assert main(["cache", "--clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["freed_mb"] == size > 0
    assert main(["remove", "brightness"]) == 0
    assert main(["remove", "brightness"]) == 4
