from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

import medptq
from medptq.artifacts import sha256_of
from medptq.engines.built import machine_digest
from medptq.engines.cache import open_session
from medptq.engines.proof_network import proof_network
from medptq.engines.protocol import Availability, BuildRequest, Session
from medptq.engines.pytorch import PyTorchEngine
from medptq.errors import EngineError, ModelError, OutputError
from medptq.installation.nvidia import Gpu
from medptq.models.cache import cache_folder
from medptq.progress import Progress, Reporter

SHAPE = (1, 1, 32, 32, 32)


class CountingEngine(PyTorchEngine):
    """The PyTorch engine, counting what it builds."""

    def __init__(self) -> None:
        self.built = 0
        self.version = "1"
        self.refuses: bytes | None = None

    def availability(self) -> Availability:
        return replace(super().availability(), version=self.version)

    def build(self, request: BuildRequest, built: Path, reporter: Reporter) -> None:
        self.built += 1
        super().build(request, built, reporter)

    def open(self, request: BuildRequest, built: Path) -> Session:
        if self.refuses is not None and built.name.encode() == self.refuses:
            raise EngineError("open", "It cannot be loaded", why="it is old", todo="Build it again")
        return super().open(request, built)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache with ümlaut"))


@pytest.fixture
def request_(tmp_path) -> BuildRequest:
    onnx.save(proof_network(quantized=False), tmp_path / "net.onnx")
    return BuildRequest(tmp_path / "net.onnx", "fp32", SHAPE)


def works(session: Session) -> bool:
    with session:
        output = session.run(torch.ones(SHAPE, device=session.device))
        return output.shape == (1, 2, 32, 32, 32)


def blobs() -> list[Path]:
    return sorted(cache_folder("engines").glob("*.blob"))


def entries() -> list[Path]:
    return sorted(cache_folder("engines").glob("*.json"))


def test_builds_once(request_):
    engine, stages = CountingEngine(), []
    assert works(open_session(engine, request_, Reporter(stages.append)))
    assert isinstance(stages[0], Progress)
    stages.clear()
    assert works(open_session(engine, request_, Reporter(stages.append)))
    assert engine.built == 1
    assert not stages
    (entry,), (blob,) = entries(), blobs()
    content = json.loads(entry.read_text(encoding="utf-8"))
    assert content["sha256"] == sha256_of(blob)
    assert "net" not in entry.read_text(encoding="utf-8")  # no file names of the user's


@pytest.mark.parametrize("what", ["precision", "shape", "version", "graph"])
def test_anything_that_decides_the_build_makes_another_entry(tmp_path, request_, what):
    engine = CountingEngine()
    open_session(engine, request_, Reporter()).close()
    other = request_
    if what == "precision":
        onnx.save(proof_network(quantized=True), request_.onnx)
        open_session(engine, request_, Reporter()).close()
        other = replace(request_, precision="int8")
    elif what == "shape":
        other = replace(request_, input_shape=(1, 1, 16, 16, 16))
    elif what == "version":
        engine.version = "2"
    else:
        graph = proof_network(quantized=False)
        graph.graph.node[0].name = "renamed"
        onnx.save(graph, request_.onnx)
    before = engine.built
    open_session(engine, other, Reporter()).close()
    assert engine.built == before + 1


def test_weights_in_another_file_count(tmp_path):
    graph = proof_network(quantized=False)
    path = tmp_path / "net.onnx"
    onnx.save(graph, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    request, engine = BuildRequest(path, "fp32", SHAPE), CountingEngine()
    open_session(engine, request, Reporter()).close()
    open_session(engine, request, Reporter()).close()
    assert engine.built == 1
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[3] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    open_session(engine, request, Reporter()).close()
    assert engine.built == 2


@pytest.mark.parametrize(
    "damage", ["flipped bit", "cut off", "gone", "no json", "no digest", "elsewhere", "list"]
)
def test_what_is_damaged_is_built_again_with_a_warning(tmp_path, request_, damage):
    engine = CountingEngine()
    open_session(engine, request_, Reporter()).close()
    (entry,), (blob,) = entries(), blobs()
    content = bytearray(blob.read_bytes())
    if damage == "flipped bit":
        content[len(content) // 2] ^= 1
        blob.write_bytes(content)
    elif damage == "cut off":
        blob.write_bytes(content[:-1])
    elif damage == "gone":
        blob.unlink()
    elif damage == "no json":
        entry.write_text("{", encoding="utf-8")
    elif damage == "no digest":
        entry.write_text(json.dumps({"blob": blob.name}), encoding="utf-8")
    elif damage == "list":
        entry.write_text("[]", encoding="utf-8")
    else:
        outside = tmp_path / "outside.blob"
        outside.write_bytes(content)
        text = json.dumps({"blob": f"../../{outside.name}", "sha256": sha256_of(outside)})
        entry.write_text(text, encoding="utf-8")
    warnings: list[str] = []
    assert works(open_session(engine, request_, Reporter(None, warnings.append)))
    assert engine.built == 2
    assert len(warnings) == 1
    assert works(open_session(engine, request_, Reporter(None, warnings.append)))
    assert engine.built == 2
    assert len(warnings) == 1


def test_what_the_engine_refuses_is_built_again_and_removed(request_):
    engine = CountingEngine()
    open_session(engine, request_, Reporter()).close()
    (old,) = blobs()
    engine.refuses = old.name.encode()
    warnings: list[str] = []
    assert works(open_session(engine, request_, Reporter(None, warnings.append)))
    assert engine.built == 2
    assert len(warnings) == 1
    assert blobs() != [old]
    assert len(blobs()) == 1


def test_a_build_that_fails_leaves_nothing(request_):
    request_.onnx.write_bytes(b"no graph")
    with pytest.raises(ModelError):
        open_session(CountingEngine(), request_, Reporter())
    assert not cache_folder("engines").exists() or not any(cache_folder("engines").iterdir())


def test_a_cache_that_cannot_be_written_is_an_error_in_words(tmp_path, request_, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError):
        open_session(CountingEngine(), request_, Reporter())


def test_an_engine_that_is_missing_is_an_error_in_words(request_):
    class Missing(CountingEngine):
        def availability(self) -> Availability:
            return Availability(False, "", "", (), reason="it is not installed")

    with pytest.raises(EngineError, match="it is not installed"):
        open_session(Missing(), request_, Reporter())


def test_processes_that_build_at_once_do_not_harm_each_other(request_):
    script = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from medptq.engines.cache import open_session\n"
        "from medptq.engines.protocol import BuildRequest\n"
        "from medptq.engines.pytorch import PyTorchEngine\n"
        "from medptq.progress import Reporter\n"
        f"request = BuildRequest(Path(sys.argv[1]), 'fp32', {SHAPE})\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for _ in range(5):\n"
        "    for entry in Path(sys.argv[2]).glob('[!.]*.json'): entry.unlink(missing_ok=True)\n"
        "    with open_session(PyTorchEngine(), request, Reporter()) as session:\n"
        f"        assert session.run(torch.ones({SHAPE}, device=session.device)).shape[1] == 2\n"
    )
    package = str(Path(medptq.__file__).parents[1])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(request_.onnx), str(cache_folder("engines"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": package},
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout.readline().strip() == b"ready"
    for worker in workers:
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    engine = CountingEngine()
    engine.version = PyTorchEngine().availability().version
    assert works(open_session(engine, request_, Reporter()))
    assert not engine.built


def test_what_another_machine_built_is_left_to_it_and_built_again_with_a_notice(
    request_, monkeypatch
):
    engine, warnings = CountingEngine(), []
    reporter = Reporter(None, warnings.append)
    here = "medptq.engines.built.machine_digest"
    with monkeypatch.context() as patch:  # a cache in a home that several machines share
        patch.setattr(here, lambda _: "another machine")
        patch.setattr(engine, "version", "elsewhere")
        open_session(engine, request_, reporter).close()
    (theirs,) = blobs()
    assert not warnings
    assert works(open_session(engine, request_, reporter))
    assert engine.built == 2
    assert len(warnings) == 1
    assert "another machine" in warnings[0]
    assert works(open_session(engine, request_, reporter))
    assert (engine.built, len(warnings)) == (2, 1)
    assert theirs in blobs()


def test_what_tensorrt_builds_is_for_a_gpu_and_its_driver(monkeypatch):
    def digests(name: str, driver: str) -> list[str]:
        machine_digest.cache_clear()
        monkeypatch.setattr("medptq.engines.built.nvidia_gpus", lambda: (Gpu(name, driver, 1, 1),))
        return [machine_digest(engine) for engine in ("openvino", "tensorrt")]

    cpu, one = digests("NVIDIA T4", "535.54")
    assert digests("NVIDIA T4", "535.99") == [cpu, one]
    for other in (("NVIDIA T4", "570.1"), ("NVIDIA L4", "535.54")):
        same, differs = digests(*other)
        assert same == cpu
        assert differs not in (cpu, one)
    machine_digest.cache_clear()


def test_an_entry_that_claims_to_be_of_this_machine_is_not_trusted_for_it(request_):
    engine = CountingEngine()
    open_session(engine, request_, Reporter()).close()
    (entry,), (blob,) = entries(), blobs()
    blob.write_bytes(b"what another machine has built")
    content = json.loads(entry.read_text(encoding="utf-8"))
    entry.write_text(json.dumps({**content, "sha256": sha256_of(blob)}), encoding="utf-8")
    warnings: list[str] = []
    assert works(open_session(engine, request_, Reporter(None, warnings.append)))
    assert engine.built == 2
    assert len(warnings) == 1
