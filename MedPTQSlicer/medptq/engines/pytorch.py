"""PyTorch: the reference that every other engine is compared with, on any machine."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch

from medptq.engines.checked_graph import checked_graph
from medptq.engines.memory import memory_as_error
from medptq.engines.protocol import Availability, BuildRequest, Precision, Session
from medptq.errors import EngineError
from medptq.graph.executor import GraphExecutor
from medptq.graph.external_data import serialized
from medptq.progress import Reporter

_ARITHMETIC_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


class PyTorchEngine:
    """Runs the ONNX graph node by node in PyTorch, on the NVIDIA GPU if there is one.

    INT8 graphs run too, with their Q/DQ nodes simulated in floating point: the same numbers as
    on an INT8 engine, without its speed. Hence INT8 is not among the native precisions.
    """

    name = "pytorch"

    def availability(self) -> Availability:
        """Say what PyTorch runs on here; it is always usable."""
        precisions: tuple[Precision, ...] = ("fp32",)
        hardware = platform.processor() or platform.machine()
        on_gpu = _device().type == "cuda"
        if on_gpu:
            precisions = ("fp16", "fp32")
            hardware = torch.cuda.get_device_name()
        return Availability(
            usable=True,
            version=torch.__version__,
            hardware=hardware,
            precisions=precisions,
            on_gpu=on_gpu,
        )

    def build(self, request: BuildRequest, built: Path, reporter: Reporter) -> None:  # noqa: ARG002
        """Check the graph and copy it to ``built`` as one file.

        Raises:
            EngineError: The precision cannot be run here, or INT8 is asked for a graph without
                Q/DQ nodes.
            ModelError: The file is no usable graph, or larger than a file can be.
        """
        if request.precision not in (*self.availability().precisions, "int8"):
            raise EngineError(
                "precision",
                f"PyTorch cannot run {request.precision} here",
                why="it needs an NVIDIA GPU" if request.precision == "fp16" else "it is not used",
                todo="Choose fp32",
            )
        built.write_bytes(serialized(checked_graph(request)))

    def open(self, request: BuildRequest, built: Path) -> Session:
        """Load a graph that :meth:`build` copied.

        Raises:
            EngineError: The file is no ONNX graph, or memory ran out.
        """
        try:
            graph = onnx.load_model_from_string(built.read_bytes())
        except Exception as error:  # protobuf raises its own kinds
            raise EngineError(
                "open",
                "PyTorch cannot load the built network",
                why="the file is no ONNX graph",
                todo="Build it again",
            ) from error
        with memory_as_error("Loading the network into PyTorch"):
            return PyTorchSession(graph, request)


class PyTorchSession(Session):
    """A graph in PyTorch.

    Args:
        graph: The graph, checked.
        request: What it was built for.
    """

    def __init__(self, graph: onnx.ModelProto, request: BuildRequest) -> None:
        self.input_shape = request.input_shape
        self.device = _device()
        self._half = request.precision == "fp16"
        self._executor = GraphExecutor(graph, self.device)
        layers = Counter(node.op_type for node in graph.graph.node)
        self._layers = sum(layers[operator] for operator in _ARITHMETIC_OPERATORS)

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        """Run the network once; see :meth:`Session.run`."""
        with (
            memory_as_error("Running the network"),
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.float16, enabled=self._half),
        ):
            return self._executor.run(batch)

    def layer_precisions(self) -> Mapping[str, int]:
        """Count the arithmetic layers by precision; see :meth:`Session.layer_precisions`."""
        return {"fp16" if self._half else "fp32": self._layers}

    def close(self) -> None:
        """Release the graph's memory."""
        del self._executor
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
