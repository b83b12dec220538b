"""A build that is only handed on if it computes what its graph says, with what it takes."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx
import torch

from medptq.engines.memory import memory_as_error
from medptq.engines.protocol import Precision
from medptq.engines.tensorrt_building import FASTEST_KERNELS, build_plan
from medptq.engines.tensorrt_graph import in_half_precision
from medptq.engines.tensorrt_library import cannot_build, import_tensorrt, is_strongly_typed
from medptq.engines.tensorrt_normalization import Form, in_form
from medptq.engines.tensorrt_plan import Plan
from medptq.engines.tensorrt_session import TensorRTSession
from medptq.graph.executor import GraphExecutor
from medptq.graph.external_data import serialized
from medptq.progress import Reporter

WORST_ERROR: Mapping[Precision, float] = {"fp32": 0.01, "fp16": 0.03, "int8": 0.03}
"""Largest error of an engine's output against the graph it was built from, run in FP32.

Root mean square, as a share of the output's own. In FP32 TensorRT multiplies in TF32.
"""

_TIMES_ITSELF = 3.0
"""How many times what the graph makes of rounding alone an engine's error may be.

In INT8 a value that falls to the next step takes others with it, how many depends on the network.
Engines that computed something else were off by 43 % and more.
"""

_FP16_STEP = 2.0**-11

_RUNS = 20


@dataclass(frozen=True)
class CheckedBuild:
    """An engine that was held against its graph.

    Attributes:
        engine: What TensorRT deserialises.
        milliseconds: Median time of a run on the GPU.
        error: Of its output, as :data:`WORST_ERROR` measures it.
        layers: Milliseconds of each layer by TensorRT's name for it.
        error_of_rounding: The same of the graph itself, where its input is off by what FP16 rounds.
        int8_layers: How many layers really run in INT8.
    """

    engine: bytes
    milliseconds: float
    error: float
    layers: Mapping[str, float]
    error_of_rounding: float = 0.0
    int8_layers: int = 0

    def agrees(self, precision: Precision) -> bool:
        """Tell whether its output is what its graph computes, as far as rounding lets it be."""
        return self.error <= max(WORST_ERROR[precision], _TIMES_ITSELF * self.error_of_rounding)


def build_checked(
    graph: onnx.ModelProto, precision: Precision, form: Form, reporter: Reporter
) -> CheckedBuild:
    """Build a graph, time it, and refuse it if it does not agree with the graph in PyTorch.

    Args:
        graph: The graph, FP32 or with Q/DQ nodes.
        precision: The precision.
        form: How its normalizations are written for TensorRT.
        reporter: Told of progress; may cancel.

    Raises:
        EngineError: Its output is not what the graph computes.
        RuntimeError: TensorRT cannot build it.
        MemoryError: The GPU's memory does not suffice.
    """
    build = build_and_measure(graph, precision, form, reporter)
    require_agreement(build, precision)
    return build


def require_agreement(build: CheckedBuild, precision: Precision) -> None:
    """Raise ``EngineError`` if a build's output is not what its graph computes."""
    if not build.agrees(precision):
        raise cannot_build(f"its output differs from the network's by {build.error:.1%}")


def build_and_measure(
    graph: onnx.ModelProto,
    precision: Precision,
    form: Form,
    reporter: Reporter,
    level: int = FASTEST_KERNELS,
) -> CheckedBuild:
    """Build a graph, hold it against the graph in PyTorch, and time it.

    The check runs on seeded noise: a network's folder holds no patch of the scans it was
    calibrated on, since those are patients' data.

    Args:
        graph: As for :func:`build_checked`, and so on.
        precision: The precision.
        form: How its normalizations are written for TensorRT.
        reporter: Told of progress; may cancel.
        level: See :func:`medptq.engines.tensorrt_building.build_plan`.

    Raises:
        RuntimeError: TensorRT cannot build it.
        MemoryError: The GPU's memory does not suffice.
    """
    written = in_form(graph, form)
    if precision != "fp32" and is_strongly_typed(import_tensorrt()):
        written = in_half_precision(written)
    engine = build_plan(serialized(written), precision, reporter, level)
    session = TensorRTSession(Plan(engine, ()))
    try:
        noise = torch.randn(session.input_shape, generator=torch.Generator().manual_seed(0))
        image = noise.to(session.device)
        found = session.run(image).float().clone()
        milliseconds = _milliseconds(session, image)
        layers = session.times_of_layers()
        int8_layers = session.layer_precisions().get("int8", 0)
    finally:
        session.close()
    error, of_rounding = _errors(found, graph, image)
    return CheckedBuild(engine, milliseconds, error, layers, of_rounding, int8_layers)


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


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """Let PyTorch convolve in FP32, not in TF32 as by default."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def _errors(
    found: torch.Tensor, graph: onnx.ModelProto, image: torch.Tensor
) -> tuple[float, float]:
    """Return the error of an engine's output, and that of the graph's own on a rounded input."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(image)
    with (
        memory_as_error("Checking the built network"),
        torch.inference_mode(),
        _without_tf32(),
    ):
        executor = GraphExecutor(graph, image.device)
        expected = executor.run(image).float()
        rounded = executor.run(image * (1 + _FP16_STEP * noise)).float()
        size = expected.norm()
        return float((found - expected).norm() / size), float((rounded - expected).norm() / size)
