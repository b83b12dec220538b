"""Another program, run to its end by a job while Slicer stays usable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medptq.errors import Cancelled, MedPTQError
from MedPTQSlicerLib.childProcess import ChildProcess, Launch
from MedPTQSlicerLib.workerCall import CallListener

_KILL_MS = 500  # for the system to end a process


class ProgramError(MedPTQError):
    """A program cannot be run."""

    family = "program"


@dataclass(frozen=True)
class ProgramRequest:
    """A program to run; it is started when a job yields it, as is a request to the worker.

    The job is sent ``{"exitCode": int, "output": str, "errors": str}``, or thrown a
    :class:`ProgramError`: ``start``, ``timeout``; or :class:`medptq.errors.Cancelled`.

    Attributes:
        stage: What it does, for a person to read.
        program: The program.
        arguments: Its arguments.
        environment: Its environment, a ``qt.QProcessEnvironment``.
        folder: Its working folder.
        timeoutSeconds: When it is ended as one that hangs; None waits.
        onLine: Called with each line that it prints, and with who listens.
        isBreakable: Whether it may be ended in the middle. If not, the job cannot be cancelled
            meanwhile.
    """

    stage: str
    program: Path
    arguments: Sequence[str]
    environment: Any
    folder: Path
    timeoutSeconds: float | None = None
    onLine: Callable[[str, CallListener], None] | None = None
    isBreakable: bool = True

    def send(self, listener: CallListener) -> ProgramCall:
        """Start it; the listener is told of its end later."""
        return ProgramCall(self, listener)


class ProgramCall:
    """A program that runs.

    Attributes:
        isBreakable: As its request says.
    """

    def __init__(self, request: ProgramRequest, listener: CallListener) -> None:
        import qt

        self.isBreakable = request.isBreakable
        self._request = request
        self._listener = listener
        self._output = b""
        self._errors = b""
        self._unread = b""
        self._isOver = False
        self._killedFor: MedPTQError | None = None
        self._clock = qt.QTimer()
        self._clock.setSingleShot(True)
        self._clock.connect("timeout()", self._onTimeout)
        listener.onStage(request.stage, None, None)
        self._child = ChildProcess(
            Launch(str(request.program), request.arguments, request.environment, request.folder),
            onOutput=self._onOutput,
            onErrors=self._onErrors,
            onFinished=self._onFinished,
            onNotStarted=self._onNotStarted,
        )
        self._child.process.closeWriteChannel()
        if request.timeoutSeconds is not None:
            self._clock.start(int(request.timeoutSeconds * 1000))

    def cancel(self) -> None:
        """End the program with all that it has started, if it may be broken off."""
        if self.isBreakable:
            self._kill(Cancelled())

    def _onOutput(self, new: bytes) -> None:
        self._output += new
        if self._request.onLine is None or self._isOver:
            return
        *lines, self._unread = (self._unread + new).split(b"\n")
        for line in lines:
            self._request.onLine(line.decode("utf-8", errors="replace").rstrip(), self._listener)

    def _onErrors(self, new: bytes) -> None:
        self._errors += new

    def _onFinished(self) -> None:
        if self._isOver:
            return
        if self._killedFor is not None:
            self._fail(self._killedFor)
            return
        exitCode = int(self._child.process.exitCode())
        self._end()
        self._listener.onResult(
            {
                "exitCode": exitCode,
                "output": self._output.decode("utf-8", errors="replace"),
                "errors": self._errors.decode("utf-8", errors="replace"),
            }
        )

    def _onNotStarted(self) -> None:
        self._fail(
            ProgramError(
                "start",
                f"{self._request.program} cannot be run",
                why="it is not there, or is no program for this computer",
                todo="Choose another one",
            )
        )

    def _onTimeout(self) -> None:
        self._kill(
            ProgramError(
                "timeout",
                f"{self._request.program} does not answer",
                why=f"it has not ended within {self._request.timeoutSeconds:.0f} seconds",
                todo="Try again when this computer is less busy, or choose another one",
            )
        )

    def _kill(self, error: MedPTQError) -> None:
        import qt

        if self._isOver or self._killedFor is not None:
            return
        self._killedFor = error
        self._child.kill()
        # It has ended then, except where the system itself hangs.
        qt.QTimer.singleShot(_KILL_MS, lambda: self._fail(error))

    def _fail(self, error: MedPTQError) -> None:
        if not self._isOver:
            self._end()
            self._listener.onError(error)

    def _end(self) -> None:
        self._isOver = True
        self._clock.stop()
        self._child.process.deleteLater()
