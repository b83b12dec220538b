"""What goes on while the panel is away: the worker, and the jobs that run."""

from __future__ import annotations

from typing import Any, TypeVar

from MedPTQSlicerLib.jobFolder import closeAll
from MedPTQSlicerLib.jobs import Job
from MedPTQSlicerLib.workerClient import WorkerClient

T = TypeVar("T")

_NAME = "MedPTQSlicerBackground"


class Background:
    """The one worker of this Slicer and the jobs that run; see :func:`background`.

    Attributes:
        client: Sends requests to the worker.
        jobs: Those that run.
    """

    def __init__(self) -> None:
        import slicer

        self.client = WorkerClient()
        self.jobs: list[Job[Any]] = []
        slicer.app.connect("aboutToQuit()", self._onQuit)

    def run(self, job: Job[T]) -> Job[T]:
        """Start a job, keep it until it ends, and return it."""
        self.jobs.append(job)
        job.observe(finished=self.jobs.remove)
        return job.start()

    def stop(self) -> None:
        """Cancel all jobs and end the worker; nothing of it is left when this returns."""
        jobs = self.jobs.copy()
        for job in jobs:
            job.cancel()
        self.client.stop()
        for job in jobs:
            job.stop()

    def _onQuit(self) -> None:
        self.stop()
        closeAll()


def background() -> Background:
    """Return what outlives the panel, a closed scene, and a reload of this module.

    Slicer's ``slicer.modules`` holds it, as the modules of Python that a reload drops cannot. After
    a reload, jobs of the old code go on to their end with the worker that they have; when none is
    left, both are replaced.

    A reload must not drop ``medptq.errors``, or errors would no longer be what they are caught as.
    """
    import slicer

    held = getattr(slicer.modules, _NAME, None)
    if held is None or (type(held) is not Background and not held.jobs):
        if held is not None:
            held.stop()
        held = Background()
        setattr(slicer.modules, _NAME, held)
    found: Background = held
    return found
