"""Finds out what this machine can do, and proves it by running a small network on every engine."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import torch

from medptq.engines.machine import Machine, describe_machine
from medptq.engines.proof_network import PROOF_SHAPE, proof_network
from medptq.engines.protocol import Availability, BuildRequest, Engine, Precision, Session
from medptq.engines.pytorch import PyTorchEngine
from medptq.engines.selection import default_engine, engines
from medptq.errors import MedPTQError
from medptq.progress import Reporter

_RUNS = 5

# Largest error of the proof network, as a share of its largest output. INT8 engines compute the
# same Q/DQ graph as the reference: only values that round to the neighbouring step differ.
_TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-4, "bf16": 3e-2, "fp16": 5e-3, "int8": 3e-2}
_TOLERANCE_OF_TF32 = 2e-3
"""For FP32 on NVIDIA's GPUs, whose libraries by default multiply it with ten bits of mantissa."""


@dataclass(frozen=True)
class Proof:
    """What came of running the proof network on an engine.

    Attributes:
        precision: What it was run at.
        verdict: ``"ok"``; ``"wrong"`` if it differs from the reference, or runs nothing at this
            precision; ``"failed"`` if it did not run.
        milliseconds: Median of the runs.
        error: Largest difference from the reference, as a share of the largest output.
        layers: Its layers by the precision that they ran in.
        reason: Why it is not ok.
    """

    precision: Precision
    verdict: Literal["ok", "wrong", "failed"]
    milliseconds: float | None = None
    error: float | None = None
    layers: Mapping[str, int] | None = None
    reason: str = ""


@dataclass(frozen=True)
class EngineDiagnosis:
    """One engine: whether it can be used here, and the proof."""

    name: str
    availability: Availability
    proofs: tuple[Proof, ...]


@dataclass(frozen=True)
class Diagnosis:
    """All that ``medptq doctor`` says.

    Attributes:
        machine: What the engines run on.
        engines: Every engine.
        default: Name of the engine that is taken where none is named.
    """

    machine: Machine
    engines: tuple[EngineDiagnosis, ...]
    default: str


def examine() -> Diagnosis:
    """Describe this machine and prove each of its engines; takes seconds.

    Each usable engine runs a small network of 3D convolutions at each of its precisions, and
    PyTorch the INT8 graph too, simulated. All are compared with PyTorch on the same graph.
    """
    return Diagnosis(
        machine=describe_machine(),
        engines=tuple(_diagnose(engine) for engine in engines().values()),
        default=default_engine().name,
    )


def _diagnose(engine: Engine) -> EngineDiagnosis:
    availability = engine.availability()
    proofs = tuple(prove(engine, precision) for precision in availability.precisions)
    return EngineDiagnosis(engine.name, availability, proofs)


def prove(engine: Engine, precision: Precision) -> Proof:
    """Run the proof network on an engine and compare it with the PyTorch reference."""
    image = torch.rand(PROOF_SHAPE, generator=torch.Generator().manual_seed(0)) * 3
    try:
        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder) / "proof.onnx"
            onnx.save(proof_network(quantized=precision == "int8"), graph)
            reference = PyTorchEngine()
            simulated: Precision = "int8" if precision == "int8" else "fp32"
            with _session(reference, BuildRequest(graph, simulated, PROOF_SHAPE)) as session:
                expected = session.run(image.to(session.device)).float().cpu().clone()
            with _session(engine, BuildRequest(graph, precision, PROOF_SHAPE)) as session:
                found, milliseconds = _timed_run(session, image.to(session.device))
                layers = session.layer_precisions()
    except MedPTQError as error:
        return Proof(precision, "failed", reason=f"{error.what}: {error.why}")
    except Exception as error:  # a broken installation may raise anything; the doctor must not
        return Proof(precision, "failed", reason=f"{type(error).__name__}: {error}")
    difference = float((found - expected).abs().max() / expected.abs().max())
    reason = ""
    if not difference <= _tolerance(engine, precision):
        reason = f"its output differs from PyTorch's by {difference:.1%}"
    elif not layers.get(precision) and not _runs_it_otherwise(engine, precision):
        reason = f"it ran no layer at {precision}"
    return Proof(precision, "wrong" if reason else "ok", milliseconds, difference, layers, reason)


def _tolerance(engine: Engine, precision: Precision) -> float:
    if precision == "fp32" and engine.availability().on_gpu:
        return _TOLERANCE_OF_TF32
    return _TOLERANCE[precision]


def _runs_it_otherwise(engine: Engine, precision: Precision) -> bool:
    """Tell whether no layer of that precision is no fault of the engine's.

    PyTorch simulates INT8; TensorRT takes FP16 instead where it has measured that to be faster.
    """
    return engine.name == "pytorch" or (engine.name == "tensorrt" and precision == "int8")


def _session(engine: Engine, request: BuildRequest) -> Session:
    # Not through the cache: what is proved is building, too.
    built = request.onnx.with_name(f"{engine.name}-{request.precision}.built")
    engine.build(request, built, Reporter())
    return engine.open(request, built)


def _timed_run(session: Session, image: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the output and the median milliseconds of a run."""
    found = session.run(image).float().cpu().clone()
    seconds = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        session.run(image).sum().item()  # waits for the GPU
        seconds.append(time.perf_counter() - started)
    return found, 1e3 * statistics.median(seconds)
