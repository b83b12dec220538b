"""A built engine on the GPU: input and output are PyTorch's tensors, a run is one CUDA graph."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch

from medptq.engines.memory import memory_as_error
from medptq.engines.protocol import Session
from medptq.engines.tensorrt_layers import layer_precisions
from medptq.engines.tensorrt_library import failure, import_tensorrt, log
from medptq.engines.tensorrt_plan import Plan
from medptq.engines.tensorrt_profile import times_of_layers

_PROFILED = 5
"""Runs of which the layers are timed."""


class TensorRTSession(Session):
    """An engine, loaded. It has a stream of its own, which the caller's stream waits for.

    Args:
        plan: What was built; its checksum was verified, since deserialising trusts it.

    Attributes:
        plan: What was built, with what was tried on the way.

    Raises:
        MemoryError: The GPU's memory does not suffice.
        RuntimeError: The plan is for another version or GPU, or is no plan.
    """

    def __init__(self, plan: Plan) -> None:
        trt = import_tensorrt()
        logger = log(trt)
        logger.errors.clear()
        self.plan = plan
        self.device = torch.device("cuda", torch.cuda.current_device())
        self._runtime = trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan.engine)
        if self._engine is None:
            raise failure(logger.errors)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise failure(logger.errors)
        self._tensors: dict[str, torch.Tensor] = {}
        self._input = self._bound(trt.TensorIOMode.INPUT)
        self._output = self._bound(trt.TensorIOMode.OUTPUT)
        n, c, d, h, w = self._input.shape
        self.input_shape = (n, c, d, h, w)
        self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._graph = self._captured()

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        """Run the network once; see :meth:`Session.run`.

        The engine always computes its whole batch; what is left of an earlier one is not read.
        """
        caller = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(caller)
        with memory_as_error("Running the network"), torch.cuda.stream(self._stream):
            self._input[: len(batch)].copy_(batch, non_blocking=True)
            if self._graph is not None:
                self._graph.replay()
            else:
                _enqueue(self._context)
        caller.wait_stream(self._stream)
        return self._output[: len(batch)]

    def layer_precisions(self) -> Mapping[str, int]:
        """Count the arithmetic layers by precision; see :meth:`Session.layer_precisions`."""
        return layer_precisions(self.information())

    def information(self) -> str:
        """Return TensorRT's own description of every layer, as JSON."""
        trt = import_tensorrt()
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def scratch_bytes(self) -> int:
        """Return the bytes of the GPU's memory that the engine computes in, beside its weights."""
        if hasattr(self._engine, "device_memory_size_v2"):
            return int(self._engine.device_memory_size_v2)
        return int(self._engine.device_memory_size)

    def times_of_layers(self) -> Mapping[str, float]:
        """Return the median milliseconds of each layer, by TensorRT's names for them."""
        logger = log(import_tensorrt())
        logger.errors.clear()
        context = self._engine.create_execution_context()
        if context is None:
            raise failure(logger.errors)
        for name, tensor in self._tensors.items():
            context.set_tensor_address(name, tensor.data_ptr())

        def enqueue() -> None:
            with torch.cuda.stream(self._stream):
                _enqueue(context)
            self._stream.synchronize()

        return times_of_layers(context, enqueue, _PROFILED)

    def close(self) -> None:
        """Release the engine and its memory."""
        torch.cuda.synchronize(self.device)
        # In this order: the graph holds the context's memory, the context the engine's.
        self._graph = None
        del self._context, self._engine, self._runtime
        del self._input, self._output, self._tensors

    def _bound(self, mode: Any) -> torch.Tensor:
        """Make the tensor for the engine's only input or output, and let the engine use it."""
        names = [
            self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)
        ]
        [name] = [name for name in names if self._engine.get_tensor_mode(name) == mode]
        tensor = torch.zeros(
            tuple(self._engine.get_tensor_shape(name)),
            dtype=_torch_type(self._engine.get_tensor_dtype(name)),
            device=self.device,
        )
        self._context.set_tensor_address(name, tensor.data_ptr())
        self._tensors[name] = tensor
        return tensor

    def _captured(self) -> torch.cuda.CUDAGraph | None:
        """Record a run as a CUDA graph, so that a run costs one launch; None if it cannot be."""
        with torch.cuda.stream(self._stream):
            _enqueue(self._context)  # what the first run allocates cannot be recorded
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Engines with parts that run on the CPU cannot be recorded; they run as they are.
        with contextlib.suppress(RuntimeError):
            with torch.cuda.graph(graph, stream=self._stream):
                _enqueue(self._context)
            return graph
        return None


def _enqueue(context: Any) -> None:
    """Run a context on PyTorch's current stream, without waiting for it."""
    if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
        raise failure(log(import_tensorrt()).errors)


def _torch_type(dtype: Any) -> torch.dtype:
    trt = import_tensorrt()
    return {
        trt.float32: torch.float32,
        trt.float16: torch.float16,
        trt.int32: torch.int32,
    }[dtype]
