"""The choice of engine and precision: the fastest that agrees, found without waste."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from medptq.engines.protocol import BuildRequest, Precision, Session
from medptq.engines.pytorch import PyTorchEngine, PyTorchSession
from medptq.errors import EngineError, ModelError
from medptq.inference.choosing import choose
from medptq.models.loading import load_model
from medptq.progress import Reporter
from medptq.quantization.calibration import CalibrationPatches
from medptq.quantization.quantized_model import QuantizedModel, load_quantized_model
from medptq.quantization.quantizing import quantize_model
from medptq.quantization.recipe import Recipe
from medptq.scans.finding import find_scans
from tiny_network import write_network, write_scan


class Timed(PyTorchEngine):
    """PyTorch under another name, that takes as long as it is told and counts its runs."""

    def __init__(self, name: str, seconds: float, precisions: tuple[Precision, ...]) -> None:
        self.name = name
        self.seconds = seconds
        self.precisions = precisions
        self.runs = 0

    def availability(self):
        here = super().availability()
        return here.__class__(True, here.version, here.hardware, self.precisions)

    def open(self, request: BuildRequest, built: Path) -> Session:
        engine = self

        class Slow(PyTorchSession):
            def run(self, batch: torch.Tensor) -> torch.Tensor:
                engine.runs += 1
                time.sleep(engine.seconds)
                return super().run(batch)

        session = super().open(request, built)
        session.__class__ = Slow
        return session


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def twin(tmp_path) -> QuantizedModel:
    model = load_model(write_network(tmp_path / "net"))
    write_scan(tmp_path / "scans" / "a.nrrd")
    reporter, recipe = Reporter(), Recipe(patches=2)
    sources = find_scans(tmp_path / "scans", reporter)
    patches = CalibrationPatches(model, sources, recipe, lambda *_: None, reporter)
    return quantize_model(model, patches, tmp_path / "twin", recipe=recipe)


def with_agreement(twin: QuantizedModel, share: float, least: float | None) -> QuantizedModel:
    path = twin.folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["agreement_with_fp32"]["voxels_equal"] = share
    alike = None if least is None else {"name": "Lesion", "dice": least}
    manifest["agreement_with_fp32"]["least_alike"] = alike
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return load_quantized_model(twin.folder)


def test_the_fastest_is_taken_and_the_hopeless_run_once(twin):
    fast, slow = Timed("fast", 0.0, ("fp32",)), Timed("slow", 0.5, ("fp32",))
    engines = {"fast": fast, "slow": slow}
    assert choose(twin, engines, None, Reporter()).engine == "fast"
    assert fast.runs > 1
    assert slow.runs == 1
    assert choose(twin, engines, None, Reporter()).engine == "fast"  # remembered
    assert slow.runs == 1


def test_tensorrt_in_fp32_is_only_built_if_it_is_asked_for(twin):
    tensorrt = Timed("tensorrt", 0.0, ("int8", "fp16", "fp32"))
    engines = {"tensorrt": tensorrt, "pytorch": Timed("pytorch", 0.5, ("fp32",))}
    tried: list[str] = []
    build = tensorrt.build
    tensorrt.build = lambda request, *rest: (
        tried.append(request.precision),
        build(BuildRequest(request.onnx, "fp32", request.input_shape), *rest),
    )
    chosen = choose(twin, engines, None, Reporter())
    assert (chosen.engine, chosen.precision) in {("tensorrt", "int8"), ("tensorrt", "fp16")}
    assert tried == ["int8", "fp16"]
    assert choose(twin, {"tensorrt": tensorrt}, "fp32", Reporter()).precision == "fp32"


@pytest.mark.parametrize(
    ("share", "least", "precision", "why"),
    [
        (0.999, 0.95, "int8", ""),
        (0.95, 0.95, "fp32", "only 95.0% of the voxels"),
        (0.9999, 0.0, "fp32", "Lesion had a Dice of only 0.000"),  # of few voxels
        (1.0, None, "fp32", "FP32 found nothing"),
    ],
)
def test_int8_is_taken_if_it_agrees(twin, share, least, precision, why):
    warnings: list[str] = []
    engines = {"one": Timed("one", 0.0, ("int8",)), "two": Timed("two", 0.5, ("fp32",))}
    reporter = Reporter(on_warning=warnings.append)
    twin = with_agreement(twin, share, least)
    assert choose(twin, engines, None, reporter).precision == precision
    assert [f"INT8 was left out: at calibration {why}" in each for each in warnings] == (
        [True] if why else []
    )
    assert choose(twin, engines, "int8", reporter).precision == "int8"


def test_what_no_engine_can_do_is_said(twin):
    engines = {"one": Timed("one", 0.0, ("fp32",))}
    with pytest.raises(EngineError, match="no engine here runs bf16"):
        choose(twin, engines, "bf16", Reporter())
    with pytest.raises(ModelError, match="not quantized"):
        choose(twin.model, {"one": Timed("one", 0.0, ("int8",))}, "int8", Reporter())
