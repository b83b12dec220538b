"""Building one network for TensorRT in each precision, for :mod:`gpu` to measure afterwards.

TensorRT builds on one core of the CPU and leaves the GPU idle most of that time, so networks are
built side by side. What a build measures meanwhile only serves to choose what is built next; every
engine is kept in the network's folder, and timed when nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from gpu_prepare import SHAPE, tell, words

import medptq
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

ENGINES = "engines"
"""The folder in a network's folder for what was built: an engine each, and a file that tells."""


def records(folder: Path) -> list[dict[str, Any]]:
    """Return what was built of a network, in the order in which it was.

    Args:
        folder: The network's.
    """
    paths = sorted((folder / ENGINES).glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


class Building:
    """Builds a network; what was built before is not built again.

    Args:
        folder: The network's.
        options: As :mod:`gpu` parses them.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._seconds = options.search_seconds
        self._records = records(folder)
        (folder / ENGINES).mkdir(exist_ok=True)

    def build(self, count: int) -> None:
        """Build FP32, FP16 in each form of the normalizations, and INT8 in the best of these.

        Args:
            count: The batch.
        """
        self._build("fp32", count, self._forms("fp32", count)[:1], 0.0)
        for form in self._forms("fp16", count):
            self._build("fp16", count, [form], 0.0)
        half = [
            (tried["milliseconds"], record["form"])
            for record in self._records
            if (record["way"], record["batch"]) == ("TensorRT FP16", count)
            for tried in record["tried"]
            if "refused" not in record and tried["milliseconds"] is not None
        ]
        forms = [min(half)[1]] if half else self._forms("int8", count)
        self._build("int8", count, forms, self._seconds)

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

    def _build(
        self, precision: Precision, count: int, forms: Sequence[Form], seconds: float
    ) -> None:
        way = f"TensorRT {precision.upper()}"
        known = {(row["way"], row["batch"], row["form"]) for row in self._records}
        if (way, count, forms[0]) in known:
            return
        tell(begun=way, batch=count)
        record: dict[str, Any] = {"way": way, "batch": count, "form": forms[0]}
        reporter = medptq.Reporter(on_warning=lambda text: tell(warning=text))
        gate = Gate()
        started = time.monotonic()
        try:
            graph = self._graph(precision, count)
            plan = build_fastest(graph, precision, forms, reporter, seconds, gate)
            record["tried"] = [self._kept(tried, gate) for tried in plan.tried]
        except Exception as error:
            record["tried"] = self._refused(gate)
            why = error.why if isinstance(error, EngineError) else words(error)
            record["refused" if record["tried"] else "failed"] = why
        record["build_seconds"] = time.monotonic() - started
        self._records.append(record)
        path = self._folder / ENGINES / f"{len(self._records):02d}.json"
        path.write_text(json.dumps(record), encoding="utf-8")

    def _refused(self, gate: Gate) -> list[dict[str, Any]]:
        """Keep the fastest of what does not agree, to be shown."""
        if not gate.refused:
            return []
        build, form = min(gate.refused, key=lambda refused: refused[0].milliseconds)
        tried = Tried("none", build.milliseconds, build.error, "does not agree", form)
        return [self._kept(tried, gate)]

    def _kept(self, tried: Tried, gate: Gate) -> dict[str, Any]:
        """Write the engine of something that was tried, if there is one."""
        facts: dict[str, Any] = vars(tried).copy()
        for build, form in (*gate.passed, *gate.refused):
            if (build.milliseconds, form) == (tried.milliseconds, tried.form):
                folder = self._folder / ENGINES
                path = folder / f"{len(list(folder.glob('*.engine'))):02d}.engine"
                path.write_bytes(build.engine)
                facts["file"] = path.name
        return facts


class Gate:
    """Builds as medptq's TensorRT engine does, and keeps what was built."""

    def __init__(self) -> None:
        self.passed: list[tuple[CheckedBuild, Form]] = []
        self.refused: list[tuple[CheckedBuild, Form]] = []

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
        try:
            require_agreement(build, precision)
        except EngineError:
            self.refused.append((build, form))
            raise
        self.passed.append((build, form))
        return build
