"""Telling the client how a job goes on: progress, warnings and heartbeats."""

from __future__ import annotations

import logging
import threading
import time

from medptq.progress import Progress, Reporter
from medptq.worker.jobs import Job
from medptq.worker.messages import notification
from medptq.worker.wire import Wire

HEARTBEAT_SECONDS = 2.0
_PROGRESS_SECONDS = 0.1


class Teller:
    """Sends notifications on one job as long as its block runs, and none after.

    Args:
        job: The job.
        wire: Where they go.
        log: Is told of the stages.

    Attributes:
        reporter: To be passed to the work.
        warnings: Every warning so far.
    """

    def __init__(self, job: Job, wire: Wire, log: logging.Logger) -> None:
        self.warnings: list[str] = []
        self.reporter = Reporter(self._progress, self._warn, job.cancelled.is_set)
        self._job = job
        self._wire = wire
        self._log = log
        self._stage = "Starting"
        self._started = time.monotonic()
        self._told = 0.0
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Teller:
        """Begin with a heartbeat."""
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send nothing more."""
        self._ended.set()
        self._heart.join()

    def _beat(self) -> None:
        # A thread of its own: if a library hangs and holds the interpreter, so does this.
        while not self._ended.is_set():
            elapsed = round(time.monotonic() - self._started, 1)
            self._tell("heartbeat", stage=self._stage, elapsed_seconds=elapsed)
            self._ended.wait(HEARTBEAT_SECONDS)

    def _progress(self, report: Progress) -> None:
        now = time.monotonic()
        is_news = report.stage != self._stage or report.done == report.total
        if not is_news and now - self._told < _PROGRESS_SECONDS:
            return
        if report.stage != self._stage:
            self._log.info("request %r: %s", self._job.id, report.stage)
        self._stage, self._told = report.stage, now
        self._tell(
            "progress",
            stage=report.stage,
            done=report.done,
            total=report.total,
            fraction=report.fraction,
            eta_seconds=report.eta_seconds,
        )

    def _warn(self, sentence: str) -> None:
        self.warnings.append(sentence)
        self._tell("warning", text=sentence)

    def _tell(self, method: str, **params: object) -> None:
        self._wire.send(notification(method, id=self._job.id, **params))
