"""A build that is only handed on if it computes what its graph says, with what it takes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import torch

from medptq.engines.memory import memory_as_error
from medptq.engines.protocol import Precision
from medptq.engines.tensorrt_building import build_plan
from medptq.engines.tensorrt_graph import in_half_precision
from medptq.engines.tensorrt_library import cannot_build, import_tensorrt, is_strongly_typed
from medptq.engines.tensorrt_normalization import (
    lower_instance_normalization,
    with_layer_normalization,
)
from medptq.engines.tensorrt_plan import Plan
from medptq.engines.tensorrt_session import TensorRTSession
from medptq.graph.executor import GraphExecutor
from medptq.graph.external_data import serialized
from medptq.progress import Reporter

WORST_ERROR: Mapping[Precision, float] = {"fp32": 0.01, "fp16": 0.03, "int8": 0.1}
"""Largest error of an engine's output against the graph it was built from, run in FP32.

Root mean square, as a share of the output's own. In FP32 TensorRT multiplies in TF32; in INT8 only
values that round to the neighbouring step differ.
"""

_RUNS = 20


@dataclass(frozen=True)
class CheckedBuild:
    """An engine that agrees with its graph.

    Attributes:
        engine: What TensorRT deserialises.
        milliseconds: Median time of a run on the GPU.
        error: Of its output, as :data:`WORST_ERROR` measures it.
        layers: Milliseconds of each layer by TensorRT's name for it.
    """

    engine: bytes
    milliseconds: float
    error: float
    layers: Mapping[str, float]


def build_checked(graph: onnx.ModelProto, precision: Precision, reporter: Reporter) -> CheckedBuild:
    """Build a graph, hold it against the graph in PyTorch, and time it.

    The check runs on seeded noise: a network's folder holds no patch of the scans it was
    calibrated on, since those are patients' data.

    Raises:
        EngineError: Its output is not what the graph computes.
        RuntimeError: TensorRT cannot build it.
        MemoryError: The GPU's memory does not suffice.
    """
    engine = build_plan(serialized(_for_tensorrt(graph, precision)), precision, reporter)
    session = TensorRTSession(Plan(engine, ()))
    try:
        noise = torch.randn(session.input_shape, generator=torch.Generator().manual_seed(0))
        image = noise.to(session.device)
        found = session.run(image).float().clone()
        milliseconds = _milliseconds(session, image)
        layers = session.times_of_layers()
    finally:
        session.close()
    error = _error(found, graph, image)
    if not error <= WORST_ERROR[precision]:
        raise cannot_build(f"its output differs from the network's by {error:.1%}")
    return CheckedBuild(engine, milliseconds, error, layers)


def _for_tensorrt(graph: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    if not is_strongly_typed(import_tensorrt()):
        is_fp32 = precision == "fp32"
        return lower_instance_normalization(graph) if is_fp32 else with_layer_normalization(graph)
    return graph if precision == "fp32" else in_half_precision(graph)


def _milliseconds(session: TensorRTSession, image: torch.Tensor) -> float:
    times = []
    for _ in range(_RUNS):
        start, end = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        )
        start.record()
        session.run(image)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return float(statistics.median(times[_RUNS // 4 :]))


def _error(found: torch.Tensor, graph: onnx.ModelProto, image: torch.Tensor) -> float:
    with memory_as_error("Checking the built network"), torch.inference_mode():
        expected = GraphExecutor(graph, image.device).run(image).float()
        return float((found - expected).norm() / expected.norm())
