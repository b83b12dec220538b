"""Train the project's own networks, on as many GPUs as there are, and tell how good each is.

    python scripts/train.py --data ../shared/data --output trained --seconds 60 --gpus 0 0 1 1

Every network is trained by a process of its own (train_network.py): as many at once as ``--gpus``
has entries, each on that GPU. A network that fails is told, and the others go on; one whose
folder is there already is left as it is, so that an interrupted run can be taken up again.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from train_networks import JOBS


def run_queue(
    names: Sequence[str],
    gpus: Sequence[str],
    command: Callable[[str], list[str]],
    logs: Path,
    told: Callable[[str, int, float], None],
) -> list[str]:
    """Run a process for each name, one at a time for each entry of ``gpus``.

    Args:
        names: What is to be run, in order.
        gpus: The GPU that each place's processes see; ``""`` for none.
        command: The command of a name.
        logs: Folder for what the processes print, ``<name>.log``.
        told: Called when a process has ended, with the name, the exit status and the seconds.

    Returns:
        The names that failed.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)
    failed: list[str] = []
    threads_each = str(max(1, (os.cpu_count() or 1) // len(gpus)))

    def work(gpu: str) -> None:
        environment = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": gpu,
            "OMP_NUM_THREADS": threads_each,
        }
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            started = time.monotonic()
            with (logs / f"{name}.log").open("w", encoding="utf-8") as log:
                status = subprocess.run(
                    command(name), env=environment, stdout=log, stderr=log, check=False
                ).returncode
            if status:
                failed.append(name)
            told(name, status, time.monotonic() - started)

    places = [threading.Thread(target=work, args=(gpu,)) for gpu in gpus]
    for place in places:
        place.start()
    for place in places:
        place.join()
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' folders")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60, help="of training a network")
    parser.add_argument("--gpus", nargs="+", metavar="N", help="one may be named several times")
    parser.add_argument("--networks", nargs="+", choices=JOBS, metavar="NAME", default=list(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    gpus = options.gpus or [str(n) for n in range(torch.cuda.device_count())] or [""]
    logs = options.output / "logs"
    logs.mkdir(parents=True, exist_ok=True)

    def command(name: str) -> list[str]:
        return [
            *(sys.executable, str(Path(__file__).with_name("train_network.py")), name),
            *("--data", str(options.data), "--output", str(options.output)),
            *("--seconds", f"{options.seconds * JOBS[name].share:g}"),
            *("--seed", str(options.seed)),
        ]

    def told(name: str, status: int, seconds: float) -> None:
        if status:
            lines = (logs / f"{name}.log").read_text(encoding="utf-8").splitlines()
            print(f"{name} FAILED in {seconds:.0f} s:", *lines[-4:], sep="\n  ", flush=True)
            return
        report = json.loads((options.output / name / "training.json").read_text(encoding="utf-8"))
        dice = ", ".join(f"{part} {found['mean']:.4f}" for part, found in report["dice"].items())
        print(f"{name}: Dice {dice}; {report['steps']} steps, {seconds:.0f} s", flush=True)

    names = [name for name in options.networks if not (options.output / name).exists()]
    failed = run_queue(names, gpus, command, logs, told)
    if failed:
        raise SystemExit(f"{len(failed)} of {len(names)} failed: {', '.join(sorted(failed))}")


if __name__ == "__main__":
    main()
