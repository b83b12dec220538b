"""Files that want to run code, or to read what is not theirs.

Each is refused with its code and reason. A payload would make the canary; and nothing may change
outside the cache, not even for a moment's files that were forgotten.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

import medptq
from hostile_models import WEIGHTS, copied, kept_apart, refused, write_sound_models
from monai_bundles import INFERER, UNET, inference, metadata

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def canary(tmp_path, monkeypatch):
    return kept_apart(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_sound_models(tmp_path_factory.mktemp("sound"))


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


@pytest.mark.parametrize("write", [_saved, _before_1_6, _bare])
@pytest.mark.parametrize("form", WEIGHTS)
def test_a_pickle_with_a_payload_is_not_run(tmp_path, canary, sound, form, write):
    path, weights = copied(sound, tmp_path, form)
    write(canary)(weights)

    assert refused(path, tmp_path).code in ("model.pickle", "model.unreadable", "model.nnunet")

    if path.is_dir():
        archive = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", path.parent, path.name))
    else:
        archive = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", path.parent))
    assert refused(archive, tmp_path).code in ("model.pickle", "model.unreadable", "model.nnunet")


def test_a_pickle_in_the_place_of_torchscript_is_not_run(tmp_path, canary, sound):
    path, weights = copied(sound, tmp_path, "bundle")
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
    path, weights = copied(sound, tmp_path, form)
    if form == "checkpoint":
        torch.save({"w": torch.zeros(10_000)}, weights)
    content = weights.read_bytes()
    weights.write_bytes(content[: int(share * len(content))])
    error = refused(path, tmp_path)
    assert error.code in ("model.unreadable", "model.nnunet")


@pytest.mark.parametrize("form", WEIGHTS)
def test_the_weights_of_another_network_are_refused(tmp_path, sound, form):
    path, weights = copied(sound, tmp_path, form)
    content = {"model": torch.nn.Conv3d(1, 3000, 3).state_dict()}
    if form == "nnunet":
        written = torch.load(weights, weights_only=False)  # the test's own
        content = {**written, "network_weights": content["model"]}
    torch.save(content, weights)
    error = refused(path, tmp_path)
    assert error.code == "model.weights"
    assert "it lacks" in error.why


def test_a_checkpoint_that_unpacks_to_more_than_it_is_is_refused(tmp_path, sound):
    path, weights = copied(sound, tmp_path, "bundle")
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
    path, _ = copied(sound, tmp_path, "bundle")
    settings = _expressions(canary)[name]
    (path / "configs" / "inference.json").write_text(json.dumps(settings))

    error = refused(path, tmp_path)

    assert error.code in ("model.bundle", "model.weights", "model.options")


def test_what_is_not_needed_is_neither_run_nor_refused(tmp_path, canary, sound):
    path, _ = copied(sound, tmp_path, "bundle")
    make = f"$__import__('os').mkdir({str(canary)!r})"
    settings = {**inference(), "imports": ["$import os", make], "run": [make], "device": make}
    settings["handlers"] = [{"_target_": "os.mkdir", "path": str(canary)}]
    (path / "configs" / "inference.json").write_text(json.dumps(settings))
    (path / "scripts").mkdir()
    (path / "scripts" / "__init__.py").write_text(make.removeprefix("$"))

    assert medptq.import_model(path).classes == 3
    assert not canary.exists()


def test_metadata_become_no_paths(tmp_path, sound):
    path, _ = copied(sound, tmp_path, "bundle")
    about = {**metadata(), "name": "../../../evil/\0name", "version": {"a": 1}}
    (path / "configs" / "metadata.json").write_text(json.dumps(about))

    assert medptq.import_model(path).id == "evil-name"


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": NaN}', "\0", "x" * (5 << 20)])
@pytest.mark.parametrize("name", ["metadata", "inference"])
def test_configurations_that_are_no_json_are_refused(tmp_path, sound, name, content):
    path, _ = copied(sound, tmp_path, "bundle")
    (path / "configs" / f"{name}.json").write_text(content)
    assert refused(path, tmp_path).code == "model.bundle"


def test_an_nnunet_folder_whose_plans_name_code_is_refused(tmp_path, canary, sound):
    path, _ = copied(sound, tmp_path, "nnunet")
    plans = json.loads((path / "plans.json").read_text())
    [configuration] = plans["configurations"].values()
    architecture = configuration["architecture"]
    architecture["network_class_name"] = "os.mkdir"
    architecture["arch_kwargs"] = {"path": str(canary)}
    (path / "plans.json").write_text(json.dumps(plans))
    assert "os.mkdir" in refused(path, tmp_path).why


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
