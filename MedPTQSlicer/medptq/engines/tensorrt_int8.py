"""A quantized network in INT8, however long it runs: for what INT8 costs, not for its speed.

TensorRT 8.6 builds some placements, in some form of the normalizations, into engines that compute
something else: SegResNet's Dice fell to that from 0.874 to 0.806, nnU-Net's from 0.881 to 0.028. So
here, too, what is built is held against its graph. But a graph of few bits is chaotic, and none may
come close.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import onnx

from medptq.engines.tensorrt_checked_build import WORST_ERROR, build_and_measure
from medptq.engines.tensorrt_library import cannot_build
from medptq.engines.tensorrt_normalization import Form
from medptq.engines.tensorrt_placement import placements
from medptq.engines.tensorrt_plan import Plan, Tried
from medptq.engines.tensorrt_search import BuildChecked, Way, build_way
from medptq.errors import first_line
from medptq.progress import Reporter


def build_int8(
    graph: onnx.ModelProto,
    forms: Sequence[Form],
    reporter: Reporter,
    seconds: float,
    build: BuildChecked = build_and_measure,
) -> Plan:
    """Build the first placement that computes what its graph says, else the one that is closest.

    A placement that comes out wrong is built in the next form of the normalizations; one that
    cannot be built makes way for the next.

    Args:
        graph: With Q/DQ nodes, its shapes fixed.
        forms: The forms of its normalizations, the likely best first.
        reporter: Told of progress, and warned where none computes what its graph says; may cancel.
        seconds: Time after which the closest so far is taken.
        build: How one of them is built, whatever its error.

    Raises:
        EngineError: There is nothing to run in INT8.
        RuntimeError: TensorRT can build none of them.
        MemoryError: The GPU's memory does not suffice for any.
        Cancelled: The user asked to stop.
    """
    started = time.monotonic()
    ways: list[Way] = []
    failed: list[Tried] = []
    failure: Exception = cannot_build("it has no layer that TensorRT could run in INT8")

    def is_done() -> bool:
        is_late = time.monotonic() - started > seconds
        return bool(ways) and (is_late or _is_right(ways[-1]))

    for placement in reporter.track(placements(graph), "Building in INT8"):
        for form in forms:
            if is_done():
                break
            try:
                ways.append(build_way(graph, placement, form, "int8", reporter, build))
            except (RuntimeError, MemoryError) as error:
                failed.append(Tried(placement.name, None, None, first_line(error), form))
                failure = error
                break
    if not ways:
        raise failure
    ways.sort(key=lambda way: (math.isnan(way.build.error), way.build.error))
    if not _is_right(ways[0]):
        reporter.warn(
            "TensorRT computes something else than the quantized network: of all that it could "
            f"build, the closest output differs by {ways[0].build.error:.1%}."
        )
    return Plan(ways[0].build.engine, (*(way.tried for way in ways), *failed))


def _is_right(way: Way) -> bool:
    return way.build.error <= WORST_ERROR["int8"]
