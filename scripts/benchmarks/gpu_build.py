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
import torch
from gpu_prepare import SHAPE, patch, tell, words

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
from medptq.models.cache import cache_folder

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
        self._circumstances = {
            "builds_at_a_time": options.builds,
            "had_timings": any(cache_folder("engines").glob("timings-*")),
        }
        rows = folder / ROWS
        measured = json.loads(rows.read_text(encoding="utf-8")) if rows.exists() else []
        self._known = [
            row
            for row in (*measured, *records(folder))
            if "form" in row and "failed" not in row and "unfinished" not in row
        ]
        self._failed: set[tuple[str, int, str]] = set()
        (folder / ENGINES).mkdir(exist_ok=True)
        self._sample = patch(folder)

    def build(self, counts: Sequence[int]) -> None:
        """Build FP32, FP16, and INT8, at last FP16 in the other forms of the normalizations.

        FP16 and INT8 are built in the first form that FP16 can be built in, the likely fastest; at
        further batches INT8 only if it was the fastest at the first, or nothing could be built
        there: each is as much work again.

        Args:
            counts: The batches.
        """
        first, *more = counts
        forms = self._forms("fp16", first)
        self._build("fp32", first, self._forms("fp32", first)[:1], 0)
        at_first = self._first_in_fp16(first, forms)
        if at_first:
            self._build("int8", first, at_first, 0)
        for count in more:
            self._build("fp32", count, self._forms("fp32", count)[:1], 0)
            likely = self._first_in_fp16(count, at_first or forms)
            if likely and (not at_first or self._is_int8_fastest(first)):
                self._build("int8", count, likely, 0)
        for place, form in enumerate(forms):
            self._build("fp16", first, [form], place)

    def _first_in_fp16(self, count: int, forms: Sequence[Form]) -> list[Form]:
        """Build FP16 in one form after the other until one can be built; return that."""
        for place, form in enumerate(forms):
            self._build("fp16", count, [form], place)
            if self._is_built("TensorRT FP16", count, form):
                return [form]
        return []

    def _is_built(self, way: str, count: int, form: Form) -> bool:
        return any(
            (row["way"], row["batch"], row["form"]) == (way, count, form) and "refused" not in row
            for row in self._known
        )

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
        if (way, count, form) in known | self._failed:
            return
        tell(begun=way, batch=count)
        record: dict[str, Any] = {"way": way, "batch": count, "form": form, **self._circumstances}
        path = self._folder / ENGINES / f"{count:03d}-{_ORDER[precision]}-{place}.json"

        def so_far(built: list[dict[str, Any]]) -> None:
            note = "the search was cut off"
            tried = [{**one, "placement": note if precision == "int8" else "none"} for one in built]
            write_record(path, {**record, "tried": tried, "unfinished": True})

        reporter = medptq.Reporter(on_warning=lambda text: tell(warning=text))
        gate = Gate(path, so_far, self._sample)
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
        if "failed" in record:
            self._failed.add((way, count, form))
        else:
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
        sample: The patch that is timed, [1, C, D, H, W], to hold each build against its graph on.

    Attributes:
        built: What was built, as :class:`Tried` tells it, with the engine's file.
    """

    def __init__(
        self,
        record: Path,
        so_far: Callable[[list[dict[str, Any]]], None],
        sample: torch.Tensor,
    ) -> None:
        self._record = record
        self._so_far = so_far
        self._sample = sample
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
        build = build_and_measure(graph, precision, form, reporter, samples=[self._sample])
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
