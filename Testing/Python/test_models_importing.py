"""What can be brought into the library, and what is refused because it cannot be or is not safe."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import onnx
import pytest
import torch

import medptq
from medptq.errors import ModelError
from medptq.models.library import library_root, network_folder
from medptq.progress import Reporter
from tiny_library import change_card, own_library
from tiny_network import PATCH, Brightness, write_network, write_scan

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


def make_zip(path: Path, files: dict[str, Path | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content if isinstance(content, bytes) else content.read_bytes())
    return path


def test_torchscript_and_weights_in_other_files_become_one_graph(tmp_path, net):
    script = torch.jit.trace(Brightness().eval(), torch.zeros(1, 1, PATCH, PATCH, PATCH))
    script.save(net.with_suffix(".pt"))
    net.rename(tmp_path / "net.onnx")
    change_card(net, id="traced")
    assert medptq.import_model(net.with_suffix(".pt")).id == "traced"

    graph = onnx.load(tmp_path / "net.onnx")
    onnx.save(graph, net, save_as_external_data=True, location="weights.bin", size_threshold=0)
    change_card(net, id="apart")
    archive = make_zip(
        tmp_path / "net é.zip",
        {f"a/{p.name}": p for p in net.parent.iterdir() if p.suffix != ".pt"},
    )
    shutil.rmtree(net.parent)
    medptq.import_model(archive)
    assert sorted(p.name for p in network_folder("apart").iterdir()) == [
        "card.json",
        "network.onnx",
        "record.json",
    ]
    assert medptq.load_model("apart").labels == medptq.load_model("traced").labels


def test_an_id_that_is_taken_makes_room_for_no_one(net):
    warnings: list[str] = []
    reporter = Reporter(on_warning=warnings.append)
    first = medptq.import_model(net, reporter=reporter)
    assert medptq.import_model(net, reporter=reporter) == first  # the same once more
    assert len(warnings) == 1
    change_card(net, task="Another")
    assert medptq.import_model(net, reporter=reporter).id == "brightness-2"
    assert "brightness-2" in warnings[1]
    assert medptq.load_model("brightness") == first

    change_card(net, id="deepbet")
    assert medptq.import_model(net, reporter=reporter).id == "deepbet-2"
    change_card(net, id="DeepBet")  # one folder on Windows and macOS
    assert medptq.import_model(net, reporter=reporter).id == "DeepBet-3"
    change_card(net, id="b" * 64)
    medptq.import_model(net)
    change_card(net, id="b" * 64, task="Yet another")
    assert medptq.import_model(net).id == "b" * 62 + "-2"


def test_folders_that_are_no_model_of_another_program_are_refused(tmp_path, net, scans):
    junk = make_zip(tmp_path / "b.zip", {"b/configs/metadata.json": b"{}", "b/m.ts": b"x"})
    two = {f"{name}/configs/metadata.json": b"{}" for name in "ab"}
    twin = medptq.quantize(net, scans, tmp_path / "twin", recipe=RECIPE).folder
    for path, code, words in (
        (junk, "model.bundle", "inference.json is missing"),
        (make_zip(tmp_path / "two.zip", two), "model.import", "it holds 2 models: a, b"),
        (twin, "model.import", "a quantized network"),
        (scans, "model.import", "it is a folder"),
        (tmp_path / "net.tar.gz", "model.import", "only .zip"),
    ):
        with pytest.raises(ModelError, match=words) as caught:
            medptq.import_model(path)
        assert caught.value.code == code
        assert ".onnx" in caught.value.todo or "ONNX" in caught.value.todo


def _link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("b.json")
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


def _bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr("a.bin", bytes(100 << 20), zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (lambda archive: archive.writestr("../evil.json", "{}"), "not a plain file"),
        (lambda archive: archive.writestr("x/../../evil.json", "{}"), "not a plain file"),
        (lambda archive: archive.writestr("/evil.json", "{}"), "not a plain file"),
        (lambda archive: archive.writestr("..\\evil.json", "{}"), "not a plain file"),
        (lambda archive: archive.writestr("C:evil.json", "{}"), "not a plain file"),
        (_link, "not a plain file"),
        (_bomb, "would take 105 MB"),
        (lambda archive: archive.writestr("other.onnx", "x"), "it holds 2 networks"),
    ],
)
def test_an_archive_that_is_not_safe_is_refused(tmp_path, net, add, words):
    archive = make_zip(
        tmp_path / "net.zip", {"net.onnx": net, "net.json": net.with_suffix(".json")}
    )
    with zipfile.ZipFile(archive, "a") as opened:
        add(opened)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match=words):
        medptq.import_model(archive)
    assert sorted(tmp_path.rglob("*")) == before
    assert not library_root().exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"rubbish", "no readable zip"), (b"", "no readable zip"), (None, "no such file")],
)
def test_what_is_no_archive_is_said(tmp_path, content, words):
    path = tmp_path / "net.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        medptq.import_model(path)


def test_a_zip_without_a_network_or_a_card_is_said(tmp_path, net):
    with pytest.raises(ModelError, match="no networks"):
        medptq.import_model(make_zip(tmp_path / "a.zip", {"readme.txt": b"hello"}))
    with pytest.raises(ModelError, match="has no card"):
        medptq.import_model(make_zip(tmp_path / "b.zip", {"net.onnx": net}))
    junk = {"__MACOSX/._net.onnx": b"", "net.onnx": net, "net.json": net.with_suffix(".json")}
    assert medptq.import_model(make_zip(tmp_path / "c.zip", junk)).id == "brightness"
