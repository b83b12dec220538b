"""From a PyTorch network to an ONNX graph that is shown to compute the same."""

from __future__ import annotations

import math
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import onnx
import torch

from medptq.artifacts import atomic_file
from medptq.errors import ModelError, first_line
from medptq.graph.executor import GraphExecutor
from medptq.graph.external_data import data_beside, save_graph
from medptq.graph.loading import load_graph
from medptq.progress import Reporter

Shape: TypeAlias = tuple[int, int, int, int, int]

OPSET = 17
TOLERANCE = 1e-3
"""Largest difference allowed, as a share of the largest output."""

_REDUCED = 64  # a multiple of every common stride, and seconds faster than a whole patch


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how well it agrees with the network it came from.

    Attributes:
        path: The ONNX file.
        opset: Version of ONNX's operator set.
        difference: Largest difference between the two outputs on random input, as a share of the
            largest output.
        checked_shape: (N, C, D, H, W) of that input.
        dynamic_batch: Whether the graph takes any N; otherwise only 1.
    """

    path: Path
    opset: int
    difference: float
    checked_shape: Shape
    dynamic_batch: bool


def export_onnx(
    module: torch.nn.Module, example_shape: Shape, path: Path, reporter: Reporter
) -> ExportReport:
    """Export a network to ONNX, and refuse to if the graph does not compute what it does.

    PyTorch's TorchScript-based exporter is used: it takes modules and TorchScript alike, needs
    no further package, and writes 3D networks as the plain graphs that engines know best.

    Args:
        module: Takes float32 [N, C, D, H, W] and returns one tensor [N, classes, D, H, W]; an
            ``nn.Module`` or TorchScript. It is put into evaluation mode, in float32 and on the
            CPU, and left so.
        example_shape: (1, C, D, H, W); the graph's D, H and W are fixed to it. N is left open.
        path: Where the graph shall lie; its input is named ``image``, its output ``logits``. What
            is larger than a file can be has its weights beside it, in ``<path>.data``.
        reporter: Told of the progress, asked for cancellation.

    Returns:
        The report, with the difference that was measured.

    Raises:
        ModelError: ``model.export`` - PyTorch cannot export it. ``model.parity`` - the graph's
            output differs by more than :data:`TOLERANCE`. Or as
            :func:`medptq.graph.loading.load_graph`.
        OutputError: ``path`` exists, or cannot be written.
    """
    module = module.cpu().float().eval()
    with (
        atomic_file(path) as part,
        # Where the weights take more than 2 GiB, PyTorch writes a file for each beside the graph.
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder,
    ):
        traced = Path(folder) / "network.onnx"
        for network in reporter.track((module,), "Exporting the network"):
            _trace(network, example_shape, traced)
        graph = load_graph(traced)
        for network in reporter.track((module,), "Checking the exported network"):
            difference, shape = _measure(network, graph, example_shape, reporter)
        dynamic_batch = shape[0] > 1
        if not dynamic_batch:
            _fix_batch(graph)
        save_graph(graph, part, data_beside(path))
    return ExportReport(path, OPSET, difference, shape, dynamic_batch)


def _trace(module: torch.nn.Module, shape: Shape, path: Path) -> None:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the exporter's age, and on constants in traces
            torch.onnx.export(
                module,
                (_random(shape),),
                str(path),
                dynamo=False,
                opset_version=OPSET,
                do_constant_folding=True,
                input_names=["image"],
                output_names=["logits"],
                dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
            )
    except OSError:  # the disk
        raise
    except Exception as error:  # it runs the network, which may raise anything
        raise ModelError(
            "export",
            "The network cannot be exported to ONNX",
            why=f"PyTorch {torch.__version__} says: {first_line(error)}",
            todo="Check the card's channels and patch size, or export it to ONNX yourself and"
            " load the .onnx file",
        ) from error


def _measure(
    module: torch.nn.Module, graph: onnx.ModelProto, shape: Shape, reporter: Reporter
) -> tuple[float, Shape]:
    """Return the difference between network and graph, and the input shape it holds for.

    A graph that agrees at a reduced size and a batch of two has neither baked into it. Some
    networks only take the size, or the batch, that they were traced at.
    """
    executor = GraphExecutor(graph)
    _, channels, depth, height, width = shape
    d, h, w = (min(length, _REDUCED) for length in (depth, height, width))
    candidates: list[Shape] = [
        (2, channels, d, h, w),
        (2, channels, depth, height, width),
        (1, channels, depth, height, width),
    ]
    why = ""
    for candidate in dict.fromkeys(candidates):
        reporter.check()
        try:
            difference = _difference(module, executor, candidate)
        except Exception as error:  # the network may raise anything
            why = f"it cannot be run at {candidate}: {first_line(error)}"
            continue
        if difference <= TOLERANCE:
            return difference, candidate
        why = f"its output differs by {difference:.2g} of the largest value"
    raise ModelError(
        "parity",
        "The exported network was not kept",
        why=f"it does not compute what the original does; {why}",
        todo="Export it to ONNX yourself and load the .onnx file",
    )


def _difference(module: torch.nn.Module, executor: GraphExecutor, shape: Shape) -> float:
    image = _random(shape)
    with torch.inference_mode():
        expected = module(image.clone())
        found = executor.run(image)
        if found.shape != expected.shape:
            return math.inf
        largest = float(expected.abs().max())
        difference = float((found - expected).abs().max())
    if difference == 0.0:
        return 0.0
    return difference / largest if largest > 0 else math.inf


def _random(shape: Shape) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _fix_batch(graph: onnx.ModelProto) -> None:
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
