"""Checkpoints whose card names their network."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import medptq
from medptq.errors import ModelError
from medptq.graph.executor import GraphExecutor
from medptq.graph.loading import load_graph
from medptq.models.architectures.building import build_network
from medptq.models.card import EXAMPLE
from medptq.models.checkpoint import is_checkpoint, read_checkpoint
from medptq.models.importing import import_model
from medptq.models.loading import load_model
from medptq.progress import Reporter

SMALL = {"base_features": 2}
LABELS = [
    {"value": 1, "name": "Spleen", "color": [9, 9, 9]},
    {"value": 2, "name": "Liver", "color": [8, 8, 8]},
]


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache and an empty library; the cache's networks."""
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(tmp_path / "library"))
    return tmp_path / "cache" / "medptq-networks"


def write_card(path: Path, architecture: str = "unet", **changes: Any) -> None:
    content = {
        **EXAMPLE,
        "id": "organs",
        "input": {"patch_size": [16, 16, 32]},
        "preprocessing": [{"step": "zscore"}],
        "labels": LABELS,
        "network": {"architecture": architecture, "options": SMALL},
    }
    path.write_text(json.dumps(content | changes), encoding="utf-8")


def save(path: Path, content: Any = None) -> Path:
    """A checkpoint of the small U-Net with three classes, its card beside it."""
    if content is None:
        torch.manual_seed(0)
        content = build_network("unet", classes=3, **SMALL).state_dict()
    torch.save(content, path)
    write_card(path.with_suffix(".json"))
    return path


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".pt", ".PTH"])
def test_it_computes_what_the_network_does(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"organs{suffix}")
    model = load_model(path)

    assert (model.id, model.classes, model.patch_size) == ("organs", 3, (16, 16, 32))
    torch.manual_seed(0)
    network, x = build_network("unet", classes=3, **SMALL), torch.randn(1, 1, 16, 16, 32)
    with torch.inference_mode():
        expected, found = network(x), GraphExecutor(load_graph(model.onnx)).run(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_trainings_checkpoint_is_one_too(tmp_path: Path) -> None:
    state = build_network("unet", classes=3, **SMALL).state_dict()
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": t for name, t in state.items()}}
    assert load_model(save(tmp_path / "organs.ckpt", wrapped)).classes == 3


def test_it_goes_the_whole_way(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "organs.pth"))
    scans = tmp_path / "scans"
    scans.mkdir()
    voxels = np.random.default_rng(0).normal(0, 1, (20, 24, 28)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(scans / "scan.nii"))
    recipe = medptq.Recipe(observer="max", patches=1)
    quantized = medptq.quantize(model, scans, tmp_path / "int8", recipe=recipe)
    medptq.segment(quantized, scans / "scan.nii", tmp_path / "out.nii.gz", engine="pytorch")
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.nii.gz")))
    assert labels.shape == (20, 24, 28)
    assert set(np.unique(labels)) <= {0, 1, 2}


def test_the_second_time_nothing_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: Path
) -> None:
    path = save(tmp_path / "organs.pth")
    first = load_model(path)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr("medptq.models.architectures.weighted.build_with_weights", never)
        assert load_model(path) == first
    # Another network of the same weights' file is not the one in the cache.
    write_card(path.with_suffix(".json"), network={"architecture": "unet"})
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert caught.value.code == "model.weights"
    assert len(list(folders.iterdir())) == 1


@pytest.mark.parametrize("zipped", [False, True], ids=["file", "zip"])
def test_it_is_imported(tmp_path: Path, zipped: bool) -> None:
    path = save(tmp_path / "organs.pth")
    if zipped:
        with zipfile.ZipFile(tmp_path / "organs.zip", "w") as archive:
            archive.write(path, "mine/organs.pth")
            archive.write(path.with_suffix(".json"), "mine/organs.json")
        path = tmp_path / "organs.zip"
    model = import_model(path)

    stored = json.loads((model.onnx.with_name("card.json")).read_text(encoding="utf-8"))
    assert "network" not in stored  # what lies there is ONNX
    assert load_model("organs") == model


def test_a_label_maps_classes_are_the_networks(tmp_path: Path) -> None:
    path = tmp_path / "organs.pth"
    torch.save(build_network("unet", classes=14, **SMALL).state_dict(), path)
    write_card(path.with_suffix(".json"), labels="btcv")
    assert load_model(path).labels[5].name == "Liver"


def options_read(tmp_path: Path, architecture: str, size: list[int], **options: Any) -> Any:
    """What its network is built with for this card."""
    path = tmp_path / "organs.pth"
    path.write_bytes(b"weights")
    network = {"architecture": architecture, "options": options}
    write_card(
        path.with_suffix(".json"),
        input={"patch_size": size, "channels": 2},
        network=network,
    )
    with pytest.MonkeyPatch.context() as patched:
        given: dict[str, Any] = {}
        patched.setattr(
            "medptq.models.architectures.weighted.build_with_weights",
            lambda _, found, __: given.update(found),
        )
        read_checkpoint(path, Reporter()).build()
        return given


def test_channels_classes_and_size_are_the_cards(tmp_path: Path) -> None:
    read: Callable[..., Any] = options_read
    assert read(tmp_path, "unet", [32, 32, 48]) == {"channels": 2, "classes": 3}
    assert read(tmp_path, "unet", [32, 32, 48], classes=5)["classes"] == 5
    assert read(tmp_path, "unetr", [32, 32, 48])["img_size"] == [32, 32, 48]
    assert read(tmp_path, "unest", [64, 64, 64])["image_size"] == 64
    assert "classes" not in read(tmp_path, "vista3d", [32, 32, 32], class_indices=[1, 3])


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"network": None}, "model.card", '"network"'),
        ({"network": {"architecture": "unett"}}, "model.architecture", "unet is close to it"),
        (
            {"network": {"architecture": "unet", "options": {"base_feature": 2}}},
            "model.options",
            "base_features is close to it",
        ),
        ({"network": {"architecture": "unet", "file": "x"}}, "model.card", 'unknown field "file"'),
        ({"network": {}}, "model.card", 'lacks the field "architecture"'),
        (
            {"input": {"patch_size": [96, 90, 96]}, "network": {"architecture": "unet"}},
            "model.card",
            "96x90x96, and unet takes multiples of 16x16x16 from 16x16x16 on, such as 96x80x96 or"
            " 96x96x96",
        ),
        (
            {"input": {"patch_size": [32, 32, 32]}, "network": {"architecture": "swinunetr-b"}},
            "model.card",
            "such as 64x32x32",
        ),
        (
            {
                "input": {"patch_size": [96, 96, 96]},
                "network": {"architecture": "unetr", "options": {"img_size": [64, 96, 96]}},
            },
            "model.card",
            '"img_size" of its network is [64, 96, 96]',
        ),
    ],
)
def test_what_the_card_may_not_say(
    tmp_path: Path, changes: dict[str, Any], code: str, words: str
) -> None:
    path = save(tmp_path / "organs.pth")
    write_card(path.with_suffix(".json"), **changes)
    if changes.get("network", 1) is None:
        content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        content.pop("network")
        path.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_a_giant_is_refused_before_it_takes_memory(tmp_path: Path, folders: Path) -> None:
    path = save(tmp_path / "organs.pth")
    giant = {"architecture": "unet", "options": {"base_features": 400_000}}  # petabytes
    write_card(path.with_suffix(".json"), network=giant)
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert caught.value.code == "model.weights"
    assert "The weights organs.pth do not fit the network" in str(caught.value)
    assert not list(folders.iterdir())


def test_a_card_must_lie_beside_it(tmp_path: Path) -> None:
    path = save(tmp_path / "organs.pth")
    path.with_suffix(".json").unlink()
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert caught.value.code == "model.card-missing"


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_nothing_in_it_is_executed(tmp_path: Path, folders: Path) -> None:
    path = save(tmp_path / "organs.pth")
    path.write_bytes(pickle.dumps(Payload(tmp_path / "executed")))
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert caught.value.code in ("model.pickle", "model.unreadable")
    assert not (tmp_path / "executed").exists()
    assert not folders.exists() or not list(folders.iterdir())


def test_other_files_are_not_taken_for_checkpoints(tmp_path: Path) -> None:
    for name in ("a.onnx", "a.ts", "a.pt"):
        (tmp_path / name).write_bytes(b"x")
    assert not is_checkpoint(tmp_path / "a.pt")  # it has no card
    (tmp_path / "a.json").write_text(json.dumps(dict(EXAMPLE)), encoding="utf-8")
    assert not any(is_checkpoint(tmp_path / name) for name in ("a.onnx", "a.ts", "a.pt", "b.pth"))
    (tmp_path / "a.json").write_text("{", encoding="utf-8")
    assert not is_checkpoint(tmp_path / "a.pt")  # loading it as TorchScript names the card
    assert not is_checkpoint(tmp_path)
