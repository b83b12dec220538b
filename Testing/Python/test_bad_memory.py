"""Memory that really runs out: a sentence and a code at every place where it can, and no harm."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

import medptq
from medptq.engines.memory import memory_as_error
from medptq.engines.protocol import Availability, BuildRequest, Session
from medptq.engines.pytorch import PyTorchEngine
from medptq.errors import EngineError
from medptq.inference.choosing import Candidate
from medptq.inference.segmenting import segment_scan
from medptq.progress import Reporter
from tiny_network import write_network, write_scan

# The limit is raised step by step, so that memory runs out at one place after the other.
SCRIPT = """
import json, resource, sys
import psutil
import medptq
from medptq.inference.sessions import SessionPool
from medptq.progress import Reporter

network, small, large, huge, engine = sys.argv[1:]
never = resource.RLIM_INFINITY


def codes_of(work, spares):
    codes = []
    for spare in spares:
        held = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (held + spare * 2**20, never))
        try:
            work()
            codes.append("done")
        except medptq.MedPTQError as error:
            assert error.todo
            codes.append(error.code)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (never, never))
    return codes


with SessionPool() as pool:
    def segment(scan):
        medptq.segment(network, scan, engine=engine, precision="fp32", pool=pool)
    segment(small)
    quantizing = codes_of(lambda: medptq.quantize(network, huge, small + "-int8"), (20, 40))
    segmenting = codes_of(lambda: segment(large), (10, 20, 30, 40, 60, 2000))
print(json.dumps([quantizing, segmenting]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there a process can be kept that short")
@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_it_is_said_wherever_it_happens_and_the_next_scan_goes_well(tmp_path, monkeypatch, engine):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    network = write_network(tmp_path)
    card = json.loads(network.with_suffix(".json").read_text())
    card["input"]["overlap"] = 0
    network.with_suffix(".json").write_text(json.dumps(card))
    small = write_scan(tmp_path / "small.nrrd")
    large = write_scan(tmp_path / "large.nrrd", (96, 160, 160))
    huge = write_scan(tmp_path / "huge.nrrd", (160, 256, 256))
    command = [sys.executable, "-c", SCRIPT, network, small, large, huge, engine]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    quantizing, segmenting = json.loads(done.stdout.splitlines()[-1])
    assert "engine.memory" in segmenting
    assert set(segmenting) <= {"scan.memory", "engine.memory", "done"}
    assert segmenting[-1] == "done"
    assert set(quantizing) <= {"scan.unusable", "engine.memory"}  # none of the scans fits
    assert not Path(f"{small}-int8").exists()


class SmallGpu(PyTorchEngine):
    """A GPU that is full: an engine on a device of its own, with no memory for any output."""

    name = "gpu"

    def availability(self) -> Availability:
        return Availability(True, "1", "A small GPU", ("fp32",), on_gpu=True)

    def open(self, request: BuildRequest, _: Path) -> Session:
        return FullSession(request)


class FullSession(Session):
    def __init__(self, request: BuildRequest) -> None:
        self.input_shape = request.input_shape
        self.device = torch.device("cpu")  # that it is a GPU, its availability says

    def run(self, _: torch.Tensor) -> torch.Tensor:
        with memory_as_error("Running the network"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    def close(self) -> None:
        pass


def test_where_a_gpu_is_full_the_cpu_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    engines = {"gpu": SmallGpu(), "pytorch": PyTorchEngine()}
    monkeypatch.setattr("medptq.api.usable_engines", lambda: engines)
    monkeypatch.setattr("medptq.api.get_engine", engines.__getitem__)
    monkeypatch.setattr("medptq.api.choose", lambda *_: Candidate("gpu", "fp32", 1.0))
    network = write_network(tmp_path)
    for seed in range(2):
        write_scan(tmp_path / "scans" / f"{seed}.nrrd", seed=seed)
    warnings: list[str] = []
    reporter = Reporter(on_warning=warnings.append)
    results = medptq.segment(network, tmp_path / "scans", reporter=reporter)
    assert [result.engine for result in results] == ["pytorch", "pytorch"]
    assert len([warning for warning in warnings if "the CPU is used" in warning]) == 1

    for more in ({"engine": "gpu"}, {"precision": "fp16"}):  # as it was asked for, or not at all
        with pytest.raises(EngineError) as error:
            medptq.segment(network, tmp_path / "scans", **more)
        assert error.value.code == "engine.memory"


@pytest.mark.parametrize(("too_large", "found"), [({"1"}, ["0", "2"]), ({"0", "1", "2"}, None)])
def test_a_scan_too_large_for_the_memory_does_not_end_the_others(
    tmp_path, monkeypatch, too_large, found
):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    network = write_network(tmp_path)
    for seed in range(3):
        write_scan(tmp_path / "scans" / f"{seed}.nrrd", seed=seed)
    read: list[weakref.ref] = []

    def short(model, session, scan, **more):
        assert all(before() is None for before in read), "what failed keeps no memory"
        read.append(weakref.ref(scan))
        if scan.name in too_large:
            with memory_as_error("Segmenting"):
                raise MemoryError
        return segment_scan(model, session, scan, **more)

    monkeypatch.setattr("medptq.inference.scan_by_scan.segment_scan", short)
    warnings: list[str] = []

    def names(scan: str) -> list[str]:
        reporter = Reporter(on_warning=warnings.append)
        results = medptq.segment(
            network, tmp_path / scan, engine="pytorch", precision="fp32", reporter=reporter
        )
        return [result.name for result in results]

    if found is not None:
        assert names("scans") == found
    else:
        with pytest.raises(EngineError) as error:
            names("scans")
        assert error.value.code == "engine.memory"
    assert len(warnings) == len(too_large)
    assert all("was left out: this machine has not enough free memory" in said for said in warnings)
    warnings.clear()
    with pytest.raises(EngineError):
        names("scans/1.nrrd")
    assert warnings == []
