from __future__ import annotations

import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from medptq.engines.doctor import examine, prove
from medptq.engines.machine import describe_machine
from medptq.engines.proof_network import proof_network
from medptq.engines.protocol import BuildRequest, Session
from medptq.engines.pytorch import PyTorchEngine, PyTorchSession
from medptq.errors import EngineError
from medptq.installation.nvidia import Gpu
from medptq.progress import Reporter


def test_every_usable_engine_is_proved_at_every_precision(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "not" / "there" / "yet"))
    diagnosis = examine()
    assert {engine.name for engine in diagnosis.engines} >= {"openvino", "pytorch"}
    for engine in diagnosis.engines:
        assert [proof.precision for proof in engine.proofs] == list(engine.availability.precisions)
        for proof in engine.proofs:
            assert proof.verdict == "ok", (engine.name, proof)
            assert proof.milliseconds > 0
            assert proof.layers == {proof.precision: 3}
    assert diagnosis.default in {engine.name for engine in diagnosis.engines}
    assert not list(tmp_path.iterdir())  # it leaves nothing behind


class InFloat(PyTorchEngine):
    """Runs INT8 networks in floating point, as TensorRT does where that is faster."""

    name = "tensorrt"

    def build(self, request: BuildRequest, built: Path, reporter: Reporter) -> None:
        plain = request.onnx.with_name("plain.onnx")
        onnx.save(proof_network(quantized=False), plain)
        super().build(replace(request, onnx=plain, precision="fp32"), built, reporter)

    def open(self, request: BuildRequest, built: Path) -> Session:
        return super().open(replace(request, precision="fp32"), built)


def test_int8_that_runs_in_floating_point_because_it_is_faster_is_not_wrong():
    proof = prove(InFloat(), "int8")
    assert (proof.verdict, proof.layers) == ("ok", {"fp32": 3}), proof


class AsOther(PyTorchEngine):
    """PyTorch under another name, as the engine on trial."""

    name = "other"


class Wrong(AsOther):
    def open(self, request: BuildRequest, built: Path) -> Session:
        class Off(PyTorchSession):
            def run(self, batch: torch.Tensor) -> torch.Tensor:
                output = super().run(batch).clone()
                output[0, 1, 5, 5, 5] += 100
                return output

        session = super().open(request, built)
        session.__class__ = Off
        return session


class Broken(AsOther):
    def build(self, *_: object) -> None:
        raise OSError("a library is missing")


class Refusing(AsOther):
    def build(self, *_: object) -> None:
        raise EngineError("build", "It cannot be built", why="a kernel is missing", todo="Wait")


def test_a_wrong_output_is_found():
    proof = prove(Wrong(), "fp32")
    assert proof.verdict == "wrong"
    assert "differs" in proof.reason


def test_a_precision_that_is_not_really_run_is_found():
    proof = prove(AsOther(), "int8")  # PyTorch only simulates it
    assert proof.verdict == "wrong"
    assert "no layer at int8" in proof.reason


@pytest.mark.parametrize(
    ("engine", "reason"), [(Broken(), "a library is missing"), (Refusing(), "a kernel is missing")]
)
def test_a_failure_is_told_and_not_raised(engine, reason):
    proof = prove(engine, "fp32")
    assert proof.verdict == "failed"
    assert reason in proof.reason
    assert proof.milliseconds is None


def test_the_machine_is_described():
    machine = describe_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert 0 < machine.free_memory_gb < machine.memory_gb
    assert machine.free_disk_gb > 0


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            "echo 'NVIDIA RTX A4000, 550.54.14, 16376, 12001'\n"
            "echo 'NVIDIA T4, 550.54.14, 15360, 9'",
            (
                Gpu("NVIDIA RTX A4000", "550.54.14", 16376, 12001),
                Gpu("NVIDIA T4", "550.54.14", 15360, 9),
            ),
        ),
        ("echo 'NVIDIA-SMI has failed'; exit 9", ()),
        ("echo 'something, else'", ()),
    ],
)
def test_nvidia_gpus_are_read_from_their_driver(tmp_path, monkeypatch, answer, expected):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{answer}\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    assert describe_machine().gpus == expected
