"""Opening a network, plain or quantized, on an engine at a precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from medptq.engines.cache import open_session
from medptq.engines.protocol import BuildRequest, Engine, Precision, Session
from medptq.engines.selection import default_engine
from medptq.errors import ModelError
from medptq.inference.segmenting import segment_scan
from medptq.models.loading import load_model
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.quantized_model import QuantizedModel
from medptq.scans.scan import LabelArray, Scan

Network: TypeAlias = SegmentationModel | QuantizedModel


def model_of(network: Network) -> SegmentationModel:
    """Return the network's card, with its FP32 graph."""
    return network.model if isinstance(network, QuantizedModel) else network


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


def request_for(network: Network, precision: Precision) -> BuildRequest:
    """Return what is to be built to run the network one patch at a time."""
    model = model_of(network)
    shape = (1, model.channels, *model.patch_size)
    return BuildRequest(graph_of(network, precision), precision, shape)


def open_network(
    network: Network, engine: Engine, precision: Precision, reporter: Reporter
) -> Session:
    """Open a session; the first time on a machine this builds the network.

    Raises:
        ModelError: INT8 is asked of a network that was not quantized, or a graph is broken.
        EngineError: The engine cannot run it.
    """
    return open_session(engine, request_for(network, precision), reporter)


def make_locator(reporter: Reporter) -> Callable[[Scan, str], LabelArray]:
    """Return a function that runs a catalogue's model on a scan, for cards that crop to it.

    It always runs in FP32 on this machine's default engine, whatever the network proper runs on,
    so that FP32 and INT8, and calibration, see the same crop. A model stays loaded as long as the
    function lives, for the next scan.
    """
    loaded: dict[str, tuple[SegmentationModel, Session]] = {}

    def locate(scan: Scan, model_id: str) -> LabelArray:
        if model_id not in loaded:
            model = load_model(model_id, reporter)
            loaded[model_id] = model, open_network(model, default_engine(), "fp32", reporter)
        model, session = loaded[model_id]
        # Silent but for cancelling: a bar for each scan's locating would only flicker.
        quiet = Reporter(cancelled=reporter.cancelled)
        return segment_scan(model, session, scan, locate=locate, reporter=quiet).labels

    return locate
