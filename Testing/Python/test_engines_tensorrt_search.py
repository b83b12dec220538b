"""How the fastest placement is found, with a builder that stands for TensorRT and a GPU."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from medptq.engines.protocol import Precision
from medptq.engines.tensorrt_checked_build import CheckedBuild
from medptq.engines.tensorrt_placement import placements
from medptq.engines.tensorrt_plan import Tried
from medptq.engines.tensorrt_profile import named_in, times_by_node
from medptq.engines.tensorrt_search import MEASURED, build_fastest
from medptq.errors import Cancelled, EngineError
from medptq.progress import Reporter

WIDTHS = {"/a/Conv": 16, "/b/Conv": 32, "/c/Conv": 64}


def chain() -> onnx.ModelProto:
    """Three quantized convolutions of 16, 32 and 64 channels, each 1x1x1."""
    nodes, constants = [], []
    value, channels = "image", 16

    def constant(name: str, array: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(array, name))
        return name

    for name, width in WIDTHS.items():
        scale = constant(f"{name}/scale", np.array(0.1, np.float32))
        zero = constant(f"{name}/zero", np.array(0, np.int8))
        weight = constant(f"{name}/w", np.ones((width, channels, 1, 1, 1), np.int8))
        nodes += [
            helper.make_node("QuantizeLinear", [value, scale, zero], [f"{name}/q"], f"{name}/Q"),
            helper.make_node("DequantizeLinear", [f"{name}/q", scale, zero], [f"{name}/x"]),
            helper.make_node("DequantizeLinear", [weight, scale, zero], [f"{name}/w32"]),
            helper.make_node("Conv", [f"{name}/x", f"{name}/w32"], [f"{name}/y"], name),
        ]
        value, channels = f"{name}/y", width
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 16, 4, 4, 4))],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, (1, channels, 4, 4, 4))],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_int8(graph: onnx.ModelProto) -> frozenset[str]:
    made = {name: node for node in graph.graph.node for name in node.output}
    return frozenset(
        node.name
        for node in graph.graph.node
        if node.op_type == "Conv"
        and node.input[0] in made
        and made[node.input[0]].op_type == "DequantizeLinear"
    )


class Gpu:
    """Builds any graph; each convolution takes the time that it is told for its precision.

    Args:
        times: (FP16, INT8) milliseconds of each convolution.
        refuses: What it cannot build in INT8.
        words: What it says then; ``{}`` stands for the node's name.
    """

    def __init__(
        self,
        times: Mapping[str, tuple[float, float]],
        refuses: frozenset[str] = frozenset(),
        words: str = "node {} was incorrectly marked as an int8 node",
    ) -> None:
        self.times = times
        self.refuses = refuses
        self.words = words
        self.built: list[tuple[Precision, frozenset[str]]] = []

    def __call__(
        self, graph: onnx.ModelProto, precision: Precision, reporter: Reporter
    ) -> CheckedBuild:
        reporter.check()
        quantized = in_int8(graph)
        self.built.append((precision, quantized))
        for name in sorted(quantized & self.refuses):
            raise RuntimeError(self.words.format(name))
        layers = {f"{name} + Relu": self.times[name][name in quantized] for name in WIDTHS}
        engine = " ".join(sorted(quantized)).encode()
        return CheckedBuild(engine, sum(layers.values()), 0.01, layers)


FASTER = {"/a/Conv": (1.0, 0.5), "/b/Conv": (1.0, 0.5), "/c/Conv": (1.0, 0.5)}
SLOWER = {"/a/Conv": (1.0, 2.0), "/b/Conv": (1.0, 2.0), "/c/Conv": (1.0, 2.0)}
MIXED = {"/a/Conv": (1.0, 0.5), "/b/Conv": (1.0, 2.0), "/c/Conv": (1.0, 0.5)}


def names(tried: tuple[Tried, ...]) -> list[str]:
    return [way.placement for way in tried]


def test_the_fastest_is_taken_and_all_are_told():
    gpu = Gpu(FASTER)
    plan = build_fastest(chain(), Reporter(), 1e9, gpu)
    assert plan.engine == b"/a/Conv /b/Conv /c/Conv"
    times = [way.milliseconds for way in plan.tried]
    assert times == sorted(times) == [1.5, 2.5, 3.0]
    assert gpu.built[0] == ("fp16", frozenset())
    assert {precision for precision, _ in gpu.built[1:]} == {"int8"}


def test_it_is_never_slower_than_fp16():
    plan = build_fastest(chain(), Reporter(), 1e9, Gpu(SLOWER))
    assert plan.engine == b""
    assert plan.tried[0] == Tried("none", 3.0, 0.01)


def test_the_profile_finds_what_no_rule_of_channels_would():
    plan = build_fastest(chain(), Reporter(), 1e9, Gpu(MIXED))
    assert plan.engine == b"/a/Conv /c/Conv"
    assert plan.tried[0].placement == MEASURED
    assert plan.tried[0].milliseconds == 2.0


def test_what_tensorrt_names_is_left_in_fp16_and_told():
    plan = build_fastest(chain(), Reporter(), 1e9, Gpu(FASTER, frozenset(["/b/Conv"])))
    assert plan.engine == b"/a/Conv /c/Conv"
    assert re.fullmatch("left in FP16.*: /b/Conv", plan.tried[0].note)


def test_a_placement_that_fails_without_a_name_is_a_row_and_no_failure():
    gpu = Gpu(FASTER, frozenset(["/a/Conv"]), "Myelin error from unknown graph")
    plan = build_fastest(chain(), Reporter(), 1e9, gpu)
    assert plan.engine == b"/c/Conv"  # the placement of 32 channels and more
    [failed] = [way for way in plan.tried if way.milliseconds is None]
    assert failed.note == "Myelin error from unknown graph"


def test_after_the_time_is_up_nothing_more_is_built():
    gpu = Gpu(FASTER)
    plan = build_fastest(chain(), Reporter(), 0.0, gpu)
    assert len(gpu.built) == 2
    assert plan.tried[0].milliseconds == 1.5
    assert "the time was up" in plan.tried[-1].note


@pytest.mark.parametrize("failure", [MemoryError("no memory"), RuntimeError("no kernel")])
def test_if_nothing_can_be_built_the_first_reason_is_raised(failure):
    def build(*_: object) -> CheckedBuild:
        raise failure

    with pytest.raises(type(failure)) as error:
        build_fastest(chain(), Reporter(), 1e9, build)
    assert error.value is failure


def test_what_is_built_wrongly_is_not_taken():
    def build(graph: onnx.ModelProto, precision: Precision, reporter: Reporter) -> CheckedBuild:
        if in_int8(graph):
            raise EngineError("build", "It cannot be built", why="it differs by 40%", todo="Stop")
        return Gpu(FASTER)(graph, precision, reporter)

    plan = build_fastest(chain(), Reporter(), 1e9, build)
    assert plan.engine == b""
    assert {way.note for way in plan.tried[1:]} == {"it differs by 40%"}


def test_it_can_be_cancelled_between_builds():
    gpu = Gpu(FASTER)
    with pytest.raises(Cancelled):
        build_fastest(chain(), Reporter(cancelled=lambda: len(gpu.built) == 2), 1e9, gpu)
    assert len(gpu.built) == 2


def test_the_placements_of_the_chain_are_the_ones_these_tests_are_about():
    found = {placement.name: len(placement.nodes) for placement in placements(chain())}
    assert list(found.values()) == [3, 1]


# Whose layer is whose.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/Conv + /a/Relu", {"/a/Conv"}),
        ("/a/weight + /a/dequantize + /a/Conv", {"/a/Conv"}),
        ("Reformatting CopyNode for Input Tensor 0 to /b/Conv", {"/b/Conv"}),
        ("{ForeignNode[/a/Conv.../b/Conv]}", {"/a/Conv", "/b/Conv"}),
        ("[ONNX Layer: /a/Conv][ONNX Layer: /a/Relu]", {"/a/Conv"}),
        ("/a/Conv_1", set()),
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
