"""How many windows run at once, and what happens where so many do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import medptq
from medptq.engines.memory import memory_as_error
from medptq.engines.protocol import Availability, BuildRequest, Session
from medptq.engines.pytorch import PyTorchEngine
from medptq.errors import EngineError
from medptq.inference import batching
from medptq.inference.batching import windows_at_once
from medptq.inference.choosing import Candidate, choose
from medptq.models.loading import load_model
from medptq.progress import Reporter
from tiny_network import write_network, write_scan

FREE = "medptq.inference.batching.free_gpu_memory"
MUCH = 80 * 10**9


class Gpu(PyTorchEngine):
    """A GPU, as far as its availability says: it opens sessions of several windows, or not."""

    name = "gpu"

    def __init__(self, fails: EngineError | None = None, most: int = 4) -> None:
        self.fails = fails
        self.most = most
        self.opened: list[int] = []

    def availability(self) -> Availability:
        return Availability(True, "1", "A GPU", ("fp32",), on_gpu=True)

    def open(self, request: BuildRequest, built: Path) -> Session:
        windows = request.input_shape[0]
        self.opened.append(windows)
        if windows > self.most and self.fails is not None:
            raise self.fails
        if windows > self.most:
            with memory_as_error("Loading the network"):
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().open(request, built)


@pytest.fixture(autouse=True)
def _undecided():
    batching._decide_once.cache_clear()
    yield
    batching._decide_once.cache_clear()


@pytest.fixture
def network(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    return load_model(write_network(tmp_path))


@pytest.mark.parametrize(
    ("edge", "classes", "free", "windows"),
    [
        (96, 14, MUCH, 1),  # one is enough to do
        (80, 14, MUCH, 2),
        (64, 14, MUCH, 4),
        (64, 14, 8 * 10**9, 4),
        (64, 105, 8 * 10**9, 2),  # the outputs of four are too much
        (64, 105, 4 * 10**9, 1),
        (32, 14, 0, 1),
    ],
)
def test_as_many_as_keep_the_gpu_busy_and_fit(network, monkeypatch, edge, classes, free, windows):
    label = network.labels[0]
    model = replace(
        network,
        patch_size=(edge,) * 3,
        labels=tuple(replace(label, value=n) for n in range(1, classes)),
    )
    assert model.classes == classes
    monkeypatch.setattr(FREE, lambda: free)
    assert windows_at_once(model, Gpu()) == windows
    assert windows_at_once(model, PyTorchEngine()) == 1 or torch.cuda.is_available()


def segmented(monkeypatch, engine, network, folder):
    """Segment a scan with this engine; return the label map and the warnings."""
    monkeypatch.setattr("medptq.api.get_engine", {"gpu": engine}.__getitem__)
    monkeypatch.setattr("medptq.api.choose", lambda *_: Candidate("gpu", "fp32", 1.0))
    monkeypatch.setattr(FREE, lambda: MUCH)
    scan = write_scan(folder / "scan.nrrd")
    warnings: list[str] = []
    output = folder / "labels.nrrd"
    reporter = Reporter(on_warning=warnings.append)
    medptq.segment(network, scan, output, engine="gpu", overwrite=True, reporter=reporter)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(output))), warnings


def test_several_windows_give_the_same_labels(tmp_path, monkeypatch, network):
    engine = Gpu()
    several, warnings = segmented(monkeypatch, engine, network, tmp_path)
    assert engine.opened == [4]
    assert not warnings
    monkeypatch.setattr(FREE, lambda: 0)
    medptq.segment(network, tmp_path / "scan.nrrd", tmp_path / "same.nrrd", engine="gpu")
    assert engine.opened == [4, 4]  # whatever is held by then
    batching._decide_once.cache_clear()
    medptq.segment(network, tmp_path / "scan.nrrd", tmp_path / "one.nrrd", engine="gpu")
    assert engine.opened == [4, 4, 1]
    one = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "one.nrrd")))
    assert np.mean(several == one) > 0.9999


def test_where_several_do_not_fit_they_run_one_by_one(tmp_path, monkeypatch, network):
    engine = Gpu(most=1)
    labels, warnings = segmented(monkeypatch, engine, network, tmp_path)
    assert engine.opened == [4, 1]
    assert len(warnings) == 1
    assert "one by one" in warnings[0]
    assert labels.any()


def test_a_network_that_only_takes_one_window_runs_without_a_word(tmp_path, monkeypatch, network):
    engine = Gpu(EngineError("build", "It was not built", why="of its shape", todo="-"), most=1)
    labels, warnings = segmented(monkeypatch, engine, network, tmp_path)
    assert engine.opened == [4, 1]
    assert not warnings
    assert labels.any()


def test_other_failures_of_one_window_are_told(tmp_path, monkeypatch, network):
    engine = Gpu(EngineError("build", "It was not built", why="of its shape", todo="-"), most=0)
    with pytest.raises(EngineError, match="of its shape"):
        segmented(monkeypatch, engine, network, tmp_path)


def test_a_way_is_timed_as_it_will_run(monkeypatch, network):
    monkeypatch.setattr(FREE, lambda: MUCH)
    fits, small = Gpu(), Gpu(most=1)
    small.name = "small"
    found = choose(network, {"gpu": fits, "small": small}, None, Reporter())
    assert fits.opened == [4]
    assert small.opened == [4, 1]
    assert found.milliseconds > 0
