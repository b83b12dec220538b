"""A program that Qt runs, and what it prints and how it ends, told to whoever started it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedPTQSlicerLib.processTree import killTree


@dataclass(frozen=True)
class Launch:
    """All that is needed to start a program.

    Attributes:
        program: The program.
        arguments: Its arguments.
        environment: Its environment, a ``qt.QProcessEnvironment``.
        folder: Its working folder.
    """

    program: str
    arguments: Sequence[str]
    environment: Any
    folder: Path


class ChildProcess:
    """A program, started on Qt's event loop.

    Args:
        launch: What is started, and how.
        onOutput: Called with each piece that it prints.
        onErrors: Called with each piece that it prints as errors.
        onFinished: Called when it has ended; all that it has printed was told by then.
        onNotStarted: Called instead if it could not be started; never before the constructor has
            returned.

    Attributes:
        process: Qt's own, a ``qt.QProcess``.
        isStarted: Whether it could be started.
    """

    def __init__(
        self,
        launch: Launch,
        *,
        onOutput: Callable[[bytes], None],
        onErrors: Callable[[bytes], None],
        onFinished: Callable[[], None],
        onNotStarted: Callable[[], None],
    ) -> None:
        import qt

        self.isStarted = False
        self._tellOutput = onOutput
        self._tellErrors = onErrors
        self._tellFinished = onFinished
        self._tellNotStarted = onNotStarted
        self.process = process = qt.QProcess()
        process.setProcessEnvironment(launch.environment)
        process.setWorkingDirectory(str(launch.folder))
        process.connect("started()", self._onStarted)
        process.connect("readyReadStandardOutput()", self._onOutput)
        process.connect("readyReadStandardError()", self._onErrors)
        process.connect("finished(int,QProcess::ExitStatus)", self._onFinished)
        process.connect("errorOccurred(QProcess::ProcessError)", self._onError)
        process.start(launch.program, list(launch.arguments))

    @property
    def pid(self) -> int:
        """Its process id; 0 while there is none."""
        return int(self.process.processId())

    def kill(self) -> None:
        """End it with all that it has started, at once and without waiting for its end.

        On Windows it takes as long as :func:`killTree` says.
        """
        pid = self.pid
        if pid:
            killTree(pid)  # first: Windows finds nothing below a process that has ended
        self.process.kill()

    def read(self) -> None:
        """Tell what it has printed since."""
        self._onOutput()
        self._onErrors()

    # PythonQt cannot hand over the enumerations of these signals everywhere; they are asked for.

    def _onStarted(self) -> None:
        self.isStarted = True

    def _onOutput(self) -> None:
        self._tellOutput(bytes(self.process.readAllStandardOutput().data()))

    def _onErrors(self) -> None:
        self._tellErrors(bytes(self.process.readAllStandardError().data()))

    def _onFinished(self, *_: object) -> None:
        self.read()
        self._tellFinished()

    def _onError(self, *_: object) -> None:
        import qt

        if not self.isStarted:
            # Some systems tell it while start() is still at work.
            qt.QTimer.singleShot(0, self._tellNotStarted)
