"""How INT8 that computes what its graph says is found, with a builder that stands for TensorRT."""

from __future__ import annotations

import math

import pytest

from medptq.engines.tensorrt_checked_build import CheckedBuild
from medptq.engines.tensorrt_int8 import build_int8
from medptq.errors import Cancelled, EngineError
from medptq.progress import Reporter
from tensorrt_networks import chain, in_int8

THREE, ONE = "/a/Conv /b/Conv /c/Conv", "/c/Conv"  # the chain's two placements
FORMS = ("sums in FP32", "own layer")
FEW, FIRST, ALL = 1, 0, 3  # TensorRT's levels: few kernels timed, the first taken, all that may pay


class Builder:
    """Builds any placement, by default with one percent of error and a layer in INT8.

    Args:
        errors: By placement, form and, if it matters, level.
        refuses: The placements that cannot be built.
        without: Those that have no layer in INT8.
        levels: Those at which anything can be built.
        largest: The error that is still agreement.
    """

    def __init__(self, errors=None, refuses=(), without=(), levels=(FEW, FIRST, ALL), largest=0.03):
        self.largest = largest
        self.errors = errors or {}
        self.refuses = refuses
        self.without = without
        self.levels = levels
        self.built = []

    def at(self, level):
        def build(graph, precision, form, reporter):
            reporter.check()
            assert precision == "int8"
            nodes = " ".join(sorted(in_int8(graph)))
            self.built.append((nodes, form, level))
            if nodes in self.refuses or level not in self.levels:
                raise RuntimeError(f"no kernel for {len(nodes.split())} nodes")
            error = self.errors.get((nodes, form, level), self.errors.get((nodes, form), 0.01))
            engine = f"{nodes}, {form}, {level}".encode()
            return CheckedBuild(
                engine, 1.0, error, {}, self.largest, int(nodes not in self.without)
            )

        return build


def measured(builder, seconds=1e9, warnings=None, cancelled=lambda: False):
    told = warnings.append if warnings is not None else pytest.fail
    reporter = Reporter(on_warning=told, cancelled=cancelled)
    return build_int8(chain(), FORMS, reporter, seconds, builder.at)


def test_the_first_that_computes_what_its_graph_says_is_taken():
    builder = Builder()
    plan = measured(builder)
    assert builder.built == [(THREE, FORMS[0], FEW)]
    assert plan.engine == f"{THREE}, {FORMS[0]}, {FEW}".encode()
    assert [way.error for way in plan.tried] == [0.01]


@pytest.mark.parametrize("wrong", [0.43, math.nan])
def test_what_comes_out_wrong_is_built_with_other_kernels(wrong):
    builder = Builder({(THREE, FORMS[0], FEW): wrong})
    plan = measured(builder)
    assert builder.built == [(THREE, FORMS[0], level) for level in (FEW, FIRST)]
    assert plan.engine == f"{THREE}, {FORMS[0]}, {FIRST}".encode()


def test_what_comes_out_wrong_with_any_is_built_in_the_next_form():
    builder = Builder({(THREE, FORMS[0]): 0.43})
    plan = measured(builder)
    assert plan.engine == f"{THREE}, {FORMS[1]}, {FEW}".encode()
    assert [way.form for way in plan.tried] == [FORMS[1], FORMS[0], FORMS[0]]


def test_what_cannot_be_built_makes_way_for_the_next_placement():
    builder = Builder(refuses=[THREE])
    plan = measured(builder)
    assert builder.built == [(THREE, FORMS[0], FEW), (THREE, FORMS[0], FIRST), (ONE, FORMS[0], FEW)]
    assert plan.engine == f"{ONE}, {FORMS[0]}, {FEW}".encode()
    assert [way.note for way in plan.tried] == ["", *["no kernel for 3 nodes"] * 2]


def test_a_placement_without_a_layer_in_int8_makes_way_for_one_that_has_some():
    plan = measured(Builder(without=[THREE]))
    assert plan.engine == f"{ONE}, {FORMS[0]}, {FEW}".encode()


def test_if_none_has_a_layer_in_int8_the_closest_that_is_right_is_taken_and_a_warning_says_so():
    builder = Builder({(ONE, FORMS[0]): 0.005}, without=[THREE, ONE])
    warnings = []
    plan = measured(builder, warnings=warnings)
    assert builder.built == [(THREE, FORMS[0], FEW), (ONE, FORMS[0], FEW)]
    assert plan.engine == f"{ONE}, {FORMS[0]}, {FEW}".encode()
    assert warnings == ["TensorRT runs no layer of the quantized network in INT8."]


def test_one_that_is_right_is_taken_before_one_that_is_wrong_in_int8():
    builder = Builder({(ONE, form): 0.2 for form in FORMS}, without=[THREE])
    warnings = []
    plan = measured(builder, warnings=warnings)
    assert plan.engine == f"{THREE}, {FORMS[0]}, {FEW}".encode()
    assert [way.error for way in plan.tried] == [0.01, *[0.2] * 4]
    assert len(warnings) == 1


def test_if_none_is_right_all_are_refused():
    builder = Builder(
        {(THREE, FORMS[0]): math.nan, (THREE, FORMS[1]): 0.5}
        | {(ONE, FORMS[0]): 0.2, (ONE, FORMS[1]): 0.3}
    )
    with pytest.raises(EngineError) as refusal:
        measured(builder)
    assert refusal.value.why.endswith("it differs by 20.0%, where 3.0% could be by rounding")


def test_a_graph_that_rounding_changes_more_may_be_off_by_more():
    builder = Builder({(THREE, FORMS[0]): 0.2, (THREE, FORMS[1]): 0.3}, largest=0.21)
    assert measured(builder).engine == f"{THREE}, {FORMS[0]}, {FEW}".encode()
    assert len(builder.built) == 1


def test_after_the_time_is_up_nothing_more_is_tried():
    builder = Builder(without=[THREE])
    warnings = []
    plan = measured(builder, 0.0, warnings)
    assert builder.built == [(THREE, FORMS[0], FEW)]
    assert plan.engine == f"{THREE}, {FORMS[0]}, {FEW}".encode()
    assert len(warnings) == 1


def test_if_nothing_can_be_built_quickly_minutes_are_taken():
    plan = measured(builder := Builder(levels=[ALL]))
    assert builder.built[-1] == (THREE, FORMS[0], ALL)
    assert plan.engine == f"{THREE}, {FORMS[0]}, {ALL}".encode()


def test_if_nothing_can_be_built_the_reason_is_raised():
    with pytest.raises(RuntimeError, match="no kernel for 1 nodes"):
        measured(Builder(refuses=[THREE, ONE]))


def test_a_network_without_quantized_layers_has_no_int8_to_measure(residual):
    with pytest.raises(EngineError, match="no layer that TensorRT could run in INT8"):
        build_int8(residual, FORMS, Reporter(), 1e9, Builder().at)


def test_it_can_be_cancelled_between_builds():
    builder = Builder({(THREE, FORMS[0]): 0.4})
    with pytest.raises(Cancelled):
        measured(builder, cancelled=lambda: bool(builder.built))
    assert len(builder.built) == 1


def test_when_the_time_is_up_it_goes_on_until_something_is_right():
    wrong = {(THREE, form, level): 0.2 for form in FORMS for level in (FEW, FIRST)}
    builder = Builder(wrong, without=(ONE,))
    plan = measured(builder, seconds=0.0, warnings=[])
    assert builder.built[-1] == (ONE, FORMS[0], FEW)
    assert plan.engine == f"{ONE}, {FORMS[0]}, {FEW}".encode()
    assert len(builder.built) == len(wrong) + 1
