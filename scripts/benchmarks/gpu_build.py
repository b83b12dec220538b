"""Building one network for TensorRT in each precision, for :mod:`gpu` to measure afterwards.

TensorRT builds on one core of the CPU and leaves the GPU idle most of that time, so networks are
built side by side. What a build measures meanwhile only serves to choose what is built next; every
engine is kept in the network's folder, and timed when nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
from gpu_prepare import SHAPE, tell, words

import medptq
from medptq.artifacts import atomic_file, write_json
from medptq.engines.checked_graph import checked_graph
from medptq.engines.protocol import BuildRequest, Precision
from medptq.engines.tensorrt_checked_build import (
    CheckedBuild,
    build_and_measure,
    require_agreement,
)
from medptq.engines.tensorrt_graph import with_input_shape
from medptq.engines.tensorrt_library import import_tensorrt, is_strongly_typed
from medptq.engines.tensorrt_normalization import Form, forms_for
from medptq.engines.tensorrt_plan import Tried
from medptq.engines.tensorrt_search import build_fastest
from medptq.errors import EngineError

ROWS = "rows.json"
"""The file in a network's folder that holds its rows of before."""
ENGINES = "engines"
"""The folder in a network's folder for what was built: an engine each, and a file that tells."""

_ORDER = {"fp32": 0, "fp16": 1, "int8": 2}


def records(folder: Path) -> list[dict[str, Any]]:
    """Return what was built of a network: FP32 first, then FP16, then INT8.

    Args:
        folder: The network's.
    """
    paths = sorted((folder / ENGINES).glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


class Building:
    """Builds a network; what was built or measured before is not built again.

    Args:
        folder: The network's.
        options: As :mod:`gpu` parses them.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._seconds = options.search_seconds
        rows = folder / ROWS
        measured = json.loads(rows.read_text(encoding="utf-8")) if rows.exists() else []
        self._known = [
            row
            for row in (*measured, *records(folder))
            if "form" in row and "failed" not in row and "unfinished" not in row
        ]
        (folder / ENGINES).mkdir(exist_ok=True)

    def build(self, counts: Sequence[int]) -> None:
        """Build FP32, FP16 in each form of the normalizations, and INT8 in the best of these.

        At further batches only what was the fastest form at the first, and INT8 if it was the
        fastest there: each is as much work again.

        Args:
            counts: The batches.
        """
        first, *more = counts
        forms = self._forms("fp16", first)
        self._in_floating_point(first, forms)
        best = self._fastest_forms(first) or forms
        for count in more:
            self._in_floating_point(count, best[:1])
        self._build("int8", first, best, 0)
        for count in more if self._is_int8_fastest(first) else ():
            self._build("int8", count, best, 0)

    def _in_floating_point(self, count: int, forms: Sequence[Form]) -> None:
        self._build("fp32", count, self._forms("fp32", count)[:1], 0)
        for place, form in enumerate(forms):
            self._build("fp16", count, [form], place)

    def _fastest_forms(self, count: int) -> list[Form]:
        """Return the form that FP16 is fastest in, if any could be built."""
        half = {
            row["form"]: min(way["milliseconds"] for way in row["tried"] if way["milliseconds"])
            for row in self._known
            if (row["way"], row["batch"]) == ("TensorRT FP16", count) and "refused" not in row
        }
        return [min(half, key=half.__getitem__)] if half else []

    def _is_int8_fastest(self, count: int) -> bool:
        return any(
            (row["way"], row["batch"]) == ("TensorRT INT8", count)
            and row["tried"][0]["placement"] != "none"
            for row in self._known
        )

    def _forms(self, precision: Precision, count: int) -> tuple[Form, ...]:
        typed = is_strongly_typed(import_tensorrt())
        return forms_for(self._graph("fp32", count), precision, typed=typed)

    def _graph(self, precision: Precision, count: int) -> onnx.ModelProto:
        if precision == "int8":
            path = medptq.load_model(self._folder / "int8").int8
        else:
            path = self._folder / "network.onnx"
        shape = (count, *SHAPE[1:])
        return with_input_shape(checked_graph(BuildRequest(path, precision, shape)), shape)

    def _build(self, precision: Precision, count: int, forms: Sequence[Form], place: int) -> None:
        way, form = f"TensorRT {precision.upper()}", forms[0]
        known = {(row["way"], row["batch"], row["form"]) for row in self._known}
        if (way, count, form) in known:
            return
        tell(begun=way, batch=count)
        record: dict[str, Any] = {"way": way, "batch": count, "form": form}
        path = self._folder / ENGINES / f"{count:03d}-{_ORDER[precision]}-{place}.json"

        def so_far(built: list[dict[str, Any]]) -> None:
            note = "the search was cut off"
            tried = [{**one, "placement": note if precision == "int8" else "none"} for one in built]
            write_record(path, {**record, "tried": tried, "unfinished": True})

        reporter = medptq.Reporter(on_warning=lambda text: tell(warning=text))
        gate = Gate(path, so_far)
        started = time.monotonic()
        try:
            graph = self._graph(precision, count)
            seconds = self._seconds if precision == "int8" else 0.0
            plan = build_fastest(graph, precision, forms, reporter, seconds, gate)
            record["tried"] = [gate.with_file(vars(tried)) for tried in plan.tried]
        except Exception as error:
            # The fastest of what does not agree is shown all the same.
            refused = min(gate.built, key=lambda one: one["milliseconds"], default=None)
            why = error.why if isinstance(error, EngineError) else words(error)
            record["tried"] = [{**refused, "note": "does not agree"}] if refused else []
            record["refused" if refused else "failed"] = why
        record["build_seconds"] = time.monotonic() - started
        write_record(path, record)
        if "failed" not in record:
            self._known.append(record)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write what is known of a build, whole or not at all: the process may be killed."""
    with atomic_file(path, overwrite=True) as part:
        write_json(part, record)


class Gate:
    """Builds as medptq's TensorRT engine does, and writes what was built at once.

    Args:
        record: The path of the build's record; the engines' begin like it.
        so_far: Called after each build that agrees with all of those.

    Attributes:
        built: What was built, as :class:`Tried` tells it, with the engine's file.
    """

    def __init__(self, record: Path, so_far: Callable[[list[dict[str, Any]]], None]) -> None:
        self._record = record
        self._so_far = so_far
        self.built: list[dict[str, Any]] = []
        self._agreeing: list[dict[str, Any]] = []

    def __call__(
        self,
        graph: onnx.ModelProto,
        precision: Precision,
        form: Form,
        reporter: medptq.Reporter,
    ) -> CheckedBuild:
        """Do what ``build_checked`` does."""
        build = build_and_measure(graph, precision, form, reporter)
        tell(built=precision, form=form, ms=build.milliseconds, error=build.error)
        path = self._record.with_name(f"{self._record.stem}-{len(self.built)}.engine")
        path.write_bytes(build.engine)
        tried = Tried("none", build.milliseconds, build.error, "", form)
        one = {**vars(tried), "file": path.name}
        self.built.append(one)
        require_agreement(build)
        self._agreeing.append(one)
        self._so_far(self._agreeing)
        return build

    def with_file(self, tried: dict[str, Any]) -> dict[str, Any]:
        """Return what was tried with the engine's file, if there is one."""
        for one in self.built:
            same = all(one[key] == tried[key] for key in ("milliseconds", "error", "form"))
            if same and not one.get("taken"):
                one["taken"] = True  # two may have taken as long
                return {**tried, "file": one["file"]}
        return dict(tried)
