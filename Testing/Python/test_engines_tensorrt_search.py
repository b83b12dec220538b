"""How the fastest placement is found, with a builder that stands for TensorRT and a GPU."""

from __future__ import annotations

import itertools
import re
import weakref
from collections.abc import Mapping

import onnx
import pytest

from medptq.engines.protocol import Precision
from medptq.engines.tensorrt_checked_build import CheckedBuild
from medptq.engines.tensorrt_normalization import Form
from medptq.engines.tensorrt_placement import placements
from medptq.engines.tensorrt_plan import Tried
from medptq.engines.tensorrt_profile import named_in, times_by_node
from medptq.engines.tensorrt_search import MEASURED, build_fastest
from medptq.errors import Cancelled, EngineError
from medptq.progress import Reporter
from tensorrt_networks import WIDTHS, chain, in_int8


class Gpu:
    """Builds any graph; each convolution takes the time that it is told for its precision.

    Args:
        times: (FP16, INT8) milliseconds of each convolution.
        refuses: What it cannot build in INT8.
        words: What it says then; ``{}`` stands for the node's name.
        slower: The form of normalizations that takes so many milliseconds more.
        wrong: Forms whose output is wrong.
    """

    def __init__(
        self,
        times: Mapping[str, tuple[float, float]],
        refuses: frozenset[str] = frozenset(),
        words: str = "node {} was incorrectly marked as an int8 node",
        slower: Mapping[str, float] | None = None,
        wrong: frozenset[str] = frozenset(),
    ) -> None:
        self.times = times
        self.refuses = refuses
        self.words = words
        self.slower = slower or {}
        self.wrong = wrong
        self.built: list[tuple[Precision, frozenset[str]]] = []
        self.forms: list[Form] = []

    def __call__(
        self, graph: onnx.ModelProto, precision: Precision, form: Form, reporter: Reporter
    ) -> CheckedBuild:
        reporter.check()
        quantized = in_int8(graph)
        self.built.append((precision, quantized))
        self.forms.append(form)
        if form in self.wrong:
            raise EngineError("build", "It cannot be built", why=f"{form} is wrong", todo="Stop")
        for name in sorted(quantized & self.refuses):
            raise RuntimeError(self.words.format(name))
        layers = {f"{name} + Relu": self.times[name][name in quantized] for name in WIDTHS}
        engine = " ".join(sorted(quantized)).encode()
        milliseconds = sum(layers.values()) + self.slower.get(form, 0.0)
        return CheckedBuild(engine, milliseconds, 0.01, layers)


FASTER = {"/a/Conv": (1.0, 0.5), "/b/Conv": (1.0, 0.5), "/c/Conv": (1.0, 0.5)}
SLOWER = {"/a/Conv": (1.0, 2.0), "/b/Conv": (1.0, 2.0), "/c/Conv": (1.0, 2.0)}
MIXED = {"/a/Conv": (1.0, 0.5), "/b/Conv": (1.0, 2.0), "/c/Conv": (1.0, 0.5)}


AS_IT_IS: tuple[Form, ...] = ("as it is",)
FORMS: tuple[Form, ...] = ("sums in FP32", "own layer")


def fastest(gpu, seconds=1e9, forms=AS_IT_IS, reporter=None, precision="int8"):
    reporter = reporter or Reporter()
    return build_fastest(chain(), precision, forms, reporter, seconds, gpu)


def names(tried: tuple[Tried, ...]) -> list[str]:
    return [way.placement for way in tried]


def test_the_fastest_is_taken_and_all_are_told():
    gpu = Gpu(FASTER)
    plan = fastest(gpu)
    assert plan.engine == b"/a/Conv /b/Conv /c/Conv"
    times = [way.milliseconds for way in plan.tried]
    assert times == sorted(times) == [1.5, 2.5, 3.0]
    assert gpu.built[0] == ("fp16", frozenset())
    assert {precision for precision, _ in gpu.built[1:]} == {"int8"}


def test_it_is_never_slower_than_fp16():
    plan = fastest(Gpu(SLOWER))
    assert plan.engine == b""
    assert plan.tried[0] == Tried("none", 3.0, 0.01, form="as it is")


def test_the_profile_finds_what_no_rule_of_channels_would():
    plan = fastest(Gpu(MIXED))
    assert plan.engine == b"/a/Conv /c/Conv"
    assert plan.tried[0].placement == MEASURED
    assert plan.tried[0].milliseconds == 2.0


def test_what_tensorrt_names_is_left_in_fp16_and_told():
    plan = fastest(Gpu(FASTER, frozenset(["/b/Conv"])))
    assert plan.engine == b"/a/Conv /c/Conv"
    assert re.fullmatch("left in FP16.*: /b/Conv", plan.tried[0].note)


def test_a_placement_that_fails_without_a_name_is_a_row_and_no_failure():
    gpu = Gpu(FASTER, frozenset(["/a/Conv"]), "Myelin error from unknown graph")
    plan = fastest(gpu)
    assert plan.engine == b"/c/Conv"  # the placement of 32 channels and more
    [failed] = [way for way in plan.tried if way.milliseconds is None]
    assert failed.note == "Myelin error from unknown graph"


class Refusing(Gpu):
    """Cannot build all three convolutions in INT8, and does not say why."""

    def __call__(self, graph, precision, form, reporter):
        if len(in_int8(graph)) == 3:
            self.built.append((precision, in_int8(graph)))
            raise RuntimeError("Assertion failed")
        return super().__call__(graph, precision, form, reporter)


def test_the_profile_of_the_first_placement_that_can_be_built_is_used():
    gpu = Refusing(FASTER)
    plan = fastest(gpu)
    assert [len(quantized) for _, quantized in gpu.built[:3]] == [0, 3, 1]
    assert plan.engine == b"/c/Conv"


def test_a_placement_that_cannot_be_built_is_the_last_once_the_time_is_up():
    gpu = Refusing(FASTER)
    plan = fastest(gpu, 0.0)
    assert [len(quantized) for _, quantized in gpu.built] == [0, 3]
    assert plan.engine == b""
    assert [way.note for way in plan.tried[1:]] == [
        "Assertion failed",
        "not tried: the time was up",
    ]


def test_after_the_time_is_up_nothing_more_is_built():
    gpu = Gpu(FASTER)
    plan = fastest(gpu, 0.0)
    assert len(gpu.built) == 2
    assert plan.tried[0].milliseconds == 1.5
    assert "the time was up" in plan.tried[-1].note


@pytest.mark.parametrize("failure", [MemoryError("no memory"), RuntimeError("no kernel")])
def test_if_nothing_can_be_built_the_first_reason_is_raised(failure):
    def build(*_: object) -> CheckedBuild:
        raise failure

    with pytest.raises(type(failure)) as error:
        fastest(build)
    assert error.value is failure


def test_what_is_built_wrongly_is_not_taken():
    def build(graph: onnx.ModelProto, *others: object) -> CheckedBuild:
        if in_int8(graph):
            raise EngineError("build", "It cannot be built", why="it differs by 40%", todo="Stop")
        return Gpu(FASTER)(graph, *others)

    plan = fastest(build)
    assert plan.engine == b""
    assert {way.note for way in plan.tried[1:]} == {"it differs by 40%"}


def test_memory_that_does_not_suffice_for_any_is_told_as_such():
    lacking = (f"{gigabytes} GB are missing" for gigabytes in range(1, 99))

    def build(*_: object) -> CheckedBuild:
        raise MemoryError(next(lacking))

    with pytest.raises(MemoryError, match=r"^1 GB are missing$"):
        fastest(build)


def test_memory_that_lacks_in_different_ways_is_still_memory():
    # Checking what was built runs out of it as PyTorch, building as TensorRT does.
    reasons = itertools.chain(
        [EngineError("memory", "It was not checked", why="2 GB", todo="Wait")],
        itertools.repeat(MemoryError("1 GB is missing")),
    )

    def build(*_: object) -> CheckedBuild:
        reason = next(reasons)
        raise reason from MemoryError()

    with pytest.raises(EngineError) as error:
        fastest(build)
    assert error.value.code == "engine.memory"


def test_what_failed_holds_no_memory_while_the_next_is_built():
    class Network:
        pass

    held: list[weakref.ref[Network]] = []
    alive: list[int] = []

    def build(*_: object) -> CheckedBuild:
        alive.append(sum(network() is not None for network in held))
        network = Network()
        held.append(weakref.ref(network))
        raise RuntimeError(f"no kernel {len(held)}")

    with pytest.raises(EngineError):
        fastest(build)
    assert len(alive) > 2
    assert set(alive) == {0}


def test_if_nothing_can_be_built_for_several_reasons_all_are_told():
    def build(graph: onnx.ModelProto, *_: object) -> CheckedBuild:
        raise RuntimeError("no kernel" if in_int8(graph) else "it cannot read the graph")

    with pytest.raises(EngineError) as error:
        fastest(build)
    first, *_ = placements(chain())
    assert error.value.why.startswith("none in INT8, as it is: it cannot read the graph; ")
    assert f"; {first.name} in INT8, as it is: no kernel" in error.value.why


def test_it_can_be_cancelled_between_builds():
    gpu = Gpu(FASTER)
    with pytest.raises(Cancelled):
        fastest(gpu, reporter=Reporter(cancelled=lambda: len(gpu.built) == 2))
    assert len(gpu.built) == 2


def test_the_placements_of_the_chain_are_the_ones_these_tests_are_about():
    found = {placement.name: len(placement.nodes) for placement in placements(chain())}
    assert list(found.values()) == [3, 1]


# How normalizations are written.


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_each_form_of_the_normalizations_is_tried_and_the_fastest_taken(precision):
    gpu = Gpu(SLOWER, slower={"sums in FP32": 0.5})
    plan = fastest(gpu, forms=FORMS, precision=precision)
    first, *_ = plan.tried
    assert (first.placement, first.form) == ("none", "own layer")
    whole = [way for way in plan.tried if way.placement == "none"]
    assert {way.form for way in whole} == set(FORMS)


def test_a_form_that_computes_wrongly_is_told_and_the_next_stands_in():
    gpu = Gpu(FASTER, wrong=frozenset(["sums in FP32"]))
    plan = fastest(gpu, 0.0, FORMS)
    assert gpu.forms == ["sums in FP32", "own layer", "own layer"]
    assert plan.engine == b"/a/Conv /b/Conv /c/Conv"
    assert Tried("none", note="sums in FP32 is wrong", form="sums in FP32") in plan.tried


def test_the_other_placements_come_in_the_form_that_was_fastest():
    gpu = Gpu(FASTER, slower={"sums in FP32": 9.0})
    plan = fastest(gpu, forms=FORMS)
    assert gpu.forms == ["sums in FP32", "sums in FP32", "own layer", "own layer"]
    assert plan.tried[0].form == "own layer"
    assert plan.engine == b"/c/Conv"


def test_in_other_precisions_the_graph_is_built_as_it_is():
    gpu = Gpu(SLOWER)
    plan = fastest(gpu, 0.0, FORMS, precision="fp16")
    assert gpu.built == [("fp16", frozenset(WIDTHS))]
    assert [way.note for way in plan.tried[1:]] == ["not tried: the time was up"]


# Whose layer is whose.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/Conv + /a/Relu", {"/a/Conv"}),
        ("/a/weight + /a/dequantize + /a/Conv", {"/a/Conv"}),
        ("Reformatting CopyNode for Input Tensor 0 to /b/Conv", {"/b/Conv"}),
        ("{ForeignNode[/a/Conv.../b/Conv]}", {"/a/Conv", "/b/Conv"}),
        ("[ONNX Layer: /a/Conv][ONNX Layer: /a/Relu]", {"/a/Conv"}),
        ("no implementation for node /a/Conv.; Error Code 10", {"/a/Conv"}),
        ("(no implementation for node /a/Conv.)", {"/a/Conv"}),
        ("/a/Conv_1", set()),
        ("/a/Conv.1", set()),
        ("/x/a/Conv", set()),
        ("/a/Conv/weight", set()),
    ],
)
def test_a_node_is_named_only_by_its_whole_name(text, expected):
    assert named_in(text, WIDTHS) == expected


def test_what_is_done_for_a_node_counts_for_it():
    layers = {
        "/a/Conv + /a/Relu": 2.0,
        "Reformatting CopyNode for Input Tensor 0 to /a/Conv + /a/Relu": 0.5,
        "PWN(/a/Tanh)": 9.0,
        "/b/Conv": 1.0,
    }
    assert times_by_node(layers, WIDTHS) == {"/a/Conv": 2.5, "/b/Conv": 1.0}
