"""One network on the GPU, in this process: PyTorch, and TensorRT in each precision.

What :mod:`gpu` starts for each step of each network. Each row is told on standard output as soon
as it is known, so that what was measured before a time limit is kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
from gpu_limits import peaks, times_ms
from gpu_prepare import SHAPE, network, patch, tell

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
from medptq.engines.tensorrt_plan import Plan, Tried
from medptq.engines.tensorrt_search import build_fastest
from medptq.engines.tensorrt_session import TensorRTSession
from medptq.errors import EngineError

RUNS = 50
SLOWEST = 12
ROWS = "rows.json"
"""The file in a network's folder that holds its rows of before."""


class Measuring:
    """A network's rows, of which those that are known are not measured again."""

    def __init__(self, name: str, folder: Path, options: argparse.Namespace) -> None:
        self.name = name
        self.folder = folder
        self.options = options
        path = folder / ROWS
        self.rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []

    def row(
        self, way: str, batch: int, facts: Callable[[], dict[str, Any]], **known: Any
    ) -> dict[str, Any]:
        """Measure a row, tell and return it; what fails is a row that says why."""
        tell(begun=way, batch=batch)
        try:
            found = facts()
        except Exception as error:
            found = {"failed": words(error)}
        row = {"way": way, "batch": batch, **known, **found}
        self.rows.append(row)
        tell(**row)
        return row

    def of(self, way: str, batch: int) -> list[dict[str, Any]]:
        """Return the rows of a way."""
        return [row for row in self.rows if (row["way"], row["batch"]) == (way, batch)]

    # The steps.

    def pytorch(self) -> None:
        """Time the module in FP32, TF32, AMP and, if asked for, compiled."""
        import torch

        if self.options.peaks:
            tell(peaks=peaks())
        ways: list[tuple[str, bool, bool, bool]] = [
            ("PyTorch FP32", False, False, False),
            ("PyTorch TF32", True, False, False),
            ("PyTorch AMP", True, True, False),
        ]
        if self.options.compile:
            ways.append(("PyTorch AMP, torch.compile", True, True, True))
        module = network(self.name).cuda()
        batch = patch(self.folder).cuda()
        with torch.inference_mode():
            reference = _exactly(module, batch)
        for count in self.options.batches:
            image = batch.expand(count, -1, -1, -1, -1).contiguous()
            for title, tf32, amp, compiled in ways:
                if self.of(title, count):
                    continue
                torch.backends.cudnn.allow_tf32 = tf32
                torch.backends.cuda.matmul.allow_tf32 = tf32

                def facts(amp: bool = amp, compiled: bool = compiled, image: Any = image) -> Any:
                    torch.cuda.empty_cache()
                    before = used_mb()
                    called = torch.compile(module) if compiled else module

                    def run() -> Any:
                        with torch.inference_mode(), torch.autocast("cuda", enabled=amp):
                            return called(image)

                    weights = sum(weight.numel() * 4 for weight in module.parameters()) / 1e6
                    found = timed(run)
                    # The weights are there before.
                    memory = used_mb() - before + weights
                    return {**found, "error": error_of(run(), reference), "memory_mb": memory}

                self.row(title, count, facts)

    def tensorrt(self) -> None:
        """Measure TensorRT in FP32, and in FP16 with the first form that can be built."""
        for count in self.options.batches:
            for precision, way in (("fp32", "TensorRT FP32"), ("fp16", "TensorRT FP16")):
                if self.of(way, count):
                    continue
                for form in self._forms(precision, count):
                    if "ms" in self._build(precision, count, [form]):
                        break

    def forms(self) -> None:
        """Measure FP16 with the other forms of the normalizations."""
        for count in self.options.batches:
            known = {row["form"] for row in self.of("TensorRT FP16", count)}
            for form in self._forms("fp16", count):
                if form not in known:
                    self._build("fp16", count, [form])

    def int8(self) -> None:
        """Search what to run in INT8, with the form that was fastest in FP16."""
        for count in self.options.batches:
            if self.of("TensorRT INT8", count):
                continue
            half = [row for row in self.of("TensorRT FP16", count) if "ms" in row]
            best = [min(half, key=lambda row: row["ms"])["form"]] if half else None
            self._build("int8", count, best or self._forms("int8", count))

    def _forms(self, precision: Precision, count: int) -> tuple[Form, ...]:
        """Return the forms to measure."""
        typed = is_strongly_typed(import_tensorrt())
        return forms_for(self._graph("fp32", count), precision, typed=typed)

    def _graph(self, precision: Precision, count: int) -> onnx.ModelProto:
        if precision == "int8":
            twin = medptq.load_model(self.folder / "int8")
            path = twin.int8
        else:
            path = self.folder / "network.onnx"
        shape = (count, *SHAPE[1:])
        return with_input_shape(checked_graph(BuildRequest(path, precision, shape)), shape)

    def _build(self, precision: Precision, count: int, forms: Sequence[Form]) -> dict[str, Any]:
        def facts() -> dict[str, Any]:
            seconds = self.options.search_seconds if precision == "int8" else 0.0
            graph = self._graph(precision, count)
            return self._in_tensorrt(graph, precision, count, forms, seconds)

        return self.row(f"TensorRT {precision.upper()}", count, facts, form=forms[0])

    def _in_tensorrt(
        self,
        graph: onnx.ModelProto,
        precision: Precision,
        count: int,
        forms: Sequence[Form],
        seconds: float,
    ) -> dict[str, Any]:
        import torch

        reporter = medptq.Reporter(on_warning=lambda text: tell(warning=text))
        gate = Gate()
        found: dict[str, Any] = {}
        started = time.monotonic()
        try:
            plan = build_fastest(graph, precision, forms, reporter, seconds, gate)
        except EngineError as error:
            plan = gate.fastest_refused()
            if plan is None:
                raise
            found["refused"] = error.why
        found["build_seconds"] = time.monotonic() - started
        torch.cuda.empty_cache()
        before = used_mb()
        with TensorRTSession(plan) as session:
            image = patch(self.folder).cuda().expand(session.input_shape).contiguous()
            found |= timed(lambda: session.run(image))
            found["memory_mb"] = used_mb() - before
            reference = torch.load(self.folder / "reference.pt", weights_only=True)
            found["error"] = error_of(session.run(image), reference)
            found["scratch_mb"] = session.scratch_bytes() / 1e6
            found["layers"] = dict(session.layer_precisions())
            layers = session.times_of_layers()
            found["slowest_layers_ms"] = dict(
                sorted(layers.items(), key=lambda layer: -layer[1])[:SLOWEST]
            )
            if self.options.inspect:
                path = self.options.inspect / f"{self.name}-{precision}-{count}.json"
                path.write_text(session.information(), encoding="utf-8")
        found["engine_mb"] = len(plan.engine) / 1e6
        found["form"] = plan.tried[0].form
        found["tried"] = [vars(way) for way in plan.tried]
        return found


class Gate:
    """Builds as medptq's TensorRT engine does, but keeps what does not agree, to be shown."""

    def __init__(self) -> None:
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
        return build

    def fastest_refused(self) -> Plan | None:
        """Return what was the fastest of what does not agree."""
        if not self.refused:
            return None
        build, form = min(self.refused, key=lambda refused: refused[0].milliseconds)
        tried = Tried("none", build.milliseconds, build.error, "does not agree", form)
        return Plan(build.engine, (tried,))


def _exactly(module: Any, batch: Any) -> Any:
    """Return the module's output in FP32: by default PyTorch convolves in TF32."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return module(batch).float().cpu()


def timed(run: Callable[[], Any]) -> dict[str, Any]:
    """Return the median, least and largest time of a run on the GPU, in milliseconds."""
    for _ in range(5):
        run()
    times = times_ms(run, RUNS)
    return {"ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times)}


def error_of(found: Any, reference: Any) -> float:
    """Return the root mean square error of the first output, as a share of the reference's."""
    found = found[:1].float().cpu()
    return float((found - reference[:1]).norm() / reference[:1].norm())


def used_mb() -> float:
    import torch

    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 1e6


def words(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:400] if lines else ''}"
