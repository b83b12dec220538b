"""The networks of MedPTQ on NVIDIA GPUs: PyTorch, TensorRT, and INT8 as it was placed here.

One row a network and way to run it: the time of a batch of patches beside the least that the GPU's
peaks allow, the engine's size, the device memory, the build's time, the output's error and what
the layers really run in; for INT8 a row for each placement that was tried. Weights are random,
which does not change the times. Each network has a process of its own with a time limit, and a
GPU to itself; what fails has a row that says why, and what was measured before a limit is kept.

    python scripts/benchmarks/gpu.py                                  # MedPTQ's seven, then three
    python scripts/benchmarks/gpu.py --networks unet nnunet --batches 1 4 --compile
    python scripts/benchmarks/gpu.py --gpus 0 1 2 3                   # four at a time
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpu_limits import peaks
from gpu_network import measure, tell
from gpu_table import table
from publishing import circumstances, publish, write

from medptq.models.architectures.registry import ARCHITECTURES

SEVEN = ("unet", "nnunet", "segresnet", "swinunetr-b", "vista3d", "transunet", "unest")
NETWORKS = (*SEVEN, "unetr", "stunet-b", "medformer")


def in_a_process(
    name: str, gpu: str, options: argparse.Namespace, seconds: float
) -> dict[str, Any]:
    """Measure one network in a process of its own; return what it told until its end."""
    command = [sys.executable, __file__, *sys.argv[1:], "--network", name]
    found: dict[str, Any] = {"ways": [], "warnings": []}
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as complaints,
        tempfile.TemporaryDirectory() as cache,
    ):
        # Engines are always built; TensorRT's timings of its kernels may be kept between runs.
        kept = options.timings / name if options.timings else cache
        environment = {**os.environ, "MEDPTQ_CACHE": str(kept), "CUDA_VISIBLE_DEVICES": gpu}
        try:
            done = subprocess.run(
                command, stdout=out, stderr=complaints, timeout=seconds, env=environment
            ).returncode
            failure = f"its process ended with {done}" if done else ""
        except subprocess.TimeoutExpired:
            failure = f"stopped after {seconds:.0f} s"
        out.seek(0)
        for line in out:
            if line.startswith("@"):
                facts = json.loads(line[1:])
                if "way" in facts:
                    found["ways"].append(facts)
                elif "warning" in facts:
                    found["warnings"].append(facts["warning"])
                else:
                    found.update(facts)
        if failure:
            complaints.seek(0)
            said = [line.strip() for line in complaints if line.strip()]
            found["failed"] = f"{failure}: {said[-1][:400]}" if said else failure
    return found


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the networks, each on the first GPU that is free; write after each."""
    started = time.monotonic()
    has_timings = bool(options.timings and options.timings.exists())
    report: dict[str, Any] = {**circumstances(), "had_timings": has_timings, "networks": {}}
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for gpu in options.gpus:
        free.put(gpu)

    def one(name: str) -> tuple[str, dict[str, Any]]:
        gpu = free.get()
        try:
            left = options.total - (time.monotonic() - started)
            if left < 30:
                return name, {"ways": [], "failed": "not run: the time was up"}
            print(f"{name} on GPU {gpu} ...", flush=True)
            return name, in_a_process(name, gpu, options, min(options.limit, left))
        finally:
            free.put(gpu)

    found = {}
    with ThreadPoolExecutor(len(options.gpus)) as pool:
        for name, row in pool.map(one, options.networks):
            found[name] = row
            report["networks"] = found
            write("gpu", report, table(report))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=list(ARCHITECTURES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--gpus", nargs="+", default=["0"], help="each runs a network at a time")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too")
    parser.add_argument("--search-seconds", type=float, default=300, help="for INT8's placements")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for one network")
    parser.add_argument("--total", type=float, default=1e9, help="seconds for all of them")
    parser.add_argument("--timings", type=Path, help="a cache to keep TensorRT's timings in")
    parser.add_argument("--inspect", type=Path, help="a folder for TensorRT's own descriptions")
    parser.add_argument("--network", help=argparse.SUPPRESS)  # the process of one network
    options = parser.parse_args()
    if options.network:
        tell(peaks=peaks())
        measure(options.network, options)
        return
    report = measure_all(options)
    publish("gpu", report, table(report))


if __name__ == "__main__":
    main()
