"""What a GPU can do at best: its measured peaks, and the time that a network takes at them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import onnx

Shape: TypeAlias = tuple[int, ...]

_SIZE = 8192  # edge of the matrices that the peaks are measured with
_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def peaks() -> dict[str, float]:
    """Measure the GPU: operations per second in FP16 and INT8, and bytes per second.

    A matrix product of 8192³ in PyTorch, and a copy of 1 GiB counted as read and written. A
    multiplication and an addition are two operations.
    """
    import torch

    half = torch.randn(_SIZE, _SIZE, device="cuda", dtype=torch.float16)
    whole = torch.randint(-127, 127, (_SIZE, _SIZE), device="cuda", dtype=torch.int8)
    block = torch.empty(1 << 30, device="cuda", dtype=torch.uint8)
    other = torch.empty_like(block)
    operations = 2 * _SIZE**3
    return {
        "fp16_per_second": operations / _seconds(lambda: half @ half),
        "int8_per_second": operations / _seconds(lambda: torch._int_mm(whole, whole.t())),
        "bytes_per_second": 2 * block.numel() / _seconds(lambda: other.copy_(block)),
    }


def _seconds(run: Callable[[], Any]) -> float:
    return min(times_ms(run, 8)) / 1e3


def times_ms(run: Callable[[], Any], runs: int) -> list[float]:
    """Return the milliseconds of each of some runs on the GPU."""
    import torch

    times = []
    for _ in range(runs):
        start, end = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        )
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(float(start.elapsed_time(end)))
    return times


def work_of(model: onnx.ModelProto) -> list[tuple[float, float]]:
    """Return the operations and the values read and written of each convolution and product.

    Everything between them is taken to cost nothing, as if it were fused into them. The shapes of
    the graph's values must be known.
    """
    graph = model.graph
    shapes: dict[str, Shape] = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    } | {constant.name: tuple(constant.dims) for constant in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type not in _LINEAR:
            continue
        first, second, result = (shapes[name] for name in (*node.input[:2], node.output[0]))
        found.append((2.0 * _products(node, first, second, result), _values(first, second, result)))
    return found


def _products(node: onnx.NodeProto, first: Shape, second: Shape, result: Shape) -> int:
    if node.op_type == "Conv":  # weight [out, in / groups, ...]: so many for each value
        return math.prod(result) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":  # weight [in, out / groups, ...]
        return math.prod(first) * math.prod(second[1:])
    return math.prod(result) * first[-1]


def _values(*shapes: Shape) -> float:
    return float(sum(math.prod(shape) for shape in shapes))


def least_ms(
    work: list[tuple[float, float]], peak: dict[str, float], precision: str, batch: int
) -> float:
    """Return the milliseconds that the work takes at the peaks, layer after layer.

    Args:
        work: As :func:`work_of` returns it, of a batch of one. All of it is taken to grow with
            the batch, the weights too: they are a small part.
        peak: As :func:`peaks` returns it.
        precision: ``"fp16"``, two bytes a value, or ``"int8"``, one.
        batch: Patches that are run at once.
    """
    size = 1 if precision == "int8" else 2
    return (
        1e3
        * batch
        * sum(
            max(
                operations / peak[f"{precision}_per_second"],
                values * size / peak["bytes_per_second"],
            )
            for operations, values in work
        )
    )
