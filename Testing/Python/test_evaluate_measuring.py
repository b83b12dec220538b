"""Latency and peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medptq.evaluate.latency import measure_latency
from medptq.evaluate.measured_run import measure_run
from medptq.models.loading import load_model
from medptq.progress import Reporter
from medptq.scans.sources import ScanSource
from tiny_network import write_network, write_scan

CHILD = """
import sys
from medptq.evaluate.memory import peak_memory_mb
before = peak_memory_mb()
block = bytearray(int(sys.argv[1]) * 1_000_000)
block[::4096] = b"x" * len(block[::4096])
del block
print(before, peak_memory_mb())
"""


def child_peak(megabytes: int) -> tuple[float, float]:
    out = subprocess.run(
        [sys.executable, "-c", CHILD, str(megabytes)], capture_output=True, text=True, check=True
    )
    before, after = out.stdout.split()
    return float(before), float(after)


def test_warm_up_runs_are_done_but_not_counted() -> None:
    calls: list[int] = []

    def run() -> None:
        time.sleep(0.05 if len(calls) < 2 else 0.001)
        calls.append(1)

    latency = measure_latency(run, warmup=2, runs=5, max_seconds=60)
    assert len(calls) == 7
    assert latency.runs == 5
    assert 1 <= latency.min <= latency.median <= latency.max


def test_slow_work_is_stopped_by_the_time_but_runs_once() -> None:
    calls: list[int] = []

    def run() -> None:
        calls.append(1)
        time.sleep(0.02)

    latency = measure_latency(run, warmup=5, runs=100, max_seconds=0.0)
    assert latency.runs == 1
    assert len(calls) == 2
    assert latency.min == latency.median == latency.max >= 20


def test_peak_memory_remembers_what_was_freed() -> None:
    before, after = child_peak(200)
    assert 200 * 0.95 <= after - before <= 200 * 1.3


def test_peak_memory_of_a_child_is_its_own() -> None:
    block = bytearray(300_000_000)
    block[::4096] = b"x" * len(block[::4096])
    before, _ = child_peak(1)
    assert before < 150
    assert len(block) == 300_000_000


def test_nothing_that_lies_in_the_working_directory_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDPTQ_CACHE", "cache")
    monkeypatch.setenv("PYTHONPATH", "", prepend=os.pathsep)  # ends with an empty entry
    write_network(tmp_path)
    write_scan(tmp_path / "scan.nii.gz", seed=0)
    for name in ("json", "numpy", "psutil", "runpy", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this was run')")
    monkeypatch.chdir(tmp_path)

    network = load_model(tmp_path / "net.onnx")
    source = ScanSource("scan", (Path("scan.nii.gz"),))
    run = measure_run(network, source, "pytorch", "fp32", tmp_path, Reporter())

    assert run.latency.runs > 0
    assert run.labels.ndim == 3
