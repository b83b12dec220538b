"""How long each layer of an engine takes, and which node of the graph each layer comes from."""

from __future__ import annotations

import functools
import re
import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from medptq.engines.tensorrt_library import import_tensorrt


def times_of_layers(context: Any, enqueue: Any, runs: int) -> dict[str, float]:
    """Time each layer of an engine.

    Args:
        context: The engine's execution context, with its tensors' addresses set. It keeps the
            profiler, which slows every later run: make one for this alone.
        enqueue: Called without arguments; runs the context once and waits for it.
        runs: How often it is run; a run to warm up comes on top.

    Returns:
        The median milliseconds by TensorRT's names of the layers.
    """
    profiler = _profiler(import_tensorrt())()
    context.profiler = profiler
    for _ in range(runs + 1):
        enqueue()
    return {name: statistics.median(times[1:]) for name, times in profiler.times.items()}


def times_by_node(layers: Mapping[str, float], nodes: Collection[str]) -> dict[str, float]:
    """Add up the layers that work for each node of the graph, in milliseconds.

    A layer's name carries those of the nodes that were fused into it; one that brings a tensor
    into another form carries the name of the layer that it does it for. So what a node costs
    includes what has to be done for it. A layer of several nodes counts for each.
    """
    found: defaultdict[str, float] = defaultdict(float)
    for layer, milliseconds in layers.items():
        for node in named_in(layer, nodes):
            found[node] += milliseconds
    return dict(found)


def named_in(text: str, nodes: Collection[str]) -> frozenset[str]:
    """Return those of the nodes whose names stand in a text of TensorRT's, each as a whole."""
    text = text.replace("...", " ")
    return frozenset(
        node for node in nodes if re.search(rf"(?<![\w./]){re.escape(node)}(?!\.?[\w/])", text)
    )


@functools.cache
def _profiler(trt: Any) -> Any:
    """Return the class that TensorRT tells of each layer of each run."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: defaultdict[str, list[float]] = defaultdict(list)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times[layer_name].append(ms)

    return Profiler
