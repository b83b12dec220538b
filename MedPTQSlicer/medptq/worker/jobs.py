"""The requests that wait for their turn, and the one that runs."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from medptq.worker.messages import INVALID_REQUEST, ProtocolError, Request, RequestId


@dataclass(eq=False)
class Job:
    """A request for work.

    Attributes:
        id: The request's.
        request: What is asked for.
        cancelled: Set when it is to stop.
    """

    id: RequestId
    request: Request
    cancelled: threading.Event = field(default_factory=threading.Event)


class JobQueue:
    """First come, first served; every method may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._is_closed = False

    def put(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            ProtocolError: Another one has its id, or the queue was closed.
        """
        with self._changed:
            if self._is_closed:
                raise ProtocolError(INVALID_REQUEST, "The worker is ending", job.id)
            if any(job.id == other.id for other in (self._running, *self._waiting) if other):
                raise ProtocolError(INVALID_REQUEST, "A request of this id is not done", job.id)
            self._waiting.append(job)
            self._changed.notify()

    def take(self) -> Job | None:
        """Wait for the next job, which then runs; None when the queue was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            self._running = self._waiting.popleft() if self._waiting else None
            return self._running

    def done(self) -> None:
        """Say that the job that runs has ended."""
        with self._changed:
            self._running = None

    def cancel(self, request_id: RequestId) -> Literal["queued", "running", "unknown"]:
        """Stop a job, and tell what it was doing: one that waited will not run."""
        with self._changed:
            if self._running is not None and self._running.id == request_id:
                self._running.cancelled.set()
                return "running"
            for job in self._waiting:
                if job.id == request_id:
                    self._waiting.remove(job)
                    return "queued"
        return "unknown"

    def close(self) -> list[Job]:
        """Take no more jobs, stop the one that runs, and return those that will not run."""
        with self._changed:
            self._is_closed = True
            left = list(self._waiting)
            self._waiting.clear()
            if self._running is not None:
                self._running.cancelled.set()
            self._changed.notify_all()
        return left

    def ids(self) -> tuple[RequestId | None, list[RequestId]]:
        """Return the id that runs, if any, and those that wait."""
        with self._changed:
            running = None if self._running is None else self._running.id
            return running, [job.id for job in self._waiting]
