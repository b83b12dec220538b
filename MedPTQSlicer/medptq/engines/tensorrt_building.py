"""From a graph to a plan: one build by TensorRT, with progress, cancel and its timing cache."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch

from medptq.engines.protocol import Precision
from medptq.engines.tensorrt_library import (
    failure,
    gpu,
    import_tensorrt,
    is_strongly_typed,
    log,
)
from medptq.engines.tensorrt_normalization import IN_FP32
from medptq.engines.tensorrt_timing_cache import read_timings, timing_cache_file, write_timings
from medptq.progress import Progress, Reporter

# Shares of the free memory that a build may use for its scratch space, tried in turn.
_WORKSPACES = (0.8, 0.2)

FASTEST_KERNELS = 3
"""TensorRT's own optimization level, at which it times all kernels that may be the fastest."""


def build_plan(
    onnx_graph: bytes, precision: Precision, reporter: Reporter, level: int = FASTEST_KERNELS
) -> bytes:
    """Build an engine for the GPU at hand.

    Args:
        onnx_graph: ONNX, with its shapes fixed; for a strongly typed TensorRT, in the types that
            it shall run in.
        precision: For TensorRT 8.6, what the builder may choose among.
        reporter: Told of progress; may cancel, from TensorRT 10 on also within the build.
        level: TensorRT's optimization level; at 1 it times few kernels, at 0 it takes the first
            that runs.

    Returns:
        The plan, as TensorRT serialises it.

    Raises:
        MemoryError: The GPU's memory does not suffice.
        RuntimeError: TensorRT cannot build it; the message is what TensorRT says.
        Cancelled: The user asked to stop.
    """
    for share in _WORKSPACES[:-1]:
        try:
            return _build(onnx_graph, precision, share, reporter, level)
        except MemoryError:
            reporter.check()
            torch.cuda.empty_cache()
    return _build(onnx_graph, precision, _WORKSPACES[-1], reporter, level)


def _build(
    onnx_graph: bytes, precision: Precision, share: float, reporter: Reporter, level: int
) -> bytes:
    trt = import_tensorrt()
    logger = log(trt)
    builder = _builder(trt)
    network = builder.create_network(_creation_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_graph):
        said = [str(parser.get_error(index).desc()) for index in range(parser.num_errors)]
        raise RuntimeError("; ".join(said) or "it cannot read the graph")
    config = builder.create_builder_config()
    config.builder_optimization_level = level
    free, _ = torch.cuda.mem_get_info()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(share * free))
    # Parts that run side by side cannot share memory, and a volume fills the GPU by itself.
    config.max_aux_streams = 0
    # Without this the inspector cannot tell what the layers run in.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not is_strongly_typed(trt):
        _allow(trt, config, network, precision)
    timings_file = timing_cache_file(trt.__version__, gpu())
    timings = config.create_timing_cache(read_timings(timings_file))
    config.set_timing_cache(timings, False)
    # 8.6 cannot read one part of the timings that it wrote itself, and says so. It builds without.
    logger.errors.clear()
    monitor = _monitor(trt)(reporter) if hasattr(trt, "IProgressMonitor") else None
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    reporter.check()
    if plan is None:
        raise failure(logger.errors)
    timings = config.get_timing_cache()
    meanwhile = read_timings(timings_file)
    if meanwhile:  # another build may have ended since
        timings.combine(config.create_timing_cache(meanwhile), False)
    write_timings(timings_file, bytes(memoryview(timings.serialize())))
    return bytes(memoryview(plan))


@functools.cache
def _builder(trt: Any) -> Any:
    """Return the one builder: making it, TensorRT 8.6 loads all its kernels onto the GPU."""
    return trt.Builder(log(trt))


@contextlib.contextmanager
def builder_given_back() -> Iterator[None]:
    """Give back, after a block, the memory that the builder and its kernels keep on the GPU."""
    try:
        yield
    finally:
        _builder.cache_clear()


def _creation_flags(trt: Any) -> int:
    # By name: the same bit means one thing in TensorRT 8.6 and 10 and another in 11.
    flags = trt.NetworkDefinitionCreationFlag
    wanted = 0
    if hasattr(flags, "EXPLICIT_BATCH"):
        wanted |= 1 << int(flags.EXPLICIT_BATCH)
    if hasattr(flags, "STRONGLY_TYPED"):
        wanted |= 1 << int(flags.STRONGLY_TYPED)
    return wanted


def _allow(trt: Any, config: Any, network: Any, precision: Precision) -> None:
    """Let TensorRT 8.6 choose among the precisions; from 10 on the graph's types decide."""
    if precision in ("fp16", "int8"):
        config.set_flag(trt.BuilderFlag.FP16)
        network.get_output(0).dtype = trt.float16
        _hold_to_fp32(trt, config, network)
    if precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
    # cuBLAS and cuDNN bring nothing to 3D networks, and may well not be installed.
    sources = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
    config.set_tactic_sources(sum(1 << int(source) for source in sources))


def _hold_to_fp32(trt: Any, config: Any, network: Any) -> None:
    """Let TensorRT 8.6 compute those nodes in FP32 whose names ask for it."""
    for index in range(network.num_layers):
        operation = network.get_layer(index)
        if operation.name.endswith(IN_FP32):
            operation.precision = trt.float32
            operation.set_output_type(0, trt.float32)
            config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)


@functools.cache
def _monitor(trt: Any) -> Any:
    """Return the class through which TensorRT tells of a build's phases and asks to go on."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self, reporter: Reporter) -> None:
            trt.IProgressMonitor.__init__(self)
            self._reporter = reporter
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            # Phases lie within phases; the outermost is the one that a person wants to see.
            if parent_phase is None:
                self._steps[phase_name] = max(num_steps, 1)

        def step_complete(self, phase_name: str, step: int) -> bool:
            total = self._steps.get(phase_name)
            if total is not None:
                done = min(step + 1, total)
                self._reporter.report(Progress("TensorRT builds the engine", done, total, None))
            return not self._reporter.cancelled()

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor
