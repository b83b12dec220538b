"""Patches of the scans at hand, for TensorRT to hold what it builds against its graph on."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
import torch

from medptq.engines import selection, tensorrt
from medptq.engines.protocol import BuildRequest
from medptq.engines.selection import engine_to_measure_int8, held_to
from medptq.engines.tensorrt import TensorRTEngine
from medptq.engines.tensorrt_checked_build import CheckedBuild
from medptq.engines.tensorrt_plan import Plan
from medptq.inference.build_samples import samples_of
from medptq.models.loading import load_model
from medptq.progress import Reporter
from medptq.scans.finding import find_scans
from tensorrt_networks import chain
from tiny_network import write_network, write_scan


@pytest.fixture
def model(tmp_path):
    return load_model(write_network(tmp_path / "net"))


SILENT = Reporter(on_progress=lambda _: pytest.fail("told"), on_warning=pytest.fail)


def test_they_are_of_the_scans_as_the_network_takes_them(tmp_path, model):
    write_scan(tmp_path / "scans" / "a.nrrd")
    samples = samples_of(model, find_scans(tmp_path / "scans", Reporter()), SILENT)
    patches, again = list(samples()), list(samples())
    assert [patch.shape for patch in patches] == 2 * [(1, model.channels, *model.patch_size)]
    assert all(patch.dtype == np.float32 for patch in patches)
    assert all(np.array_equal(*pair) for pair in zip(patches, again, strict=True))
    assert not np.array_equal(*patches)


def test_there_are_none_where_no_scan_can_be_used(tmp_path, model):
    write_scan(tmp_path / "scans" / "a.nrrd")
    sources = find_scans(tmp_path / "scans", Reporter())
    (tmp_path / "scans" / "a.nrrd").write_bytes(b"NRRD0004\n")
    assert list(samples_of(model, sources, SILENT)()) == []


@pytest.fixture
def gpu(monkeypatch):
    """Stands for the GPU and TensorRT: keeps what each build is to be held to."""
    held: list[list[torch.Tensor]] = []

    def build(graph, precision, form, reporter, samples=(), level=None):
        held.append(list(samples))
        return CheckedBuild(b"engine", 1.0, 0.0, {}, int8_layers=1)

    monkeypatch.setattr(tensorrt, "_native_precisions", lambda: ("int8", "fp16", "fp32"))
    monkeypatch.setattr(tensorrt, "import_tensorrt", object)
    monkeypatch.setattr(tensorrt, "is_strongly_typed", lambda _: True)
    monkeypatch.setattr(tensorrt, "build_checked", build)
    monkeypatch.setattr(tensorrt, "build_and_measure", build)
    monkeypatch.setattr(selection, "get_engine", lambda _: TensorRTEngine())
    return held


def build(engine: TensorRTEngine, model, folder) -> Plan:
    request = BuildRequest(model.onnx, "fp16", (1, model.channels, *model.patch_size))
    engine.build(request, folder / "built", Reporter())
    return Plan.from_bytes((folder / "built").read_bytes())


def test_tensorrt_holds_each_build_to_two_of_them(tmp_path, model, gpu):
    asked = itertools.count()
    shape = (1, model.channels, *model.patch_size)

    def samples():
        next(asked)
        return (np.full(shape, number, np.float32) for number in range(9))

    engines = held_to(samples, {"tensorrt": TensorRTEngine()})
    assert next(asked) == 0  # not before something is built
    build(engines["tensorrt"], model, tmp_path)
    assert next(asked) == 2
    [held] = gpu
    assert [float(sample.mean()) for sample in held] == [0, 1]


def test_without_scans_it_builds_all_the_same(tmp_path, model, gpu):
    build(TensorRTEngine(), model, tmp_path)
    assert gpu == [[]]


def test_int8_that_is_only_measured_is_held_to_them_too(tmp_path, gpu):
    onnx.save(chain(), tmp_path / "chain.onnx")
    sample = np.ones((1, 16, 4, 4, 4), np.float32)
    engine = engine_to_measure_int8("tensorrt", lambda: [sample])
    engine.build(
        BuildRequest(tmp_path / "chain.onnx", "int8", sample.shape),
        *(tmp_path / "built", Reporter()),
    )
    [[held]] = gpu
    assert torch.equal(held, torch.from_numpy(sample))


def test_other_engines_stay_as_they_are():
    engines = selection.engines()
    held = held_to(tuple, engines)
    assert {name for name in engines if held[name] is not engines[name]} == {"tensorrt"}
