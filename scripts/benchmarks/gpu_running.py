"""Which step of which network runs when and on which GPU, for :mod:`gpu`.

What is timed has a GPU to itself: first PyTorch, and after all builds what was built. Builds
run side by side, since they are the CPU's work for the most part. Two processes that time take
turns on a GPU: one loads while the other measures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpu_build import ROWS
from gpu_network import COMPILED
from gpu_table import table
from publishing import RESULTS, circumstances, write

PREPARATIONS = ("export", "quantize")
GPU_STEPS = ("pytorch", "build", "measure")
_NEEDS = {"pytorch": "", "build": "quantize", "measure": ""}
_ROWS = {
    "pytorch": ("PyTorch FP32", "PyTorch TF32", "PyTorch AMP"),
    "build": ("TensorRT FP32", "TensorRT FP16", "TensorRT INT8"),
    "measure": ("TensorRT FP32", "TensorRT FP16", "TensorRT INT8"),
}
_LEAST_SECONDS = 15.0
"""A step is not begun with less than this left."""
_MEASURING = 2
"""Processes of what is timed on each GPU, of which one has it."""
_TO_MEASURE, _AT_MOST = 0.25, 200.0
"""Share of the time that is left to measure what was built, and the most seconds that it takes."""


class Run:
    """Measures all networks; its report is written after each row.

    Args:
        options: As :mod:`gpu` parses them.
        command: What starts one of its processes, but for the step.

    Attributes:
        measures: Whether there will be results, not only preparations.
    """

    def __init__(self, options: argparse.Namespace, command: Sequence[str]) -> None:
        self.measures = any(step in GPU_STEPS for step in options.steps)
        self._options = options
        self._command = list(command)
        self._end = time.monotonic() + options.total
        reserved = min(_TO_MEASURE * options.total, _AT_MOST)
        self._builds_end = self._end - (reserved if "measure" in options.steps else 0.0)
        self._lock = threading.Lock()
        self._turns = {gpu: threading.Lock() for gpu in options.gpus}
        self._pending: list[tuple[str, str]] = []
        self._failed: set[str] = set()  # what could not be prepared
        self._begun: dict[str, dict[str, Any]] = {}
        facts = circumstances()
        self._report: dict[str, Any] = {
            **facts,
            "networks": {name: {"ways": [], "warnings": []} for name in options.networks},
        }
        if options.resume:
            self._take_up(RESULTS / f"gpu-{facts['date']}.json")

    def all(self) -> dict[str, Any]:
        """Measure everything there is time for; return the report."""
        options = self._options
        prepared = options.networks if {"prepare", "build"} & set(options.steps) else ()
        with ThreadPoolExecutor(options.prepare) as preparing:
            parts = [preparing.submit(self._prepare, name) for name in prepared]
            for step in filter(GPU_STEPS.__contains__, options.steps):
                self._pending = [(name, step) for name in options.networks]
                gpus = options.gpus * (options.builds if step == "build" else _MEASURING)
                with ThreadPoolExecutor(len(gpus)) as pool:
                    served = [pool.submit(self._serve, gpu) for gpu in gpus]
                for part in served:
                    part.result()
            for part in parts:
                part.result()
        self._write()
        return self._report

    def _facts_of(self, name: str, preparation: str) -> dict[str, Any]:
        """Return what a network's preparation told, in this run or before it; {} if it has not."""
        path = self._options.work / name / f"{preparation}.json"
        facts: dict[str, Any] = (
            json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        )
        return facts

    def _take_up(self, path: Path) -> None:
        """Keep the rows of an earlier run, and what it says of itself."""
        if not path.exists():
            return
        known = json.loads(path.read_text(encoding="utf-8"))
        self._report["networks"].update(
            {
                name: {
                    **{key: value for key, value in found.items() if key != "failed"},
                    "ways": [row for row in found["ways"] if _is_worth_keeping(row)],
                }
                for name, found in known["networks"].items()
                if name in self._options.networks
            }
        )
        # A later run may be another Python's, without what an earlier one had.
        self._report["versions"] = {**known["versions"], **self._report["versions"]}
        for key in ("command", "machine"):
            if known[key] != self._report[key]:
                self._report[key] = f"{known[key]}; {self._report[key]}"

    def _prepare(self, name: str) -> None:
        """Export and quantize a network, unless that has been done.

        It is quantized on a GPU where nothing is timed meanwhile.
        """
        is_timed = "pytorch" in self._options.steps
        for step in PREPARATIONS:
            gpu = "" if is_timed or step == "export" else self._options.gpus[-1]
            if self._facts_of(name, step) or self._end - time.monotonic() < _LEAST_SECONDS:
                continue
            if self._in_a_process(name, step, gpu, float("inf")):
                with self._lock:
                    self._failed.add(name)
                return

    def _serve(self, gpu: str) -> None:
        """Run one step after the other on a GPU, until none is left or the time is up."""
        while True:
            with self._lock:
                if not self._pending:
                    return
                step = self._pending[0][1]
                left = (self._builds_end if step == "build" else self._end) - time.monotonic()
                if left <= _LEAST_SECONDS:
                    return
                place = next((n for n, task in enumerate(self._pending) if self._ready(*task)), -1)
                name = self._pending.pop(place)[0] if place >= 0 else ""
            if not name:
                time.sleep(0.2)
                continue
            if self._is_known(name, step):
                continue
            print(f"{time.strftime('%H:%M:%S')} {name}, {step}, on GPU {gpu}", flush=True)
            self._in_a_process(name, step, gpu, min(self._options.limit, left))

    def _is_known(self, name: str, step: str) -> bool:
        """Tell whether a step's rows were there before."""
        found = {(row["way"], row["batch"]) for row in self._report["networks"][name]["ways"]}
        ways = _ROWS.get(step, ())
        wanted = {(way, count) for way in ways for count in self._options.batches}
        if step == "pytorch" and self._options.compile:
            wanted.add((COMPILED, self._options.batches[0]))
        return bool(wanted) and wanted <= found

    def _ready(self, name: str, step: str) -> bool:
        """Tell whether a step can be run; where its preparation failed, it says so in its rows."""
        needed = _NEEDS[step]
        return not needed or bool(self._facts_of(name, needed)) or name in self._failed

    def _in_a_process(self, name: str, step: str, gpu: str, seconds: float) -> str:
        """Run one step of a network; return what it failed of, if it did."""
        folder = self._options.work / name
        folder.mkdir(parents=True, exist_ok=True)
        found = self._report["networks"][name]
        command = [*self._command, "--network", name, "--step", step]
        with self._lock:
            (folder / ROWS).write_text(json.dumps(found["ways"]), encoding="utf-8")
            if "peaks" not in found:
                command.append("--peaks")
        # Engines are always built; TensorRT's timings of its kernels may be kept between runs.
        kept = self._options.timings / name if self._options.timings else folder / "cache"
        environment = {**os.environ, "MEDPTQ_CACHE": str(kept), "CUDA_VISIBLE_DEVICES": gpu}
        if not gpu:
            threads = max((os.cpu_count() or 1) // (2 * self._options.prepare), 1)
            environment["OMP_NUM_THREADS"] = str(threads)
        with tempfile.TemporaryFile("w+") as complaints:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                env=environment,
            )
            left = min(seconds, self._end - time.monotonic() + _LEAST_SECONDS)
            timer = threading.Timer(min(left, threading.TIMEOUT_MAX), process.kill)
            timer.start()
            assert process.stdout is not None
            with contextlib.ExitStack() as turn:
                for line in process.stdout:
                    facts = json.loads(line[1:]) if line.startswith("@") else {}
                    if "ready" in facts:
                        turn.enter_context(self._turns[gpu])
                        _tell_to_go_on(process)
                    elif facts:
                        self._note(name, facts)
                code = process.wait()  # only then its memory is free
            is_late = not timer.is_alive()
            timer.cancel()
            if not code:
                if gpu:
                    with self._lock:
                        self._begun.pop(name, None)
                return ""
            complaints.seek(0)
            said = [text.strip() for text in complaints if text.strip()]
        if is_late:
            failure = f"not finished within {left:.0f} s"
        else:
            failure = f"its process ended with {code}" + (f": {said[-1][:300]}" if said else "")
        self._note_failure(name, step, failure, is_late=is_late)
        return failure

    def _note(self, name: str, facts: dict[str, Any]) -> None:
        """Keep something that a process told."""
        with self._lock:
            found = self._report["networks"][name]
            if "way" in facts:
                found["ways"].append(facts)
                self._begun.pop(name, None)
            elif "begun" in facts:
                self._begun[name] = facts
            elif "built" in facts:
                found.setdefault("builds", []).append(facts)
            elif "warning" in facts:
                found["warnings"].append(facts["warning"])
            else:
                found.update(facts)
        if "way" in facts:
            self._write()

    def _note_failure(self, name: str, step: str, failure: str, *, is_late: bool) -> None:
        with self._lock:
            found = self._report["networks"][name]
            begun = self._begun.pop(name, None) if step in GPU_STEPS else None
            if begun is None:
                earlier = [found["failed"]] if "failed" in found else []
                found["failed"] = "; ".join([*earlier, f"{step}: {failure}"])
            else:
                row = {"way": begun["begun"], "batch": begun["batch"], "failed": failure}
                found["ways"].append({**row, "unfinished": True} if is_late else row)
        self._write()

    def _write(self) -> None:
        if not self.measures:
            return  # the results of before stand
        with self._lock:
            for name, found in self._report["networks"].items():
                for step in PREPARATIONS:
                    found.update(self._facts_of(name, step))
            write("gpu", self._report, table(self._report))


def _tell_to_go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it was killed while it waited
        process.stdin.write("\n")
        process.stdin.flush()


def _is_worth_keeping(row: dict[str, Any]) -> bool:
    is_whole = "failed" not in row and "unfinished" not in row
    return is_whole and (row["way"].startswith("PyTorch") or "form" in row)
