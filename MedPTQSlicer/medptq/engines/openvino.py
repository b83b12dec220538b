"""OpenVINO: networks on CPUs, in FP32, BF16 and INT8.

BF16 and INT8 are what the CPU computes natively; what a build really runs in is read back from
OpenVINO's own runtime model, since a Q/DQ pair that it cannot fuse silently leaves its layer in
floating point.
"""

from __future__ import annotations

import functools
import platform
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medptq.engines.checked_graph import checked_graph
from medptq.engines.memory import memory_as_error
from medptq.engines.openvino_int8 import (
    concatenates_exactly,
    multiplies_exactly,
    with_kept_zero_points,
)
from medptq.engines.protocol import Availability, BuildRequest, Precision, Session
from medptq.errors import EngineError, last_line
from medptq.graph.external_data import is_whole
from medptq.progress import Reporter

_TELEMETRY = "openvino_telemetry"
_ARITHMETIC_LAYERS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})
_PRECISION_NAMES = {"i8": "int8", "u8": "int8", "bf16": "bf16", "f16": "fp16", "f32": "fp32"}


class OpenVINOEngine:
    """Runs networks on the CPU through OpenVINO."""

    name = "openvino"

    def availability(self) -> Availability:
        """Say whether OpenVINO is installed, and what this CPU runs natively."""
        try:
            openvino = import_openvino()
        except ImportError as error:
            return Availability(
                usable=False,
                version="",
                hardware="",
                precisions=(),
                reason=f"OpenVINO cannot be imported ({error}); install it with: "
                "pip install openvino",
            )
        return Availability(
            usable=True,
            version=openvino.__version__,
            hardware=str(_core().get_property("CPU", "FULL_DEVICE_NAME")).strip(),
            precisions=_native_precisions(),
        )

    def build(self, request: BuildRequest, built: Path, reporter: Reporter) -> None:
        """Compile the graph for this CPU and write OpenVINO's own blob to ``built``.

        Raises:
            EngineError: OpenVINO cannot compile this graph, the CPU lacks the precision, INT8 is
                asked for a graph without Q/DQ nodes, or memory ran out.
            ModelError: The file is no usable graph.
        """
        if request.precision not in _native_precisions():
            raise EngineError(
                "precision",
                f"OpenVINO cannot run {request.precision} here",
                why="this CPU has no native instructions for it",
                todo=f"Choose one of {', '.join(_native_precisions())}",
            )
        try:
            with memory_as_error("Building the network for OpenVINO"):
                model = _read(request)
                model.reshape(list(request.input_shape))
                if _runs_in_bf16(request.precision):
                    model = _with_bf16_output(model)
                compiled = _core().compile_model(model, "CPU", _configuration(request.precision))
                del model
                built.write_bytes(compiled.export_model().getbuffer())
        except RuntimeError as error:
            raise EngineError(
                "build",
                "OpenVINO cannot build this network",
                why=last_line(error),
                todo="Run it with the PyTorch engine instead",
            ) from error
        if request.precision == "int8" and not layer_precisions(compiled).get("int8"):
            reporter.warn(
                "OpenVINO runs no layer of this network in INT8: it will be no faster than FP32."
            )

    def open(self, request: BuildRequest, built: Path) -> Session:
        """Load a blob that :meth:`build` wrote.

        Raises:
            EngineError: The blob is damaged or was written by another version, or memory ran out.
        """
        try:
            with memory_as_error("Loading the network into OpenVINO"):
                # The configuration is not part of the blob: without it, OpenVINO would run FP32
                # networks in BF16 wherever the CPU has it.
                compiled = _core().import_model(
                    built.read_bytes(), "CPU", _configuration(request.precision)
                )
                session = OpenVINOSession(compiled)
        except RuntimeError as error:
            raise EngineError(
                "open",
                "OpenVINO cannot load the built network",
                why=last_line(error),
                todo="Build it again",
            ) from error
        if session.input_shape != request.input_shape:
            raise EngineError(
                "open",
                "OpenVINO cannot use the built network",
                why=f"it takes {session.input_shape}, not {request.input_shape}",
                todo="Build it again",
            )
        return session


class OpenVINOSession(Session):
    """A compiled network on the CPU. Input and output share memory with PyTorch, uncopied.

    Args:
        compiled: ``openvino.CompiledModel`` with one static input and one output.
    """

    def __init__(self, compiled: Any) -> None:
        n, c, d, h, w = compiled.input(0).shape
        self.input_shape = (n, c, d, h, w)
        self.device = torch.device("cpu")
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._input: NDArray[np.float32] | None = None
        is_bf16 = compiled.output(0).element_type.get_type_name() == "bf16"
        self._output = torch.empty(
            tuple(compiled.output(0).shape), dtype=torch.bfloat16 if is_bf16 else torch.float32
        )
        self._request.set_output_tensor(_shared(self._output))

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        """Run the network once; see :meth:`Session.run`.

        A batch below N is filled up with zeros, since the compiled shape is static.
        """
        openvino = import_openvino()
        count = len(batch)
        if count < self.input_shape[0]:
            filled = batch.new_zeros(self.input_shape)
            filled[:count] = batch
            batch = filled
        with memory_as_error("Running the network"):
            # Held here, since OpenVINO reads the memory but does not keep it alive.
            self._input = batch.contiguous().numpy()
            self._request.set_input_tensor(openvino.Tensor(self._input, shared_memory=True))
            self._request.infer()
        return self._output[:count]

    def layer_precisions(self) -> Mapping[str, int]:
        """Count the arithmetic layers by precision; see :meth:`Session.layer_precisions`."""
        return layer_precisions(self._compiled)

    def close(self) -> None:
        """Release the compiled network."""
        del self._request, self._compiled, self._output
        self._input = None


def _read(request: BuildRequest) -> Any:
    """Return the graph as OpenVINO's model; no copy of it stays behind."""
    graph = checked_graph(request)
    if request.precision == "int8" and is_whole(graph) and not concatenates_exactly(_core()):
        graph = with_kept_zero_points(graph)
    # From its files only where one message cannot hold it.
    source = graph.SerializeToString() if is_whole(graph) else str(request.onnx)
    del graph
    return _core().read_model(source)


def _shared(tensor: torch.Tensor) -> Any:
    """Return an OpenVINO tensor on the memory of one of PyTorch's; NumPy does not know BF16."""
    openvino = import_openvino()
    if tensor.dtype != torch.bfloat16:
        return openvino.Tensor(tensor.numpy(), shared_memory=True)
    shape = openvino.Shape(list(tensor.shape))
    return openvino.Tensor(tensor.view(torch.uint8).numpy(), shape, openvino.Type.bf16)


def _with_bf16_output(model: Any) -> Any:
    """Let the network hand out what it computed in, not the same widened to twice the memory.

    A whole volume's output is larger than any CPU's cache, so writing it takes a good part of the
    network's time.
    """
    openvino = import_openvino()
    output = openvino.preprocess.PrePostProcessor(model)
    output.output().tensor().set_element_type(openvino.Type.bf16)
    return output.build()


def layer_precisions(compiled: Any) -> Mapping[str, int]:
    """Read from OpenVINO's runtime model what its arithmetic layers really run in.

    Args:
        compiled: ``openvino.CompiledModel``.

    Returns:
        Number of convolutions, transposed convolutions and matrix products by precision.
    """
    counts: Counter[str] = Counter()
    for layer in compiled.get_runtime_model().get_ops():
        facts = layer.get_rt_info()
        if facts["layerType"].astype(str) in _ARITHMETIC_LAYERS:
            precision = facts["runtimePrecision"].astype(str)
            counts[_PRECISION_NAMES.get(precision, precision)] += 1
    return dict(counts)


def import_openvino() -> Any:
    """Import OpenVINO, which would report it to Google Analytics unless its telemetry is missing.

    Nothing leaves this machine unasked. Where a program has imported OpenVINO itself, that is left
    as it is.

    Raises:
        ImportError: It is not installed.
    """
    if "openvino" not in sys.modules and _TELEMETRY not in sys.modules:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # which is how Python bars one
        try:
            import openvino
        finally:
            del sys.modules[_TELEMETRY]
    import openvino

    return openvino


@functools.cache
def _core() -> Any:
    return import_openvino().Core()


@functools.cache
def _native_precisions() -> tuple[Precision, ...]:
    # OpenVINO lists BF16 only for CPUs that compute in it (AMX, AVX512_BF16, AVX2_VNNI_2), but
    # INT8 for every CPU: those without VNNI compute wrongly, and on ARM its INT8 kernels do not
    # cover 3D convolutions.
    precisions: list[Precision] = ["fp32"]
    if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        precisions.insert(0, "bf16")
    if platform.machine() in ("x86_64", "AMD64") and multiplies_exactly(_core()):
        precisions.insert(0, "int8")
    return tuple(precisions)


def _configuration(precision: Precision) -> dict[str, str]:
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if _runs_in_bf16(precision) else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }


def _runs_in_bf16(precision: Precision) -> bool:
    """Tell what runs in BF16; what an INT8 graph leaves in floating point does, where native."""
    return precision != "fp32" and "bf16" in _native_precisions()
