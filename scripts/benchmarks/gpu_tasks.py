"""A given time of some GPUs shared among processes, for :mod:`on_gpus`.

Each process has a group of its own, so that it is stopped and killed with all that it started. One
begins when the files that it needs are there, and while one runs alone all others are stopped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_LOOK_EVERY = 0.1
"""Seconds."""
_LEAST_SECONDS = 20.0
"""Nothing is begun with less than this left."""
_LINES_TOLD = 4
"""Of what a process printed at last, if it failed."""


@dataclass(frozen=True)
class Task:
    """A process to run.

    Attributes:
        name: What it is called in what is told, and its log.
        command: What starts it.
        limit: Seconds after which it is killed; while it is stopped they do not count.
        needs: Files that must be there before it begins.
        until: The second since the start at which it is killed at the latest.
        total: The option that tells the process how many seconds it has; ``""`` for none.
        spare: How much less than it has is told, in seconds, so that it can end by itself.
        is_alone: Whether all others are stopped while it runs.
    """

    name: str
    command: Sequence[str]
    limit: float = float("inf")
    needs: Sequence[Path] = ()
    until: float = float("inf")
    total: str = ""
    spare: float = 0.0
    is_alone: bool = False


@dataclass(frozen=True)
class Lane:
    """Tasks that are run in order, but for those that still lack a file.

    Attributes:
        tasks: What is run.
        places: The GPUs that a process sees (``CUDA_VISIBLE_DEVICES``), for each that may run at
            a time.
        threads: Of the CPU, for each process.
        after: Names of tasks of other lanes that must have ended before.
    """

    tasks: Sequence[Task]
    places: Sequence[str]
    threads: int
    after: Sequence[str] = ()


@dataclass
class _Running:
    """A process, the place that it takes, and the seconds that it ran without being stopped."""

    task: Task
    lane: Lane
    place: int
    process: subprocess.Popen[bytes]
    used: float = 0.0

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and to all that it started."""
        with contextlib.suppress(ProcessLookupError):  # all have ended
            os.killpg(self.process.pid, number)


@dataclass
class Tasks:
    """Runs the tasks of lanes, and tells on standard output what begins and how it ends.

    Args:
        lanes: Served side by side; the names of all their tasks differ.
        seconds: After which nothing runs any more.
        logs: Folder for what the processes print, ``<name>.log``.
        environment: What each process's environment has beside this one's.
    """

    lanes: Sequence[Lane]
    seconds: float
    logs: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start = self._looked = time.monotonic()
        self._waiting = {task.name: task for lane in self.lanes for task in lane.tasks}
        self._running: list[_Running] = []
        self._ended: set[str] = set()
        self._failed: list[str] = []

    def run(self) -> list[str]:
        """Run all that there is time for; return the names of those that failed.

        Whatever ends this, an interruption too, nothing that was begun goes on.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            while self._now() < self.seconds:
                self._look()
                self._begin()
                if not self._running:
                    break  # nothing is left, or what it needs will never be there
                time.sleep(_LOOK_EVERY)
        finally:
            self._signal_all(signal.SIGKILL)
            for running in self._running:
                running.process.wait()
                self._tell(f"{running.task.name}: ended unfinished after {running.used:.0f} s")
            self._running.clear()
        for task in self._waiting.values():
            lacking = ", ".join(str(path) for path in task.needs if not path.exists())
            self._tell(f"{task.name}: not begun{lacking and f', it needs {lacking}'}")
        return self._failed

    def _now(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._start

    def _tell(self, text: str) -> None:
        print(f"{self._now():6.0f} s  {text}", flush=True)

    def _alone(self) -> _Running | None:
        """Return what runs while all others are stopped, if there is such."""
        return next((running for running in self._running if running.task.is_alone), None)

    def _look(self) -> None:
        """See what has ended, and end what has run for too long."""
        now, alone = time.monotonic(), self._alone()
        passed, self._looked = now - self._looked, now
        for running in list(self._running):
            if alone in (None, running):
                running.used += passed
            status = running.process.poll()
            task = running.task
            is_late = running.used >= task.limit or self._now() >= task.until
            if status is None and not is_late:
                continue
            running.send(signal.SIGKILL)  # what it started and left behind, too
            running.process.wait()
            self._running.remove(running)
            self._ended.add(task.name)
            if status is None:
                self._fail(task, f"killed at its limit, after {running.used:.0f} s")
            elif status:
                self._fail(task, f"failed with {status} after {running.used:.0f} s")
            else:
                self._tell(f"{task.name}: done in {running.used:.0f} s")
            if running is alone:
                self._signal_all(signal.SIGCONT)

    def _fail(self, task: Task, how: str) -> None:
        self._failed.append(task.name)
        log = self._log(task).read_text(encoding="utf-8", errors="replace")
        said = "".join(f"\n            {line}" for line in log.splitlines()[-_LINES_TOLD:])
        self._tell(f"{task.name}: {how}{said}")

    def _begin(self) -> None:
        """Begin what can be begun."""
        for lane in self.lanes:
            if not self._ended.issuperset(lane.after):
                continue
            taken = {running.place for running in self._running if running.lane is lane}
            for place in sorted(set(range(len(lane.places))) - taken):
                ready = next((task for task in lane.tasks if self._is_ready(task)), None)
                if ready is None or self._alone():
                    break
                self._start_process(ready, lane, place)

    def _is_ready(self, task: Task) -> bool:
        return (
            task.name in self._waiting
            and self._end(task) - self._now() >= _LEAST_SECONDS
            and all(path.exists() for path in task.needs)
        )

    def _end(self, task: Task) -> float:
        """Return the second since the start at which a task ends at the latest."""
        return min(task.until, self.seconds)

    def _start_process(self, task: Task, lane: Lane, place: int) -> None:
        gpus = lane.places[place]
        command = list(task.command)
        if task.total:
            seconds = min(task.limit, self._end(task) - self._now())
            command += [task.total, f"{seconds - task.spare:.0f}"]
        environment = {
            **os.environ,
            **self.environment,
            "CUDA_VISIBLE_DEVICES": gpus,
            "OMP_NUM_THREADS": str(lane.threads),
        }
        if task.is_alone:
            self._signal_all(signal.SIGSTOP)
        with self._log(task).open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        del self._waiting[task.name]
        self._running.append(_Running(task, lane, place, process))
        where = f"GPU {gpus}" if gpus else "the CPU"
        self._tell(f"{task.name}: begins on {where}{', alone' if task.is_alone else ''}")

    def _signal_all(self, number: signal.Signals) -> None:
        for running in self._running:
            running.send(number)

    def _log(self, task: Task) -> Path:
        return self.logs / f"{task.name}.log"
