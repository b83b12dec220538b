"""The fastest way to run a network on the GPU at hand: built, checked and timed.

For a quantized network FP16 throughout is among the ways, so what is taken is never slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import onnx

from medptq.engines.memory import let_go_of_what_it_holds
from medptq.engines.protocol import Precision
from medptq.engines.tensorrt_checked_build import CheckedBuild, build_checked
from medptq.engines.tensorrt_library import cannot_build
from medptq.engines.tensorrt_normalization import Form
from medptq.engines.tensorrt_placement import Placement, placed, placements
from medptq.engines.tensorrt_plan import Plan, Tried
from medptq.engines.tensorrt_profile import times_by_node
from medptq.engines.tensorrt_refused import refused_in
from medptq.errors import EngineError, first_line
from medptq.graph.out_of_memory import is_out_of_memory
from medptq.progress import Reporter

MEASURED = "layers that were faster in INT8"
"""Name of the placement that the first one's profile leads to."""

_NOTHING = Placement("none", frozenset())
_REPAIRS = 4
"""How often a placement that TensorRT cannot build is tried again with less in it."""
_NAMED = 4
"""How many layers a note names."""

BuildChecked = Callable[[onnx.ModelProto, Precision, Form, Reporter], CheckedBuild]


@dataclass(frozen=True)
class _Candidate:
    placement: Placement
    form: Form


@dataclass(frozen=True)
class Way:
    """What was built, and of what.

    Attributes:
        placement: What runs in INT8.
        form: Of the normalizations.
        build: The engine, and how it was measured.
        note: What had to be left in FP16.
    """

    placement: Placement
    form: Form
    build: CheckedBuild
    note: str

    @property
    def tried(self) -> Tried:
        """Return what of it a plan tells."""
        build = self.build
        return Tried(self.placement.name, build.milliseconds, build.error, self.note, self.form)


def why_of(error: Exception) -> str:
    """Return why something was not built, in a line."""
    return error.why if isinstance(error, EngineError) else first_line(error)


def build_fastest(
    graph: onnx.ModelProto,
    precision: Precision,
    forms: Sequence[Form],
    reporter: Reporter,
    seconds: float,
    build: BuildChecked = build_checked,
) -> Plan:
    """Build the fastest of a graph's ways: forms of its normalizations, and what runs in INT8.

    Of a Q/DQ graph FP16 throughout comes first, then the first placement that can be built; the
    profiles of both tell layer by layer where INT8 is faster, which is the next that is tried.

    Args:
        graph: Its shapes fixed; for INT8 with Q/DQ nodes wherever INT8 can pay.
        precision: What it is built for.
        forms: The forms of its normalizations, the likely fastest first; see
            :func:`medptq.engines.tensorrt_normalization.forms_for`.
        reporter: Told of progress; may cancel.
        seconds: Time after which no further way is tried. Until one is found they are regardless,
            and so is the first placement of INT8.
        build: How one of them is built.

    Raises:
        EngineError: Nothing could be built that agrees with the graph; where that has several
            reasons, all are told.
        RuntimeError: TensorRT can build none of them.
        MemoryError: The GPU's memory does not suffice for any.
        Cancelled: The user asked to stop.
    """
    started = time.monotonic()
    ways: list[Way] = []
    failed: list[Tried] = []
    failures: list[Exception] = []
    found = placements(graph) if precision == "int8" else []
    count = len(forms) + len(found) + (1 if found else 0)
    candidates = _candidates(found, forms, ways)
    for candidate in reporter.track(candidates, "Timing ways to run the network", total=count):
        name = candidate.placement.name
        is_due = not ways or candidate.placement in found[:1]
        if not is_due and time.monotonic() - started > seconds:
            failed.append(Tried(name, None, None, "not tried: the time was up", candidate.form))
            continue
        try:
            placement, form = candidate.placement, candidate.form
            ways.append(build_way(graph, placement, form, precision, reporter, build))
        except (RuntimeError, MemoryError, EngineError) as error:
            let_go_of_what_it_holds(error)  # the next one needs the memory
            failed.append(Tried(name, None, None, why_of(error), candidate.form))
            failures.append(error)
    if not ways:
        if len({tried.note for tried in failed}) == 1 or all(map(is_out_of_memory, failures)):
            raise failures[0]
        told = (f"{tried.placement} in INT8, {tried.form}: {tried.note}" for tried in failed)
        raise cannot_build("; ".join(told))
    ways.sort(key=lambda way: way.build.milliseconds)
    return Plan(ways[0].build.engine, (*(way.tried for way in ways), *failed))


def _candidates(
    found: Sequence[Placement], forms: Sequence[Form], ways: list[Way]
) -> Iterator[_Candidate]:
    """Yield what is to be tried; ``ways`` is what was built of it so far."""
    rest = list(forms)
    while rest and not ways:
        yield _Candidate(_NOTHING, rest.pop(0))
    form = ways[0].form if ways else forms[0]
    before, left = len(ways), list(found)
    while left and len(ways) == before:
        yield _Candidate(left.pop(0), form)
    measured = _measured(ways)
    if measured is not None:
        yield _Candidate(measured, form)
    yield from (_Candidate(_NOTHING, other) for other in rest)
    if ways:
        form = min(ways, key=lambda way: way.build.milliseconds).form
    yield from (_Candidate(placement, form) for placement in left)


def _measured(ways: list[Way]) -> Placement | None:
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


def build_way(
    graph: onnx.ModelProto,
    placement: Placement,
    form: Form,
    precision: Precision,
    reporter: Reporter,
    build: BuildChecked,
) -> Way:
    """Build a way; what TensorRT tells that it cannot build in INT8 is left in FP16.

    Args:
        graph: As for :func:`build_fastest`.
        placement: What of it runs in INT8.
        form: Of its normalizations.
        precision: What it is built for.
        reporter: Told of progress; may cancel.
        build: How it is built.

    Raises:
        RuntimeError: TensorRT cannot build it. What ``build`` raises passes unchanged.
    """
    if precision != "int8":
        return Way(placement, form, build(graph, precision, form, reporter), "")
    left_out: frozenset[str] = frozenset()
    for _ in range(_REPAIRS):
        needed: Precision = "int8" if placement.nodes else "fp16"
        try:
            built = build(placed(graph, placement), needed, form, reporter)
        except RuntimeError as error:
            refused = refused_in(str(error), graph, placement)
            if not refused or refused == placement.nodes:
                raise
            left_out |= refused
            placement = placement.without(refused)
        else:
            return Way(placement, form, built, _told(left_out))
    raise RuntimeError(f"still not after {len(left_out)} layers were left in FP16")


def _told(left_out: frozenset[str]) -> str:
    if not left_out:
        return ""
    names = sorted(left_out)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"left in FP16, as TensorRT cannot build them: {', '.join(names[:_NAMED])}{more}"
