"""What gpu.py makes of what was built, with a builder that stands for TensorRT and a GPU."""

from __future__ import annotations

import argparse
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"))

import gpu_build
import gpu_network

from medptq.engines.tensorrt_checked_build import CheckedBuild
from tensorrt_networks import chain, in_int8

FORMS = ("sums in FP32", "own layer")


class Builder:
    """Builds anything in the time that its precision, form and quantized layers take."""

    def __init__(self, **errors: float) -> None:
        self.errors = errors  # of outputs, by precision
        self.built: list[tuple[str, str, int]] = []

    def __call__(self, graph, precision, form, _, samples) -> CheckedBuild:
        assert [sample.shape for sample in samples] == [gpu_build.SHAPE]
        count = len(in_int8(graph))
        self.built.append((precision, form, count))
        if precision in self.errors and self.errors[precision] == float("inf"):
            raise RuntimeError("no kernel")
        milliseconds = {"fp32": 9.0, "fp16": 5.0, "int8": 4.0}[precision] - 0.1 * count
        milliseconds += 0.5 * (form == "sums in FP32")
        engine = f"{precision} {form} {count}".encode()
        return CheckedBuild(engine, milliseconds, self.errors.get(precision, 0.001), {})


@pytest.fixture
def build(tmp_path, monkeypatch):
    def forms(_, precision, __):
        return ("written out",) if precision == "fp32" else FORMS

    monkeypatch.setattr(gpu_build.Building, "_forms", forms)
    monkeypatch.setattr(gpu_build.Building, "_graph", lambda *_: chain())

    def run(builder: Builder, *counts: int) -> list[dict]:
        monkeypatch.setattr(gpu_build, "build_and_measure", builder)
        options = argparse.Namespace(search_seconds=100.0, builds=2)
        gpu_build.Building(tmp_path, options).build(counts or (1,))
        return gpu_build.records(tmp_path)

    run.folder = tmp_path
    return run


def test_every_engine_is_kept_with_what_it_is(build, tmp_path):
    found = build(Builder())
    assert [(record["way"], record["form"]) for record in found] == [
        ("TensorRT FP32", "written out"),
        *(("TensorRT FP16", form) for form in FORMS),
        ("TensorRT INT8", "sums in FP32"),  # the first form that FP16 was built in
    ]
    for record in found:
        for tried in record["tried"]:
            engine = (tmp_path / gpu_build.ENGINES / tried["file"]).read_text(encoding="utf-8")
            assert tried["form"] in engine
    [*_, int8] = found
    engines = {tried["file"] for record in found for tried in record["tried"]}
    assert len(engines) == 3 + len(int8["tried"])
    assert [tried["placement"] == "none" for tried in int8["tried"]].count(True) == 1


@pytest.mark.parametrize(("int8", "again"), [(0.001, ["TensorRT INT8"]), (float("inf"), [])])
def test_further_batches_are_built_in_the_likely_fastest(build, int8, again):
    found = build(Builder(int8=int8), 1, 4)
    assert [(record["way"], record["form"]) for record in found if record["batch"] == 4] == [
        ("TensorRT FP32", "written out"),
        ("TensorRT FP16", "sums in FP32"),
        *((way, "sums in FP32") for way in again),
    ]


def test_where_nothing_agrees_at_the_first_batch_the_next_is_built_in_all(build):
    class OfOneWrong(Builder):
        def __call__(self, *arguments, **options):
            build = super().__call__(*arguments, **options)
            precisions = [precision for precision, _, _ in self.built]
            is_wrong = precisions[-1] == "fp16" and precisions.count("fp16") <= len(FORMS)
            return replace(build, error=0.05) if is_wrong else build

    found = build(OfOneWrong(), 1, 4)
    agreeing = {(record["batch"], record["way"]) for record in found if "refused" not in record}
    assert agreeing == {
        (1, "TensorRT FP32"),
        *((4, way) for way in ("TensorRT FP32", "TensorRT FP16", "TensorRT INT8")),
    }


def test_what_was_built_or_measured_is_not_built_again(build, tmp_path):
    before = build(Builder())
    builder = Builder()
    assert build(builder) == before
    assert builder.built == []
    # On another machine, which has the rows alone.
    (tmp_path / gpu_build.ROWS).write_text(json.dumps(before[:-1]), encoding="utf-8")
    for path in (tmp_path / gpu_build.ENGINES).iterdir():
        path.unlink()
    [int8] = build(builder)
    assert int8["way"] == "TensorRT INT8"
    assert {form for _, form, _ in builder.built} == {"sums in FP32"}


def test_what_failed_is_tried_again_but_not_at_once(build):
    failing = Builder(fp16=float("inf"))
    build(failing)
    assert [(precision, form) for precision, form, _ in failing.built] == [
        *(("fp32", "written out"), *(("fp16", form) for form in FORMS)),
    ]
    builder = Builder()
    found = build(builder)
    assert builder.built[0][0] == "fp16"
    assert {form for precision, form, _ in builder.built if precision == "fp16"} == set(FORMS)
    assert not any("failed" in record for record in found)


def test_a_search_that_is_killed_leaves_what_it_had_built(build):
    class Killed(Builder):
        def __call__(self, graph, precision, form, reporter, samples):
            if [built[0] for built in self.built].count("int8") == 1 and precision == "int8":
                raise KeyboardInterrupt
            return super().__call__(graph, precision, form, reporter, samples)

    for killed, count in ((Killed(int8=0.5), 1), (Killed(), 2)):  # of what agrees
        with pytest.raises(KeyboardInterrupt):
            build(killed)
        [*_, int8] = gpu_build.records(build.folder)
        assert (int8["unfinished"], len(int8["tried"])) == (True, count)
    [*_, int8] = build(Builder())
    assert "unfinished" not in int8, "it was searched again"


def test_two_that_take_as_long_keep_their_own_engines(build):
    class Even(Builder):
        def __call__(self, *arguments, samples):
            return replace(super().__call__(*arguments, samples), milliseconds=4.0)

    [*_, int8] = build(Even())
    files = [tried["file"] for tried in int8["tried"]]
    assert len(set(files)) == len(files) > 2


def test_what_does_not_agree_is_kept_to_be_shown(build):
    [_, *half, _] = build(Builder(fp16=0.5))
    for record in half:
        [tried] = record["tried"]
        assert "differs" in record["refused"]
        assert tried["note"] == "does not agree"
        assert tried["file"]


def test_what_cannot_be_built_is_told(build):
    [failed, *others] = build(Builder(fp32=float("inf")))
    assert failed["failed"] == "RuntimeError: no kernel"
    assert failed["tried"] == []
    assert len(others) == 3


def test_what_was_built_is_timed_anew_and_the_fastest_is_the_row(build, tmp_path, monkeypatch):
    build(Builder())
    times = {
        "int8 sums in FP32 3": 6.0,
        "int8 sums in FP32 1": 2.0,
    }  # not as beside the other builds

    def of_engine(self, name):
        engine = (self.folder / gpu_build.ENGINES / name).read_text(encoding="utf-8")
        return {"ms": times.get(engine, 5.0), "engine_mb": len(engine)}

    monkeypatch.setattr(gpu_network.Measuring, "_of_engine", of_engine)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))  # it has the GPU to itself
    measuring = gpu_network.Measuring("net", tmp_path, argparse.Namespace())
    measuring.measure()
    assert [row["way"] for row in measuring.rows] == [
        *("TensorRT FP32", "TensorRT FP16", "TensorRT FP16", "TensorRT INT8"),
    ]
    [*_, int8] = measuring.rows
    assert (int8["builds_at_a_time"], int8["had_timings"]) == (2, False)
    assert int8["ms"] == 2.0
    assert [tried["milliseconds"] for tried in int8["tried"]] == [2.0, 5.0, 6.0]
    assert int8["tried"][0]["placement"] == "layers of 32 channels and more"


def test_a_row_that_is_known_is_not_measured_again(build, tmp_path, monkeypatch):
    build(Builder(int8=float("inf"), fp16=float("inf")))
    rows = [{"way": "TensorRT FP32", "batch": 1, "form": "written out", "ms": 1.0}]
    (tmp_path / gpu_network.ROWS).write_text(json.dumps(rows), encoding="utf-8")
    monkeypatch.delattr(gpu_network.Measuring, "_of_engine")
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    measuring = gpu_network.Measuring("net", tmp_path, argparse.Namespace())
    measuring.measure()
    assert [row.get("failed") for row in measuring.rows] == [None, *["RuntimeError: no kernel"] * 2]
