"""What a benchmark knows a network by, and how many channels it reads of scans for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
import SimpleITK as sitk
import torch

from labeled_scans import describe, write_channels, write_data_set
from medptq.artifacts import sha256_of
from medptq.benchmarking.benchmark import benchmark
from medptq.benchmarking.data_set import read_data_set
from medptq.benchmarking.subject import digest, load_subject, plan_of
from medptq.models.card import card_of
from medptq.progress import Reporter
from quantization_helpers import export
from tiny_network import write_network


@pytest.fixture
def network_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(tmp_path / "library"))
    return write_network(tmp_path / "networks")


def test_a_network_with_its_weights_in_another_file_is_known_by_them(network_file, tmp_path):
    inside = network_file
    path, weights = tmp_path / "net.onnx", tmp_path / "weights.bin"
    shutil.copy(inside.with_suffix(".json"), path.with_suffix(".json"))
    graph = onnx.load(inside)
    onnx.save(graph, path, save_as_external_data=True, location=weights.name, size_threshold=0)
    before = load_subject(str(path), Reporter()).digest
    assert load_subject(str(path), Reporter()).digest == before
    content = bytearray(weights.read_bytes())
    content[0] ^= 1
    weights.write_bytes(content)
    assert load_subject(str(path), Reporter()).digest != before


def test_a_network_of_one_file_is_known_by_its_bytes(network_file):
    path = network_file
    subject = load_subject(str(path), Reporter())
    files = [sha256_of(path), sha256_of(path.with_suffix(".json"))]
    assert subject.digest == digest([card_of(subject.model), files]), "as in cells that are there"


def test_labels_that_changed_in_a_file_of_their_own_are_other_labels(tmp_path):
    write_data_set(tmp_path)
    for path in (tmp_path / "labels").iterdir():
        labels = sitk.ReadImage(str(path))
        sitk.WriteImage(labels, str(tmp_path / "labels" / path.name.replace(".nii.gz", ".mhd")))
    data = read_data_set(describe(tmp_path, label="labels/{}.mhd"))
    before = plan_of(data, None, 1, 0).to_json()
    assert plan_of(data, None, 1, 0).to_json() == before
    raw = tmp_path / "labels" / "scan4.raw"
    content = bytearray(raw.read_bytes())
    content[0] ^= 1
    raw.write_bytes(content)
    assert plan_of(data, None, 1, 0).to_json() != before


def test_a_network_of_two_channels_is_tested_on_scans_of_two(network_file, tmp_path):
    data = write_data_set(tmp_path / "data")
    for scan in (tmp_path / "data" / "images").iterdir():
        write_channels(scan)
    network = tmp_path / "two.onnx"
    export(torch.nn.Conv3d(2, 3, 3, padding=1), (1, 2, 16, 16, 16), network)
    card = json.loads(network_file.with_suffix(".json").read_text("utf-8"))
    card["input"]["channels"] = 2
    network.with_suffix(".json").write_text(json.dumps(card))
    recipes = ["fp32", "w4a4-tensor"]
    done = benchmark([network], data, tmp_path / "out", recipes=recipes, limit=1, patches=2)
    assert (done.measured, done.failures) == (2, ())
