"""The networks that come with the program: what lies beside them, and that nothing is fetched."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import SimpleITK as sitk
import torch

import medptq
from medptq.errors import ModelError
from medptq.evaluate.metrics import dice
from medptq.models.catalogue import INCLUDED, entries, entry
from medptq.models.download import fetch
from medptq.progress import Reporter
from tiny_library import own_library

IDS = [found.id for found in entries() if found.is_included]
SHAPES = {"brain-regions-t1": (88, 94, 90), "hippocampus-t1": (44, 50, 40)}  # a patch each


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a network, on which the program was never used before."""
    own_library(tmp_path, monkeypatch)

    def refuse(*_: object) -> None:
        raise OSError("there is no network")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


def test_there_are_two() -> None:
    assert IDS == ["brain-regions-t1", "hippocampus-t1"]
    assert {path.name.partition(".")[0] for path in INCLUDED.iterdir()} == set(IDS)


@pytest.mark.parametrize("name", IDS)
def test_what_must_go_with_it_lies_beside_it(name: str) -> None:
    found = entry(name)
    weights = fetch(found.download, Reporter())
    assert weights.parent == INCLUDED
    assert weights.stat().st_size < 8e6
    assert found.download.size_mb == pytest.approx(weights.stat().st_size / 1e6, abs=0.05)
    state = torch.load(weights, weights_only=True)  # tensors, and nothing that could run
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())

    record = json.loads((INCLUDED / f"{name}.training.json").read_text("utf-8"))
    classes = [label["name"] for label in found.card["labels"]]
    assert list(record["dice"]["test"]["classes"]) == classes
    for told in (record["date"], record["command"], f"{record['dice']['test']['mean']:.3f}"):
        assert told in found.provenance.source
    terms = (INCLUDED / f"{name}.LICENSE.txt").read_text("utf-8")
    assert f"{name}.pth" in terms
    licence = found.provenance.licence.partition(" and ")[0]
    assert f"offered under {licence}" in terms


def test_the_terms_of_the_labels_go_with_the_weights_that_were_trained_on_them() -> None:
    text = (INCLUDED / "brain-regions-t1.LICENSE.txt").read_text("utf-8")
    words = " ".join(text.split())
    terms = words.partition("and are subject to the following terms and conditions: PART B.")[2]
    assert "in connection with any copy of or sublicense of all or any portion" in terms
    assert "CLINICAL APPLICATIONS ARE NEITHER RECOMMENDED NOR ADVISED" in terms
    assert "except those rights expressly granted hereunder." in terms  # its last sentence
    assert "It is not the network DLMUSE" in words  # it has to be marked as another


@pytest.mark.parametrize("name", IDS)
def test_it_is_listed_as_here_and_is_not_removed(name: str) -> None:
    [state] = [state for state in medptq.list_models() if state.id == name]
    assert (state.origin, state.downloaded, state.untested) == ("included", True, "")
    medptq.load_model("hippocampus-t1")
    assert medptq.remove_model("hippocampus-t1") > 1e6  # the graph that was made of it
    assert fetch(entry(name).download, Reporter()).is_file()


@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_a_damaged_one_is_refused_and_left(tmp_path: Path, harm: str) -> None:
    download = entry("hippocampus-t1").download
    path = tmp_path / download.file
    content = bytearray((INCLUDED / download.file).read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "changed":
        path.write_bytes(content)
    with pytest.raises(ModelError, match="Install the program again") as caught:
        fetch(replace(download, origin=path), Reporter())
    assert caught.value.code == "model.checksum"
    assert path.is_file() == (harm == "changed")


@pytest.mark.parametrize("name", IDS)
def test_it_is_used_without_a_network_and_its_twin_agrees(tmp_path: Path, name: str) -> None:
    model = medptq.load_model(name)
    [output] = onnx.load(model.onnx).graph.output
    assert output.type.tensor_type.shape.dim[1].dim_value == len(model.labels) + 1
    scans = tmp_path / "scans"
    scans.mkdir()
    for seed in range(2):
        _write_phantom(scans / f"{seed}.nii.gz", SHAPES[name], seed)
    scan = tmp_path / "scan.nii.gz"
    _write_phantom(scan, SHAPES[name], 7)
    twin = medptq.quantize(name, scans, recipe=medptq.Recipe(patches=2))
    [fp32] = medptq.segment(model, scan, engine="pytorch", precision="fp32")
    [int8] = medptq.segment(twin, scan, engine="pytorch", precision="int8")
    found, wanted = int8.segmentation.labels, fp32.segmentation.labels
    assert (wanted > 0).mean() > 0.01  # it finds something in it
    assert (found == wanted).mean() > 0.98
    scores = [score for score in dice(wanted, found, [1, 2]).values() if score is not None]
    assert scores
    assert min(scores) > 0.9


def _write_phantom(path: Path, shape: tuple[int, int, int], seed: int) -> None:
    """Write what looks like a T1 of a head, or of a piece of one: shells around a bright core."""
    random = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, n) for n in shape]
    k, j, i = np.meshgrid(*axes, indexing="ij", sparse=True)
    wave = 0.05 * np.sin(9 * k + seed) * np.sin(8 * j) * np.cos(9 * i)
    radius = np.sqrt(k**2 + j**2 + i**2) + wave
    shells = [(0.95, 300), (0.87, 60), (0.83, 130), (0.62, 220), (0.24, 130), (0.12, 40)]
    image = np.full(shape, 5.0)
    for outer, brightness in shells:
        image[radius < outer] = brightness
    image = sitk.GetImageFromArray((image + random.normal(0, 6, shape)).astype(np.float32))
    image = sitk.SmoothingRecursiveGaussian(image, 0.7)
    spacing = 1.0 if max(shape) < 64 else 2.0
    image.SetSpacing((spacing,) * 3)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # RAS
    sitk.WriteImage(image, str(path))
