"""What every engine checks before it builds a graph."""

from __future__ import annotations

import onnx

from medptq.engines.protocol import BuildRequest
from medptq.errors import EngineError
from medptq.graph.loading import load_graph


def checked_graph(request: BuildRequest) -> onnx.ModelProto:
    """Load the graph that is to be built, with all its weights.

    Raises:
        EngineError: ``engine.not-quantized`` - INT8 is asked for a graph without Q/DQ nodes,
            which an engine would silently run in floating point.
        ModelError: The file is no usable graph.
    """
    graph = load_graph(request.onnx)
    if request.precision == "int8" and not any(
        node.op_type == "QuantizeLinear" for node in graph.graph.node
    ):
        raise EngineError(
            "not-quantized",
            "This network cannot be run in INT8",
            why="its graph has no Q/DQ nodes",
            todo="Quantize it first, with medptq quantize",
        )
    return graph
