"""A build that is only handed on if it computes what its graph says, with what it takes."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import torch

from medptq.engines.check_images import check_images
from medptq.engines.protocol import Precision
from medptq.engines.tensorrt_agreement import WORST_ERROR, worst_error
from medptq.engines.tensorrt_building import FASTEST_KERNELS, build_plan
from medptq.engines.tensorrt_depthwise import in_groups
from medptq.engines.tensorrt_detours import without_detours
from medptq.engines.tensorrt_graph import in_half_precision
from medptq.engines.tensorrt_library import cannot_build, import_tensorrt, is_strongly_typed
from medptq.engines.tensorrt_normalization import Form, in_form
from medptq.engines.tensorrt_plan import Plan
from medptq.engines.tensorrt_session import TensorRTSession
from medptq.engines.tensorrt_unit_axes import without_unit_axes
from medptq.graph.external_data import serialized
from medptq.progress import Reporter

_RUNS = 20


@dataclass(frozen=True)
class CheckedBuild:
    """An engine that was held against its graph.

    Attributes:
        engine: What TensorRT deserialises.
        milliseconds: Median time of a run on the GPU.
        error: Of its output, on the image where it is the worst; see
            :func:`medptq.engines.tensorrt_agreement.worst_error`.
        layers: Milliseconds of each layer by TensorRT's name for it.
        largest_error: What it may be, on that image.
        int8_layers: How many layers really run in INT8.
    """

    engine: bytes
    milliseconds: float
    error: float
    layers: Mapping[str, float]
    largest_error: float = WORST_ERROR
    int8_layers: int = 0

    @property
    def agrees(self) -> bool:
        """Whether its output is what its graph computes, as far as rounding lets it be."""
        return self.error <= self.largest_error


def build_checked(
    graph: onnx.ModelProto,
    precision: Precision,
    form: Form,
    reporter: Reporter,
    samples: Sequence[torch.Tensor] = (),
) -> CheckedBuild:
    """Build a graph, time it, and refuse it if it does not agree with the graph in PyTorch.

    Args:
        graph: The graph, FP32 or with Q/DQ nodes.
        precision: The precision.
        form: How its normalizations are written for TensorRT.
        reporter: Told of progress; may cancel.
        samples: Patches of scans, float32 [1, C, D, H, W], that it is held against the graph on,
            beside noise and a phantom.

    Raises:
        EngineError: Its output is not what the graph computes.
        RuntimeError: TensorRT cannot build it.
        MemoryError: The GPU's memory does not suffice.
    """
    build = build_and_measure(graph, precision, form, reporter, samples=samples)
    require_agreement(build)
    return build


def require_agreement(build: CheckedBuild) -> None:
    """Raise ``EngineError`` if a build's output is not what its graph computes."""
    if not build.agrees:
        raise cannot_build(f"its output differs from the network's by {build.error:.1%}")


def build_and_measure(
    graph: onnx.ModelProto,
    precision: Precision,
    form: Form,
    reporter: Reporter,
    level: int = FASTEST_KERNELS,
    samples: Sequence[torch.Tensor] = (),
) -> CheckedBuild:
    """Build a graph, hold it against the graph in PyTorch, and time it.

    Args:
        graph: As for :func:`build_checked`, and so on.
        precision: The precision.
        form: How its normalizations are written for TensorRT.
        reporter: Told of progress; may cancel.
        level: See :func:`medptq.engines.tensorrt_building.build_plan`.
        samples: As for :func:`build_checked`.

    Raises:
        RuntimeError: TensorRT cannot build it.
        MemoryError: The GPU's memory does not suffice.
    """
    written = in_form(graph, form)
    if not is_strongly_typed(import_tensorrt()):
        written = in_groups(without_unit_axes(without_detours(written)))
    elif precision != "fp32":
        written = in_half_precision(written)
    engine = build_plan(serialized(written), precision, reporter, level)
    session = TensorRTSession(Plan(engine, ()))
    try:
        shape = session.input_shape
        whole = (*check_images(shape), *(sample.expand(shape) for sample in samples))
        images = [image.to(session.device).contiguous() for image in whole]
        # Not on the GPU: together they may take more than the network itself.
        found = [session.run(image).float().cpu() for image in images]
        milliseconds = _milliseconds(session, images[0])
        layers: Mapping[str, float] = {}
        # A second time its memory may not be there; that it runs and is right is known by now.
        with contextlib.suppress(MemoryError):
            layers = session.times_of_layers()
        int8_layers = session.layer_precisions().get("int8", 0)
    finally:
        session.close()
    error, largest = worst_error(found, graph, images, precision)
    return CheckedBuild(engine, milliseconds, error, layers, largest, int8_layers)


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
