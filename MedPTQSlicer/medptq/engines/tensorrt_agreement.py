"""Whether an engine's output is what its graph computes, as far as rounding lets it be."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

import onnx
import torch

from medptq.engines.memory import memory_as_error
from medptq.engines.protocol import Precision
from medptq.graph.executor import GraphExecutor

WORST_ERROR = 0.01
"""Largest error of an engine's output against the graph it was built from, run in FP32.

Root mean square, as a share of the output's own. In FP32 TensorRT multiplies in TF32.
"""

_TIMES_ROUNDING: Mapping[Precision, float] = {"fp32": 3.0, "fp16": 6.0, "int8": 2.0}
"""How many times what rounding between its layers does to a network an engine may be off by.

In FP16 TensorRT rounds within layers, too. In INT8 a value that falls to the next step takes others
with it, in the rounded graph as in the engine.
"""

_ROUNDED = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add"),
    *("InstanceNormalization", "LayerNormalization"),
)
_LARGEST_FP16 = float(torch.finfo(torch.float16).max)


def worst_error(
    found: Sequence[torch.Tensor],
    graph: onnx.ModelProto,
    images: Sequence[torch.Tensor],
    precision: Precision,
) -> tuple[float, float]:
    """Return an engine's error on the image where it is the worst, and what it may be there.

    Args:
        found: Its output for each image, float32 [N, classes, D, H, W], on any device.
        graph: What it was built from, FP32 or with Q/DQ nodes.
        images: The images, float32 [N, C, D, H, W], on the device that the graph is run on.
        precision: What it was built for.

    Raises:
        EngineError: The memory does not suffice to run the graph.
    """
    rounded = {
        name for node in graph.graph.node if node.op_type in _ROUNDED for name in node.output
    } | {graph.graph.input[0].name}
    errors = []
    with (
        memory_as_error("Checking the built network"),
        torch.inference_mode(),
        _without_tf32(),
    ):
        executor = GraphExecutor(graph, images[0].device)
        for output, image in zip(found, images, strict=True):
            expected = executor.run(image).float()
            by_rounding = _difference(executor.run(image, _in_fp16, rounded).float(), expected)
            largest = max(WORST_ERROR, _TIMES_ROUNDING[precision] * by_rounding)
            errors.append((_difference(output.to(expected), expected), largest))
    # What is no number is worse than any.
    return max(errors, key=lambda pair: (not math.isfinite(pair[0]), pair[0] / pair[1]))


def _in_fp16(_: str, value: torch.Tensor) -> torch.Tensor | None:
    """Round a value to what FP16 holds."""
    if value.dtype != torch.float32:
        return None
    return value.clamp(-_LARGEST_FP16, _LARGEST_FP16).half().float()


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """Let PyTorch convolve in FP32, not in TF32 as by default."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
