"""The fastest way to run a quantized network on the GPU at hand: built, checked and timed.

FP16 throughout is among the ways, so what is taken is never slower than that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx

from medptq.engines.protocol import Precision
from medptq.engines.tensorrt_checked_build import CheckedBuild, build_checked
from medptq.engines.tensorrt_library import cannot_build
from medptq.engines.tensorrt_placement import Placement, placed, placements
from medptq.engines.tensorrt_plan import Plan, Tried
from medptq.engines.tensorrt_profile import named_in, times_by_node
from medptq.errors import EngineError, first_line
from medptq.progress import Reporter

MEASURED = "layers that were faster in INT8"
"""Name of the placement that the first one's profile leads to."""

_NOTHING = Placement("none", frozenset())
_REPAIRS = 4
"""How often a placement that TensorRT cannot build is tried again with less in it."""

BuildChecked = Callable[[onnx.ModelProto, Precision, Reporter], CheckedBuild]


@dataclass(frozen=True)
class _Way:
    placement: Placement
    build: CheckedBuild
    note: str

    @property
    def tried(self) -> Tried:
        build = self.build
        return Tried(self.placement.name, build.milliseconds, build.error, self.note)


def build_fastest(
    graph: onnx.ModelProto,
    reporter: Reporter,
    seconds: float,
    build: BuildChecked = build_checked,
) -> Plan:
    """Build the fastest of a Q/DQ graph's placements, FP16 throughout among them.

    After FP16 and the first placement, the profiles of both tell layer by layer where INT8 is
    faster; what they tell is the next that is tried.

    Args:
        graph: With Q/DQ nodes wherever INT8 can pay, and its shapes fixed.
        reporter: Told of progress; may cancel.
        seconds: Time after which no further placement is tried. The first two are regardless.
        build: How one of them is built.

    Raises:
        EngineError: Nothing could be built that agrees with the graph.
        RuntimeError: TensorRT can build none of them.
        MemoryError: The GPU's memory does not suffice for any.
        Cancelled: The user asked to stop.
    """
    started = time.monotonic()
    ways: list[_Way] = []
    failed: list[Tried] = []
    failure: Exception | None = None
    count = 2 + len(placements(graph))
    candidates = _candidates(graph, ways)
    for placement in reporter.track(candidates, "Timing what to run in INT8", total=count):
        if len(ways) > 1 and time.monotonic() - started > seconds:
            failed.append(Tried(placement.name, note="not tried: the time was up"))
            continue
        try:
            ways.append(_try(graph, placement, reporter, build))
        except (RuntimeError, MemoryError, EngineError) as error:
            note = error.why if isinstance(error, EngineError) else first_line(error)
            failed.append(Tried(placement.name, note=note))
            failure = failure or error
    if not ways:
        raise failure or cannot_build("there is nothing to build")
    ways.sort(key=lambda way: way.build.milliseconds)
    return Plan(ways[0].build.engine, (*(way.tried for way in ways), *failed))


def _candidates(graph: onnx.ModelProto, ways: list[_Way]) -> Iterator[Placement]:
    """Yield what is to be tried; ``ways`` is what was built of it so far."""
    found = placements(graph)
    yield _NOTHING
    yield from found[:1]
    measured = _measured(ways)
    if measured is not None:
        yield measured
    yield from found[1:]


def _measured(ways: list[_Way]) -> Placement | None:
    """Return what the profiles of FP16 and of one placement say to quantize; None if no news."""
    if len(ways) != 2:
        return None
    half, int8 = ways
    nodes = int8.placement.nodes
    before = times_by_node(half.build.layers, nodes)
    after = times_by_node(int8.build.layers, nodes)
    faster = frozenset(
        node for node in nodes if node in before and after.get(node, 0.0) < before[node]
    )
    return Placement(MEASURED, faster) if faster and faster != nodes else None


def _try(
    graph: onnx.ModelProto, placement: Placement, reporter: Reporter, build: BuildChecked
) -> _Way:
    """Build a placement; what TensorRT names as what it cannot build is left in FP16."""
    left_out: frozenset[str] = frozenset()
    for _ in range(_REPAIRS):
        precision: Precision = "int8" if placement.nodes else "fp16"
        try:
            built = build(placed(graph, placement), precision, reporter)
        except RuntimeError as error:
            named = named_in(str(error), placement.nodes)
            if not named or named == placement.nodes:
                raise
            left_out |= named
            placement = placement.without(named)
        else:
            names = ", ".join(sorted(left_out))
            note = f"left in FP16, as TensorRT cannot build them: {names}" if names else ""
            return _Way(placement, built, note)
    raise RuntimeError(f"still not after {len(left_out)} layers were left in FP16")
