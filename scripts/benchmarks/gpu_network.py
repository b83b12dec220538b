"""Timing one network on the GPU, in this process: PyTorch, and what TensorRT made of it.

What :mod:`gpu` starts for each network. It loads what it needs while another still measures, and
waits until it is told on standard input that it has the GPU to itself. Each row is told on standard
output as soon as it is known, so that what was measured before a time limit is kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gpu_build import ENGINES, ROWS, records
from gpu_limits import peaks, times_ms
from gpu_prepare import network, patch, tell, words

from medptq.engines.tensorrt_plan import Plan
from medptq.engines.tensorrt_session import TensorRTSession

COMPILED = "PyTorch AMP, torch.compile"
RUNS, LEAST_RUNS = 50, 10
_SECONDS = 1.5
"""Fewer runs than ``RUNS`` are timed, but not fewer than ``LEAST_RUNS``, if all take longer."""
SLOWEST = 12


class Measuring:
    """A network's rows, of which those that are known are not measured again."""

    def __init__(self, name: str, folder: Path, options: argparse.Namespace) -> None:
        self.name = name
        self.folder = folder
        self.options = options
        path = folder / ROWS
        self.rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []

    def row(self, way: str, batch: int, facts: Callable[[], dict[str, Any]], **known: Any) -> None:
        """Measure a row and tell it; what fails is a row that says why."""
        tell(begun=way, batch=batch)
        try:
            found = facts()
        except Exception as error:
            found = {"failed": words(error)}
        row = {"way": way, "batch": batch, **known, **found}
        self.rows.append(row)
        tell(**row)

    def pytorch(self) -> None:
        """Time the module in FP32, TF32, AMP and, if asked for, compiled."""
        import torch

        module, batch = network(self.name), patch(self.folder)
        _wait_for_the_gpu()
        if self.options.peaks:
            tell(peaks=peaks())
        module, batch = module.cuda(), batch.cuda()
        ways: list[tuple[str, bool, bool, bool]] = [
            ("PyTorch FP32", False, False, False),
            ("PyTorch TF32", True, False, False),
            ("PyTorch AMP", True, True, False),
        ]
        if self.options.compile:
            ways.append((COMPILED, True, True, True))
        with torch.inference_mode():
            reference = _exactly(module, batch)
        for count in self.options.batches:
            image = batch.expand(count, -1, -1, -1, -1).contiguous()
            for title, tf32, amp, compiled in ways:
                if compiled and count != self.options.batches[0]:
                    continue
                if any((row["way"], row["batch"]) == (title, count) for row in self.rows):
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

    def measure(self) -> None:
        """Time what was built, with nothing else on the GPU."""
        known = {(row["way"], row["batch"], row.get("form")) for row in self.rows}
        _wait_for_the_gpu()
        for record in records(self.folder):
            way, batch, form = record["way"], record["batch"], record["form"]
            if (way, batch, form) not in known:
                self.row(way, batch, partial(self._facts, record), form=form)

    def _facts(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the figures of the fastest engine of a way, and what else was tried."""
        if "failed" in record:
            return {"failed": record["failed"]}
        found, rest = [], []
        for tried in record["tried"]:
            file = tried.pop("file", None)
            if file is None:
                rest.append(tried)
                continue
            try:
                facts = self._of_engine(file)
            except Exception as error:
                rest.append({**tried, "milliseconds": None, "note": words(error)})
            else:  # in place of what was measured beside other builds
                found.append((facts, {**tried, "milliseconds": facts["ms"]}))
        if not found:
            return {"failed": rest[0]["note"]}
        found.sort(key=lambda way: way[0]["ms"])
        kept = ("build_seconds", "refused", "unfinished", "builds_at_a_time", "had_timings")
        told = {key: record[key] for key in kept if key in record}
        form = found[0][1]["form"]
        return {**found[0][0], **told, "form": form, "tried": [*(t for _, t in found), *rest]}

    def _of_engine(self, name: str) -> dict[str, Any]:
        import torch

        plan = Plan((self.folder / ENGINES / name).read_bytes(), ())
        torch.cuda.empty_cache()
        before = used_mb()
        with TensorRTSession(plan) as session:
            image = patch(self.folder).cuda().expand(session.input_shape).contiguous()
            found = timed(lambda: session.run(image))
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
                path = self.options.inspect / f"{self.name}-{Path(name).stem}.json"
                path.write_text(session.information(), encoding="utf-8")
        return {**found, "engine_mb": len(plan.engine) / 1e6}


def _wait_for_the_gpu() -> None:
    """Tell gpu.py that all is loaded, and wait until what measured before has ended."""
    tell(ready=True)
    sys.stdin.readline()


def _exactly(module: Any, batch: Any) -> Any:
    """Return the module's output in FP32: by default PyTorch convolves in TF32."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return module(batch).float().cpu()


def timed(run: Callable[[], Any]) -> dict[str, Any]:
    """Return the median, least and largest time of a run on the GPU, in milliseconds."""
    slow = statistics.median(times_ms(run, 5))
    times = times_ms(run, max(LEAST_RUNS, min(RUNS, int(_SECONDS * 1e3 / slow))))
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
