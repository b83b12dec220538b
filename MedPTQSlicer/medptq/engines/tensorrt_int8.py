"""A quantized network in INT8, however long it runs: for what INT8 costs, not for its speed.

TensorRT 8.6 builds some placements, in some form of the normalizations, into engines that compute
something else: an nnU-Net's lost 0.18 of its Dice, where the simulation loses 0.001
(the note of scripts/benchmarks/results/medquanbench-tensorrt-2026-11-23.md). Others it builds
without a single layer in INT8, since before a normalization it has no kernel for that. So here,
too, what is built is held against its graph, and refused if it is not that.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence

import onnx

from medptq.engines.memory import let_go_of_what_it_holds
from medptq.engines.tensorrt_building import FASTEST_KERNELS
from medptq.engines.tensorrt_library import cannot_build
from medptq.engines.tensorrt_normalization import Form
from medptq.engines.tensorrt_placement import Placement, placements
from medptq.engines.tensorrt_plan import Plan, Tried
from medptq.engines.tensorrt_search import BuildChecked, Way, build_way, why_of
from medptq.errors import EngineError
from medptq.progress import Reporter

_QUICK = (1, 0)
"""Levels at which few kernels are timed, or none: those that compute something else differ."""

_Candidate = tuple[Placement, Form, int]


def build_int8(
    graph: onnx.ModelProto,
    forms: Sequence[Form],
    reporter: Reporter,
    seconds: float,
    build_at: Callable[[int], BuildChecked],
) -> Plan:
    """Build the first placement that computes what its graph says and has layers in INT8.

    A placement that comes out wrong is built with other kernels, then in the next form of the
    normalizations; one that cannot be built, or is right without a layer in INT8, makes way for the
    next. Where none that is right has layers in INT8, the closest of these is taken.

    Args:
        graph: With Q/DQ nodes, its shapes fixed.
        forms: The forms of its normalizations, the likely best first.
        reporter: Told of progress, and warned where no layer runs in INT8; may cancel.
        seconds: Time after which nothing more is tried, once something that is right was built.
        build_at: How one of them is built, whatever its error, at each of TensorRT's levels.

    Raises:
        EngineError: There is nothing to run in INT8, or nothing computes what its graph says.
        RuntimeError: TensorRT can build none of them.
        MemoryError: The GPU's memory does not suffice for any.
        Cancelled: The user asked to stop.
    """
    started = time.monotonic()
    ways: list[Way] = []
    failed: list[Tried] = []
    failure: Exception = cannot_build("it has no layer that TensorRT could run in INT8")
    refused: set[tuple[Placement, int]] = set()
    right: list[Way] = []
    found = placements(graph)
    candidates = _candidates(found, forms, ways)
    count = len(found) * len(forms) * len(_QUICK)
    for placement, form, level in reporter.track(candidates, "Building in INT8", count):
        is_late = time.monotonic() - started > seconds
        if (right and is_late) or any(way.build.int8_layers for way in right):
            break
        if (placement, level) in refused or placement.name in {way.placement.name for way in right}:
            continue
        try:
            way = build_way(graph, placement, form, "int8", reporter, build_at(level))
        except (RuntimeError, MemoryError, EngineError) as error:
            let_go_of_what_it_holds(error)
            failed.append(Tried(placement.name, None, None, why_of(error), form))
            failure = error
            refused.add((placement, level))
        else:
            ways.append(way)
            if way.build.agrees:
                right.append(way)
    if not ways:
        raise failure
    if not right:
        closest = min(ways, key=lambda way: (math.isnan(way.build.error), way.build.error)).build
        raise cannot_build(
            "of all its forms the closest computes something else: it differs by "
            f"{closest.error:.1%}, where {closest.largest_error:.1%} could be by rounding"
        )
    right.sort(key=lambda way: (way.build.int8_layers == 0, way.build.error))
    if not right[0].build.int8_layers:
        reporter.warn("TensorRT runs no layer of the quantized network in INT8.")
    rest = [way for way in ways if way not in right]
    return Plan(right[0].build.engine, (*(way.tried for way in (*right, *rest)), *failed))


def _candidates(
    found: Sequence[Placement], forms: Sequence[Form], ways: Sequence[Way]
) -> Iterator[_Candidate]:
    """Yield what is to be tried; with all kernels only if nothing could be built with few."""
    yield from itertools.product(found, forms, _QUICK)
    if not ways:
        yield from itertools.product(found, forms, (FASTEST_KERNELS,))
