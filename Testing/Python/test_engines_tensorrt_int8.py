"""How INT8 that computes what its graph says is found, with a builder that stands for TensorRT."""

from __future__ import annotations

import math

import pytest

from medptq.engines.tensorrt_checked_build import CheckedBuild
from medptq.engines.tensorrt_int8 import build_int8
from medptq.errors import Cancelled, EngineError
from medptq.progress import Reporter
from tensorrt_networks import chain, in_int8, residual_graph

THREE, ONE = "/a/Conv /b/Conv /c/Conv", "/c/Conv"  # the chain's two placements
FORMS = ("sums in FP32", "own layer")


class Builder:
    """Builds any placement; the error is the one told for it and the form, else one percent."""

    def __init__(self, errors=None, refuses=()):
        self.errors = errors or {}
        self.refuses = refuses
        self.built = []

    def __call__(self, graph, precision, form, reporter):
        reporter.check()
        assert precision == "int8"
        nodes = " ".join(sorted(in_int8(graph)))
        self.built.append((nodes, form))
        if nodes in self.refuses:
            raise RuntimeError(f"no kernel for {len(nodes.split())} nodes")
        error = self.errors.get((nodes, form), 0.01)
        return CheckedBuild(f"{nodes}, {form}".encode(), 1.0, error, {})


def measured(builder, seconds=1e9, warnings=None, cancelled=lambda: False):
    told = warnings.append if warnings is not None else pytest.fail
    reporter = Reporter(on_warning=told, cancelled=cancelled)
    return build_int8(chain(), FORMS, reporter, seconds, builder)


def test_the_first_that_computes_what_its_graph_says_is_taken():
    builder = Builder()
    plan = measured(builder)
    assert builder.built == [(THREE, FORMS[0])]
    assert plan.engine == f"{THREE}, {FORMS[0]}".encode()
    assert [way.error for way in plan.tried] == [0.01]


@pytest.mark.parametrize("wrong", [0.43, math.nan])
def test_what_comes_out_wrong_is_built_in_the_next_form(wrong):
    builder = Builder({(THREE, FORMS[0]): wrong})
    plan = measured(builder)
    assert builder.built == [(THREE, form) for form in FORMS]
    assert plan.engine == f"{THREE}, {FORMS[1]}".encode()
    assert [way.form for way in plan.tried] == [FORMS[1], FORMS[0]]


def test_what_cannot_be_built_makes_way_for_the_next_placement():
    builder = Builder(refuses=[THREE])
    plan = measured(builder)
    assert builder.built == [(THREE, FORMS[0]), (ONE, FORMS[0])]
    assert plan.engine == f"{ONE}, {FORMS[0]}".encode()
    assert [way.note for way in plan.tried] == ["", "no kernel for 3 nodes"]


def test_if_none_is_right_the_closest_is_taken_and_a_warning_says_so():
    builder = Builder(
        {(THREE, FORMS[0]): math.nan, (THREE, FORMS[1]): 0.5}
        | {(ONE, FORMS[0]): 0.2, (ONE, FORMS[1]): 0.3}
    )
    warnings = []
    plan = measured(builder, warnings=warnings)
    assert plan.engine == f"{ONE}, {FORMS[0]}".encode()
    assert [way.error for way in plan.tried[:3]] == [0.2, 0.3, 0.5]
    [warning] = warnings
    assert "differs by 20.0%" in warning


def test_after_the_time_is_up_the_closest_so_far_is_taken():
    builder = Builder({(THREE, FORMS[0]): 0.4})
    warnings = []
    plan = measured(builder, 0.0, warnings)
    assert builder.built == [(THREE, FORMS[0])]
    assert plan.engine == f"{THREE}, {FORMS[0]}".encode()
    assert "differs by 40.0%" in warnings[0]


def test_if_nothing_can_be_built_the_reason_is_raised():
    with pytest.raises(RuntimeError, match="no kernel for 1 nodes"):
        measured(Builder(refuses=[THREE, ONE]))


def test_a_network_without_quantized_layers_has_no_int8_to_measure(tmp_path):
    with pytest.raises(EngineError, match="no layer that TensorRT could run in INT8"):
        build_int8(residual_graph(tmp_path), FORMS, Reporter(), 1e9, Builder())


def test_it_can_be_cancelled_between_builds():
    builder = Builder({(THREE, FORMS[0]): 0.4})
    with pytest.raises(Cancelled):
        measured(builder, cancelled=lambda: bool(builder.built))
    assert len(builder.built) == 1
