"""All that needs NVIDIA GPUs, in one command and within a given time.

    python scripts/benchmarks/on_gpus.py --seconds 1330 --gpus 0 1 --data DATA --work WORK

For a machine with GPUs that is at hand for some minutes only. The first GPU times whole volumes
(whole_volume.py) while the CPU prepares the networks of gpu.py, then builds these, and at the end
all GPUs time them, with everything else stopped. The other GPUs run the tests, train networks
(train.py), and hold what few bits cost them against labels (``medptq benchmark``) and what is
simulated against what TensorRT computes (simulation_parity.py), each as soon as there is a network.
``--parts`` has only the whole volumes, the speed of patches or what is held against labels done,
the latter two on all GPUs.

It ends at once, and says why, where TensorRT, a GPU or a data set is missing. What was done when
the time ends is kept: results in results/, as the scripts write them; in WORK the logs, the
``networks`` of gpu.py, the ``trained`` ones and the benchmark's ``cells``. With the same WORK a
later run goes on. The scripts also take up results of the same day that another machine has left
in results/.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gpu_tasks import Lane, Task, Tasks

# As seen from where this is called, so that the commands in the results have no paths of a machine.
ROOT = Path(os.path.relpath(Path(__file__).resolve().parents[2]))
SCRIPTS = ROOT / "scripts"
MODELS = ROOT / "MedPTQSlicer" / "medptq" / "models" / "networks"

PARTS = ("volumes", "speed", "accuracy")

CHECK_SECONDS = 120.0
PLACES = 6  # on each GPU that is not timed on
TRAINED_AT_ONCE = 4  # likewise
BUILDS_AT_ONCE = 10
BUILDS = ("--batches", "1", "4", "--prepare", "5", "--resume")
TIMED_SECONDS, TIMED_AT_MOST = 340.0, 0.4
"""What gpu.py needs to time all networks on one GPU, and the most that this takes of all time."""
SPARE = 30.0
"""Seconds that gpu.py needs to begin and to end, beside what it is told that it has."""

LARGEST_FIRST = (
    *("vista3d", "medformer", "swinunetr-b", "unest", "segresnet", "nnunet", "stunet-b"),
    *("transunet", "unetr", "unet"),
)
INCLUDED = {
    "hippocampus-nnunet-small": "hippocampus-t1",
    "ixi2mm_dlmuse-nnunet-small": "brain-regions-t1",
}
HEADS = ("ixi2mm_dlmuse-nnunet", "ixi2mm_dlmuse-segresnet")
HIPPOCAMPUS = tuple(
    f"hippocampus-{title}"
    for title in (
        *("nnunet", "segresnet", "unet", "transunet", "swinunetr-s", "vista3d", "unetr"),
        *("stunet-b", "medformer", "swinunetr-t"),
    )
)
SIMULATED = tuple(
    f"hippocampus-{title}" for title in ("nnunet-small", "unet", "segresnet", "transunet")
)
IN_INT8, BY_CHANNEL, IN_4_BITS = (
    ("fp32", "w8a8-tensorrt"),
    ("w8a8-tensor", "w8a8-channel-tensorrt"),
    ("w4a8-recovered", "w4a8-tensorrt"),
)


class Plan:
    """What is run, where and in which order.

    Args:
        options: As :func:`parsed` returns them.
        python: What starts Python.
        compiles: Whether torch.compile is timed, too.
    """

    def __init__(
        self, options: argparse.Namespace, python: Sequence[str], *, compiles: bool
    ) -> None:
        self._python = tuple(python)
        self._seconds: float = options.seconds
        self._gpus: list[str] = options.gpus
        self._parts: list[str] = options.parts
        self._data: Path = options.data
        self._work: Path = options.work
        self._compiles = compiles

    def lanes(self) -> list[Lane]:
        """Return all tasks."""
        cores = os.cpu_count() or 1
        few, many = max(cores // 10, 1), max(cores // 4, 1)
        first, others = self._gpus[0], self._gpus[1:]
        lanes, timed = [], []
        if "volumes" in self._parts:
            lanes.append(Lane([self._whole_volume()], [first], many))
            timed.append("whole-volume")
        if "speed" in self._parts:
            built = [self._building(), self._timing()]
            before = list(timed)
            # While whole volumes are timed; else what builds prepares each network by itself.
            if timed:
                lanes.append(Lane([self._preparation()], [(others or [""])[-1]], few))
                before.append("prepare")
            lanes.append(Lane(built, [",".join(self._gpus)], few, before))
            if self._compiles:
                lanes.append(Lane(list(self._compiling()), others or [first], few, timed))
        if "accuracy" in self._parts:
            # With one GPU only nothing else begins before the whole volumes, which are timed there.
            after = () if others else timed
            gpus = self._not_timed_on()
            # What builds waits for minutes for a kernel's turn on a GPU that networks train on.
            checked = Lane(list(self._checks_and_cells()), gpus * PLACES, few, (*after, "train"))
            lanes += [Lane([self._training(gpus)], [",".join(gpus)], few, after), checked]
        return lanes

    def _not_timed_on(self) -> list[str]:
        """Return the GPUs that are not kept for what is built and timed, or the only one."""
        is_alone = self._parts == ["accuracy"]
        return (self._gpus if is_alone else self._gpus[1:]) or self._gpus

    def _built_on(self) -> list[str]:
        return self._gpus[:1] if "accuracy" in self._parts else self._gpus

    def _script(self, name: str, *arguments: str) -> list[str]:
        return [*self._python, str(SCRIPTS / name), *arguments]

    def _whole_volume(self) -> Task:
        lines = ("--lines", "monai", "pytorch-fp16", "tensorrt-fp16")
        others = ("--search-seconds", "45", "--runs", "3", "--limit", "160")
        script = self._script("benchmarks/whole_volume.py", *lines, *others)
        return Task("whole-volume", script, limit=330)

    def _gpu(self, *arguments: str) -> list[str]:
        folder = ("--work", str(self._work / "networks"))
        return self._script("benchmarks/gpu.py", *arguments, *folder)

    def _builds(self) -> list[str]:
        on_each = -(-BUILDS_AT_ONCE // len(self._built_on()))
        return ["--networks", *LARGEST_FIRST, "--builds", str(on_each), *BUILDS]

    def _preparation(self) -> Task:
        # What is not prepared in a third of the time is left to the building.
        # Quantizing takes far less time on a GPU, and nothing is timed on the last of several.
        place = ("--gpus", (self._gpus[1:] or [""])[-1])
        command = self._gpu("--steps", "prepare", *place, *self._builds())
        return Task("prepare", command, until=self._seconds / 3, total="--total", spare=SPARE)

    def _building(self) -> Task:
        timing = min(TIMED_SECONDS / len(self._gpus), TIMED_AT_MOST * self._seconds)
        command = self._gpu(
            *("--gpus", *self._built_on(), "--steps", "build", "--search-seconds", "120"),
            *self._builds(),
        )
        until = self._seconds - timing
        return Task("build", command, until=until, total="--total", spare=SPARE)

    def _timing(self) -> Task:
        # What was built first: it is lost with the machine, and PyTorch can be timed without it.
        command = self._gpu(
            *("--gpus", *self._gpus, "--steps", "measure", "pytorch", "--limit", "120"),
            *self._builds(),
            *["--compile"] * self._compiles,
        )
        return Task("timing", command, total="--total", spare=SPARE, is_alone=True)

    def _training(self, gpus: Sequence[str]) -> Task:
        places = list(gpus) * TRAINED_AT_ONCE
        command = self._script(
            *("train.py", "--data", str(self._data), "--output", str(self._work / "trained")),
            *("--seconds", "60", "--gpus", *places, "--networks", *HEADS, *HIPPOCAMPUS),
        )
        return Task("train", command, limit=420)

    def _checks_and_cells(self) -> Iterator[Task]:
        """Yield what the other GPUs run: first what is needed most of each kind."""
        for name in ("engines_tensorrt", "inference_on_gpu"):
            arguments = ("-v", "-p", "no:cacheprovider", "-m", "gpu")
            file = str(ROOT / "Testing" / "Python" / f"test_{name}.py")
            command = [*self._python, "-m", "pytest", *arguments, file]
            yield Task(f"test-{name}", command, limit=900)
        yield from self._cells("int8", INCLUDED, IN_INT8)
        yield self._simulation()
        yield from self._cells("int8", HIPPOCAMPUS[:5], IN_INT8)
        yield from self._cells("int8", (*HEADS, *HIPPOCAMPUS[5:]), IN_INT8)
        yield from self._cells("channel", (*INCLUDED, *HIPPOCAMPUS, *HEADS), BY_CHANNEL)
        yield from self._cells("4-bits", (*INCLUDED, *HIPPOCAMPUS), IN_4_BITS)

    def _compiling(self) -> Iterator[Task]:
        """Yield what fills the cache of torch.compile, so that timing has not to wait for it."""
        for name in LARGEST_FIRST:
            command = self._gpu("--network", name, "--step", "pytorch", "--compile")
            exported = self._work / "networks" / name / "export.json"
            yield Task(f"compile-{name}", command, limit=200, needs=(exported,))

    def _simulation(self) -> Task:
        # All in one process: it is one file of results.
        weights = [str(self._weights(name)) for name in SIMULATED]
        command = self._script(
            "benchmarks/simulation_parity.py", "--data", str(self._data), *weights
        )
        needs = [self._trained(name) for name in SIMULATED]
        return Task("simulation-parity", command, limit=900, needs=needs)

    def _cells(self, kind: str, networks: Iterable[str], recipes: Sequence[str]) -> Iterator[Task]:
        for name in networks:
            data_set = name.split("-", maxsplit=1)[0]
            command = [
                *(*self._python, "-m", "medptq", "benchmark", str(self._weights(name))),
                *("--data", str(SCRIPTS / "data_sets" / f"{data_set}.json")),
                *("--folder", str(self._data / data_set), "--output", str(self._work / "cells")),
                *("--recipes", *recipes),
            ]
            yield Task(f"{kind}-{name}", command, limit=700, needs=(self._trained(name),))

    def _weights(self, name: str) -> Path:
        return self._work / "trained" / name / f"{name}.pth"

    def _trained(self, name: str) -> Path:
        return self._work / "trained" / name / "training.json"


def require(options: argparse.Namespace) -> None:
    """Raise :class:`SystemExit` with a sentence unless all that is needed is there."""
    for name in sorted({name.split("-", maxsplit=1)[0] for name in (*HIPPOCAMPUS, *HEADS)}):
        if not (options.data / name).is_dir():
            raise SystemExit(
                f"Nothing was started: there is no data set {name} in {options.data}. "
                "Name the folder of the data sets' folders with --data."
            )
    script = str(Path(__file__).with_name("gpu_check.py"))
    try:
        status = subprocess.run(
            [sys.executable, script, *options.gpus], timeout=CHECK_SECONDS, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        status = -signal.SIGKILL
    if status > 0:
        raise SystemExit(status)  # the check has said why
    if status:
        raise SystemExit(
            f"Nothing was started: PyTorch and TensorRT were not there after {CHECK_SECONDS:.0f} s "
            f"or crashed ({signal.Signals(-status).name}). See what this says: "
            f"{sys.executable} {script} {' '.join(options.gpus)}"
        )


def put_included(trained: Path) -> None:
    """Put the networks that come with the program beside those that will be trained."""
    sys.path.insert(0, str(SCRIPTS))
    # Only here, as what these import has to be checked first.
    from train_networks import JOBS, card_of

    from medptq.artifacts import atomic_folder, write_json

    trained.mkdir(parents=True, exist_ok=True)
    for name, included in INCLUDED.items():
        if (trained / name).exists():
            continue
        with atomic_folder(trained / name) as folder:
            shutil.copyfile(MODELS / f"{included}.pth", folder / f"{name}.pth")
            shutil.copyfile(MODELS / f"{included}.training.json", folder / "training.json")
            write_json(folder / f"{name}.json", card_of(JOBS[name]))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, required=True, help="after which all has ended")
    parser.add_argument("--gpus", nargs="+", default=["0"], metavar="N", help="the first times")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' folders")
    parser.add_argument("--work", type=Path, required=True, help="folder for all but the results")
    return parser.parse_args()


def main() -> None:
    started = time.monotonic()
    options = parsed()
    require(options)
    put_included(options.work / "trained")
    options.seconds -= time.monotonic() - started
    compiles = importlib.util.find_spec("triton") is not None
    lanes = Plan(options, (sys.executable,), compiles=compiles).lanes()
    environment = {"MEDPTQ_CACHE": str(options.work / "cache"), "PYTHONUNBUFFERED": "1"}
    # Who ends this process ends all others with it, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        failed = Tasks(lanes, options.seconds, options.work / "logs", environment).run()
    except KeyboardInterrupt:
        raise SystemExit("Interrupted: nothing runs any more, and what was done is kept") from None
    if failed:
        raise SystemExit(f"{len(failed)} failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
