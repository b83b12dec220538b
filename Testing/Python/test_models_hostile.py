"""Files that want to run code, to write where they should not, or to fill the machine.

Each is refused with its code and reason. A payload would make the canary; and nothing may change
outside the cache, not even for a moment's files that were forgotten.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

import medptq
from medptq.errors import ModelError
from monai_bundles import INFERER, UNET, inference, metadata, write_bundle
from nnunet_folders import write_model_folder
from tiny_network import write_network

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def canary(tmp_path, monkeypatch):
    """Where a payload would leave a trace; the folders that the program may write to are apart."""
    for name in ("cache", "library", "temporary"):
        (tmp_path / "own" / name).mkdir(parents=True)
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "own" / "cache"))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(tmp_path / "own" / "library"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "own" / "temporary"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "canary"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A bundle, a model folder, a checkpoint and a graph that there is nothing wrong with."""
    folder = tmp_path_factory.mktemp("sound")
    write_bundle(folder / "bundle")
    write_model_folder(folder)
    write_network(folder / "onnx")
    card = json.loads((folder / "onnx" / "net.json").read_text())
    options = {"level_channels": [4, 8], "strides": [2], "num_res_units": 0}
    card["network"] = {"architecture": "monai-unet", "options": options}
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "net.json").write_text(json.dumps(card))
    (folder / "checkpoint" / "net.pth").touch()
    return folder


def refused(path: Path, root: Path) -> ModelError:
    """Return how a file is refused when it is imported; nothing may have happened by then."""
    before = _tree(root)
    with pytest.raises(ModelError) as caught:
        medptq.import_model(path)
    assert not (root / "canary").exists()
    assert _tree(root) == before
    assert caught.value.why
    assert caught.value.todo
    return caught.value


def _tree(root: Path) -> dict[str, tuple[int, int]]:
    """Return all that is below a folder but for the cache, with sizes and times."""
    paths = [path for path in root.rglob("*") if "cache" not in path.parts]
    return {
        str(path): (path.lstat().st_size, 0 if path.is_dir() else path.lstat().st_mtime_ns)
        for path in paths
    }


class Payload:
    """An object whose unpickling makes a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def test_the_payload_would_work(canary):
    pickle.loads(pickle.dumps(Payload(canary)))  # noqa: S301 - it shows what others must not do
    assert canary.exists()


# ---- pickles, wherever a format has weights


def _saved(canary: Path) -> Callable[[Path], None]:
    return lambda path: torch.save({"model": {"w": torch.zeros(1)}, "more": Payload(canary)}, path)


def _before_1_6(canary: Path) -> Callable[[Path], None]:
    return lambda path: torch.save(Payload(canary), path, _use_new_zipfile_serialization=False)


def _bare(canary: Path) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(pickle.dumps({"state_dict": Payload(canary)}))


WEIGHTS = {
    "bundle": "bundle/models/model.pt",
    "nnunet": "*__*__*/fold_0/checkpoint_final.pth",
    "checkpoint": "checkpoint/net.pth",
}


def _copied(sound: Path, root: Path, form: str) -> tuple[Path, Path]:
    """Copy a sound model; return what is imported, and where its weights lie."""
    [weights] = sound.glob(WEIGHTS[form])
    top = weights.relative_to(sound).parts[0]
    shutil.copytree(sound / top, root / top)
    weights = root / weights.relative_to(sound)
    return (weights if form == "checkpoint" else root / top), weights


@pytest.mark.parametrize("write", [_saved, _before_1_6, _bare])
@pytest.mark.parametrize("form", WEIGHTS)
def test_a_pickle_with_a_payload_is_not_run(tmp_path, canary, sound, form, write):
    path, weights = _copied(sound, tmp_path, form)
    write(canary)(weights)

    assert refused(path, tmp_path).code in ("model.pickle", "model.unreadable", "model.nnunet")

    if path.is_dir():
        archive = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", path.parent, path.name))
    else:
        archive = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", path.parent))
    assert refused(archive, tmp_path).code in ("model.pickle", "model.unreadable", "model.nnunet")


def test_a_pickle_in_the_place_of_torchscript_is_not_run(tmp_path, canary, sound):
    path, weights = _copied(sound, tmp_path, "bundle")
    weights.unlink()
    _saved(canary)(weights.with_suffix(".ts"))
    assert refused(path, tmp_path).code == "model.pickle"

    net = shutil.copytree(sound / "onnx", tmp_path / "onnx") / "net.onnx"
    net.unlink()
    _saved(canary)(net.with_suffix(".pt"))
    assert refused(net.with_suffix(".pt"), tmp_path).code == "model.pickle"


@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_checkpoint_that_is_cut_off_is_refused(tmp_path, sound, form, share):
    path, weights = _copied(sound, tmp_path, form)
    if form == "checkpoint":
        torch.save({"w": torch.zeros(10_000)}, weights)
    content = weights.read_bytes()
    weights.write_bytes(content[: int(share * len(content))])
    error = refused(path, tmp_path)
    assert error.code in ("model.unreadable", "model.nnunet")


@pytest.mark.parametrize("form", WEIGHTS)
def test_the_weights_of_another_network_are_refused(tmp_path, sound, form):
    path, weights = _copied(sound, tmp_path, form)
    content = {"model": torch.nn.Conv3d(1, 3000, 3).state_dict()}
    if form == "nnunet":
        written = torch.load(weights, weights_only=False)  # the test's own
        content = {**written, "network_weights": content["model"]}
    torch.save(content, weights)
    error = refused(path, tmp_path)
    assert error.code == "model.weights"
    assert "it lacks" in error.why


def test_a_checkpoint_that_unpacks_to_more_than_it_is_is_refused(tmp_path, sound):
    path, weights = _copied(sound, tmp_path, "bundle")
    with zipfile.ZipFile(weights, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", pickle.dumps({}))
        archive.writestr("model/data/0", bytes(50 << 20))
    assert refused(path, tmp_path).code == "model.unreadable"


# ---- configurations


def _expressions(canary: Path) -> dict[str, dict[str, Any]]:
    make = f"__import__('os').mkdir({str(canary)!r})"
    run = {"_target_": "os.mkdir", "path": str(canary)}
    lazy = {"_target_": "builtins.exec", "object": make}
    return {
        "an import that is needed": inference(inferer={**INFERER, "roi_size": f"${make}"}),
        "an expression of the network": inference(network={**UNET, "channels": f"$[{make}, 8]"}),
        "an expression behind references": {
            **inference(network={**UNET, "strides": "@first"}),
            "first": "@second",
            "second": f"${make}",
        },
        "a target of os": inference(network=run),
        "a target of os in MONAI's dress": inference(
            network={**run, "_target_": "monai.apps.utils.os.mkdir"}
        ),
        "a target of exec": inference(inferer=lazy),
        "a transform of os": inference(steps=[run]),
        "a transform of the outputs": inference(after=[lazy]),
        "an argument that is an object": inference(network={**UNET, "channels": run}),
        "whether it is disabled": inference(
            steps=[{"_target_": "Orientationd", "keys": "image", "_disabled_": f"${make}"}]
        ),
        "what is to be there first": inference(network={**run, "_requires_": f"${make}"}),
        "a lambda": inference(
            steps=[
                {
                    "_target_": "CropForegroundd",
                    "keys": "image",
                    "source_key": "image",
                    "select_fn": f"$lambda x: {make}",
                }
            ]
        ),
        "a macro": inference(network={**UNET, "channels": "%/etc/passwd"}),
        "a circle": {**inference(network="@one"), "one": "@two", "two": "@one"},
        "a circle of transforms": {
            **inference(),
            "preprocessing": {"_target_": "Compose", "transforms": ["@preprocessing"]},
        },
        "ten to the power of ten": {
            **inference(inferer={**INFERER, "roi_size": "@n9"}),
            "n0": [1] * 10,
            **{f"n{n}": [f"@n{n - 1}"] * 10 for n in range(1, 10)},
        },
        "a tree of transforms": {
            **inference(),
            "preprocessing": "@c8",
            "c0": {"_target_": "Compose", "transforms": [{"_target_": "Identityd"}] * 10},
            **{
                f"c{n}": {"_target_": "Compose", "transforms": [f"@c{n - 1}"] * 10}
                for n in range(1, 9)
            },
        },
        "a literal that is none": inference(
            inferer={**INFERER, "roi_size": "$" + "(" * 200 + ")" * 200}
        ),
        "a network of all memory": inference(network={**UNET, "channels": [1 << 15] * 3}),
        "channels of all memory": inference(network={**UNET, "in_channels": 1 << 40}),
    }


@pytest.mark.parametrize("name", _expressions(Path()))
def test_a_configuration_runs_nothing(tmp_path, canary, sound, name):
    path, _ = _copied(sound, tmp_path, "bundle")
    settings = _expressions(canary)[name]
    (path / "configs" / "inference.json").write_text(json.dumps(settings))

    error = refused(path, tmp_path)

    assert error.code in ("model.bundle", "model.weights", "model.options")


def test_what_is_not_needed_is_neither_run_nor_refused(tmp_path, canary, sound):
    path, _ = _copied(sound, tmp_path, "bundle")
    make = f"$__import__('os').mkdir({str(canary)!r})"
    settings = {**inference(), "imports": ["$import os", make], "run": [make], "device": make}
    settings["handlers"] = [{"_target_": "os.mkdir", "path": str(canary)}]
    (path / "configs" / "inference.json").write_text(json.dumps(settings))
    (path / "scripts").mkdir()
    (path / "scripts" / "__init__.py").write_text(make.removeprefix("$"))

    assert medptq.import_model(path).classes == 3
    assert not canary.exists()


def test_metadata_become_no_paths(tmp_path, sound):
    path, _ = _copied(sound, tmp_path, "bundle")
    about = {**metadata(), "name": "../../../evil/\0name", "version": {"a": 1}}
    (path / "configs" / "metadata.json").write_text(json.dumps(about))

    assert medptq.import_model(path).id == "evil-name"


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": NaN}', "\0", "x" * (5 << 20)])
@pytest.mark.parametrize("name", ["metadata", "inference"])
def test_configurations_that_are_no_json_are_refused(tmp_path, sound, name, content):
    path, _ = _copied(sound, tmp_path, "bundle")
    (path / "configs" / f"{name}.json").write_text(content)
    assert refused(path, tmp_path).code == "model.bundle"


def test_an_nnunet_folder_whose_plans_name_code_is_refused(tmp_path, canary, sound):
    path, _ = _copied(sound, tmp_path, "nnunet")
    plans = json.loads((path / "plans.json").read_text())
    [configuration] = plans["configurations"].values()
    architecture = configuration["architecture"]
    architecture["network_class_name"] = "os.mkdir"
    architecture["arch_kwargs"] = {"path": str(canary)}
    (path / "plans.json").write_text(json.dumps(plans))
    assert "os.mkdir" in refused(path, tmp_path).why


# ---- archives


def _zip(path: Path, names: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return path


def _link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


ESCAPING = [
    *("../evil", "b/../../evil", "/evil", "//evil", "..\\evil", "C:evil", "C:/evil", "c:\\evil"),
    *("b/configs/../../../evil", "b/\x01", "b/" + "x" * 250, "b/" + "d/" * 30 + "x", "b/a:stream"),
]


@pytest.mark.parametrize("name", ESCAPING)
@pytest.mark.parametrize("form", ["bundle", "nnunet"])
def test_an_archive_whose_names_lead_out_of_it_is_refused(tmp_path, sound, form, name):
    path, _ = _copied(sound, tmp_path, form)
    archive = Path(shutil.make_archive(str(tmp_path / "m"), "zip", path.parent, path.name))
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(name, b"evil")
    assert refused(archive, tmp_path).code == "model.archive"


def test_an_archive_with_links_is_refused(tmp_path, sound):
    path, _ = _copied(sound, tmp_path, "bundle")
    archive = Path(shutil.make_archive(str(tmp_path / "m"), "zip", path.parent, path.name))
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(_link("bundle/models/more"), str(tmp_path))
        opened.writestr("bundle/models/more/evil", b"evil")
    assert "not a plain file" in refused(archive, tmp_path).why


def test_files_that_would_take_each_other_s_place_are_refused(tmp_path):
    for number, name in enumerate(("b/Configs/metadata.json", "b/configs", "b/a")):
        names = {"b/configs/metadata.json": b"{}", "b/a/b": b"", name: b""}
        error = refused(_zip(tmp_path / f"{number}.zip", names), tmp_path)
        assert (error.code, "twice" in error.why) == ("model.archive", True)


def _claiming(path: Path, size: int) -> Path:
    """Write an archive whose directory claims that one member has this size."""
    _zip(path, {"b/configs/metadata.json": b"{}", "b/models/model.pt": bytes(1000)})
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


def test_archives_that_would_fill_the_disk_are_refused_unopened(tmp_path):
    for size in ((1 << 32) - 2, 100 << 20):
        error = refused(_claiming(tmp_path / "a.zip", size), tmp_path)
        assert (error.code, "would take" in error.why) == ("model.archive", True)
    path = _zip(tmp_path / "b.zip", {"b/configs/metadata.json": b"{}"})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/models/model.pt", bytes(100 << 20))
    assert "would take 105 MB" in refused(path, tmp_path).why


def test_a_header_of_ten_gigabytes_is_refused(tmp_path):
    path = _zip(tmp_path / "a.zip", {"b/configs/metadata.json": b"{}", "b/x": b"y" * 100})
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    name, extra = struct.unpack("<HH", content[at + 28 : at + 32])
    assert extra == 0
    zip64 = struct.pack("<HHQ", 1, 8, 10 << 30)  # the size, in the 64-bit extra field
    content[at + 24 : at + 28] = b"\xff" * 4
    content[at + 30 : at + 32] = struct.pack("<H", len(zip64))
    content[at + 46 + name : at + 46 + name] = zip64
    end = content.rindex(b"PK\x05\x06")
    [directory] = struct.unpack("<I", content[end + 12 : end + 16])
    content[end + 12 : end + 16] = struct.pack("<I", directory + len(zip64))
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("b/x").file_size == 10 << 30

    error = refused(path, tmp_path)

    assert (error.code, "would take 10737 MB" in error.why) == ("model.archive", True)


def test_an_archive_of_very_many_files_is_refused(tmp_path):
    names = {f"b/{number}": b"" for number in range(10_001)}
    assert (
        "it holds 10002 files"
        in refused(
            _zip(tmp_path / "a.zip", {**names, "b/configs/metadata.json": b"{}"}), tmp_path
        ).why
    )


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.98])
def test_an_archive_that_is_cut_off_is_refused(tmp_path, sound, keep):
    path, _ = _copied(sound, tmp_path, "bundle")
    archive = Path(shutil.make_archive(str(tmp_path / "m"), "zip", path.parent, path.name))
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content))])
    assert refused(archive, tmp_path).code == "model.archive"


def test_an_archive_whose_content_is_damaged_is_refused(tmp_path, sound):
    path, _ = _copied(sound, tmp_path, "bundle")
    archive = Path(shutil.make_archive(str(tmp_path / "m"), "zip", path.parent, path.name))
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(content)
    assert refused(archive, tmp_path).code == "model.archive"


# ---- graphs


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "a/../../weights.bin"])
def test_a_graph_that_reads_other_files_is_refused(tmp_path, sound, location):
    (tmp_path / "weights.bin").write_bytes(bytes(100_000))
    net = shutil.copytree(sound / "onnx", tmp_path / "onnx") / "net.onnx"
    graph = onnx.load(net)
    for tensor in graph.graph.initializer:
        length = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
    net.write_bytes(graph.SerializeToString())
    assert refused(net, tmp_path).code == "model.external-data"
