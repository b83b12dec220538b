"""Opening a network, plain or quantized, on an engine at a precision."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from medptq.engines.cache import open_session
from medptq.engines.protocol import BuildRequest, Engine, Precision, Session
from medptq.errors import ModelError
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.quantized_model import QuantizedModel
from medptq.quantization.twins import load_network

Network: TypeAlias = SegmentationModel | QuantizedModel


def model_of(network: Network) -> SegmentationModel:
    """Return the network's card, with its FP32 graph."""
    return network.model if isinstance(network, QuantizedModel) else network


def plain_model(network: Network | str | Path, reporter: Reporter) -> SegmentationModel:
    """Return a network in FP32, which may be quantized (anew): of a quantized one, what it was.

    Args:
        network: The network, or what :func:`medptq.load_model` takes.
        reporter: Told of the download; may cancel.

    Raises:
        ModelError: There is no such network, or it cannot be used.
    """
    if isinstance(network, (str, Path)):
        network = load_network(network, reporter)
    return model_of(network)


def graph_of(network: Network, precision: Precision) -> Path:
    """Return the graph that is built for a precision.

    Raises:
        ModelError: INT8 is asked of a network that was not quantized.
    """
    if precision != "int8":
        return model_of(network).onnx
    if isinstance(network, QuantizedModel):
        return network.int8
    raise ModelError(
        "not-quantized",
        f"{network.title} cannot run in INT8",
        why="it was not quantized",
        todo="Quantize it first (medptq quantize) and give the folder that this writes",
    )


def request_for(network: Network, precision: Precision, windows: int = 1) -> BuildRequest:
    """Return what is to be built to run the network on so many windows at a time."""
    model = model_of(network)
    shape = (windows, model.channels, *model.patch_size)
    return BuildRequest(graph_of(network, precision), precision, shape)


def open_network(
    network: Network, engine: Engine, precision: Precision, reporter: Reporter, windows: int = 1
) -> Session:
    """Open a session; the first time on a machine this builds the network.

    Raises:
        ModelError: INT8 is asked of a network that was not quantized, or a graph is broken.
        EngineError: The engine cannot run it.
    """
    return open_session(engine, request_for(network, precision, windows), reporter)
