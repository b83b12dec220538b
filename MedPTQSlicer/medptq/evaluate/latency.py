"""How long one run takes, measured so that it can be quoted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Latency:
    """Times of repeated runs of the same work, in milliseconds.

    Attributes:
        median: The figure to quote: a run that the system interrupted does not move it.
        min: The fastest run.
        max: The slowest run.
        runs: Runs that were timed, warm-up left out.
    """

    median: float
    min: float
    max: float
    runs: int


def measure_latency(
    run: Callable[[], object], *, warmup: int, runs: int, max_seconds: float
) -> Latency:
    """Time ``run`` by the wall clock, after a warm-up.

    The first runs are slower than all others (memory is allocated, kernels are chosen, clocks
    rise), so they are not counted. However slow the work is, one warm-up run (if any was asked
    for) and one timed run are always done; further ones only within ``max_seconds``.

    Args:
        run: The work. If it only queues work on a GPU, it must also wait for the GPU.
        warmup: Runs that are not counted.
        runs: Runs that are timed, at least 1.
        max_seconds: Begin no further run after this time, warm-up included; half of it may go
            to the warm-up.
    """
    started = time.perf_counter()
    for _ in range(warmup):
        run()
        if time.perf_counter() - started > max_seconds / 2:
            break
    times: list[float] = []
    while not times or (len(times) < runs and time.perf_counter() - started < max_seconds):
        before = time.perf_counter()
        run()
        times.append((time.perf_counter() - before) * 1000)
    return Latency(median=statistics.median(times), min=min(times), max=max(times), runs=len(times))
