"""The networks of MedPTQ on NVIDIA GPUs: PyTorch, TensorRT, and INT8 as it was placed here.

One row a network and way to run it: the time of a batch of patches beside the least that the GPU's
peaks allow, the engine's size, the device memory, the build's time, the output's error and what
the layers really run in; for INT8 a row for each placement that was tried. Weights are random,
which does not change the times. What fails has a row that says why.

First PyTorch is timed, while graphs are exported and quantized on the CPU; then everything is
built, FP32, FP16 in each form of the normalizations, and INT8; then what was built is timed. Each
step of each network has a process of its own, and what is timed a GPU to itself; ``--builds``
networks are built at a time on each GPU, which takes about a core for each. Every row is
written as soon as it is known, and with ``--resume`` those that today's results have are not
measured again, nor is what lies in ``--work`` built again. Without GPUs, ``--steps prepare``
exports and quantizes for a later run, and writes no results.

    python scripts/benchmarks/gpu.py                                  # MedPTQ's seven, then three
    python scripts/benchmarks/gpu.py --networks unet nnunet --batches 1 4 --compile
    python scripts/benchmarks/gpu.py --gpus 0 1 --builds 5            # ten built at a time
    python scripts/benchmarks/gpu.py --total 780 --timings CACHE --resume
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import gpu_build
import gpu_network
import gpu_prepare
from gpu_running import GPU_STEPS, PREPARATIONS, Run
from gpu_table import table
from publishing import publish

from medptq.artifacts import atomic_file, write_json
from medptq.models.architectures.registry import ARCHITECTURES

SEVEN = ("unet", "nnunet", "segresnet", "swinunetr-b", "vista3d", "transunet", "unest")
NETWORKS = (*SEVEN, "unetr", "stunet-b", "medformer")


def one_step(options: argparse.Namespace) -> None:
    """Do one step of one network, in this process."""
    folder = options.work / options.network
    if options.step in PREPARATIONS:
        if options.step == "export":
            facts = gpu_prepare.export(options.network, folder)
        else:
            facts = gpu_prepare.quantize(folder)
        # By a file, as no process waits for this one alone, and a later run tells it, too.
        with atomic_file(folder / f"{options.step}.json", overwrite=True) as part:
            write_json(part, facts)
        return
    if options.step == "build":
        gpu_build.Building(folder, options).build(options.batches)
        return
    measuring = gpu_network.Measuring(options.network, folder, options)
    getattr(measuring, options.step)()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=list(ARCHITECTURES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--gpus", nargs="+", default=["0"], help="each runs a network at a time")
    parser.add_argument("--builds", type=int, default=1, help="at a time on each GPU")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile, too, at the first batch"
    )
    parser.add_argument("--steps", nargs="+", default=GPU_STEPS, choices=("prepare", *GPU_STEPS))
    parser.add_argument("--search-seconds", type=float, default=300, help="for INT8's placements")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for a step of a network")
    parser.add_argument("--total", type=float, default=1e9, help="seconds for all of them")
    parser.add_argument("--resume", action="store_true", help="keep the rows of today's results")
    parser.add_argument("--timings", type=Path, help="a cache to keep TensorRT's timings in")
    parser.add_argument("--inspect", type=Path, help="a folder for TensorRT's own descriptions")
    parser.add_argument("--prepare", type=int, default=4, help="networks at a time, on the CPU")
    parser.add_argument("--work", type=Path, help="a folder to keep graphs in")
    parser.add_argument("--network", help=argparse.SUPPRESS)  # the process of one step
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--peaks", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.network:
        one_step(options)
        return
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, __file__, *sys.argv[1:]]
        if options.work is None:
            options.work = Path(temporary)
            command += ["--work", temporary]
        run = Run(options, command)
        report = run.all()
    if run.measures:
        publish("gpu", report, table(report))


if __name__ == "__main__":
    main()
