"""What a benchmark cannot run, or was not meant to: told, and what can be run is."""

from __future__ import annotations

import pytest

from benchmarking_place import (  # noqa: F401 - some are fixtures
    networks_of,
    on_one_thread,
    own_cache,
    place,
    run_benchmark,
    warnings_to,
)
from medptq.benchmarking.benchmark import benchmark
from medptq.benchmarking.recipes import RECIPES, recipes_here
from medptq.errors import EngineError, OutputError, ScanError


def test_what_cannot_be_run_is_told_and_the_others_go_on(place, tmp_path):
    missing = next(name for name in RECIPES if name not in recipes_here())
    said: list[str] = []
    done = run_benchmark(
        *(place, tmp_path, networks_of(place)[:1]),
        recipes=["fp32", missing, "w8a8-tensor"],
        limit=1,
        reporter=warnings_to(said),
    )
    assert done.measured == 2
    assert [(failure.network, failure.recipe) for failure in done.failures] == [("one", missing)]
    assert said[0].startswith(f"one was not tested by {missing}: ")
    assert missing not in done.tables[0].rows[0].figures


@pytest.mark.parametrize("there", [0, 1])
def test_where_nothing_can_be_run_the_reason_is_the_error(place, tmp_path, there):
    missing = next(name for name in RECIPES if name not in recipes_here())
    if there:
        run_benchmark(place, tmp_path, networks_of(place)[:1], recipes=["fp32"], limit=1)
    with pytest.raises(EngineError) as caught:
        run_benchmark(place, tmp_path, networks_of(place)[:1], recipes=[missing], limit=1)
    assert caught.value.code == "engine.unavailable"
    assert len(list(tmp_path.glob("benchmark.html"))) == there


def test_what_is_named_twice_is_measured_once(place, tmp_path):
    twice = networks_of(place)[:1] * 2
    assert run_benchmark(place, tmp_path, twice, recipes=["fp32", "fp32"], limit=1).measured == 1


def test_a_benchmark_is_of_at_least_one_scan(place, tmp_path):
    with pytest.raises(ScanError, match="limit of at least 1"):
        run_benchmark(place, tmp_path, limit=0)


def test_nothing_to_make_a_table_of_is_an_error(tmp_path):
    with pytest.raises(OutputError) as caught:
        benchmark([], None, tmp_path)
    assert caught.value.code == "output.no-cells"
