"""One worker's process: lines to it, messages from it, and its end with all that it has started."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from MedPTQSlicerLib.childProcess import ChildProcess
from MedPTQSlicerLib.jobFolder import JobFolder
from MedPTQSlicerLib.processTree import killGroup, ownGroup
from MedPTQSlicerLib.workerErrors import ProcessEnd
from MedPTQSlicerLib.workerLaunch import WorkerPython, launchOf

Message = dict[str, Any]

_LONGEST_LINE = 64 << 20  # bytes; a report is a thousand times smaller
_MOST_STDERR = 64 << 10  # bytes


class WorkerProcess:
    """A worker, from its start to its end.

    Args:
        python: What is to run it.
        onMessage: Called with each JSON object that comes as a line before :meth:`kill`.
        onEnded: Called once, when the process has ended or could not be started; never before the
            constructor has returned.

    Attributes:
        python: What runs it.
        pid: The worker's own process id, once it has said hello, and else that of what was started.

    Raises:
        OutputError: There is no place for its temporary files.
    """

    def __init__(
        self,
        python: WorkerPython,
        onMessage: Callable[[Message], None],
        onEnded: Callable[[ProcessEnd], None],
    ) -> None:
        self.python = python
        self._onMessage = onMessage
        self._onEnded = onEnded
        self._workerPid: int | None = None
        self._group: int | None = None
        self._partial = b""
        self._lines: deque[bytes] = deque()
        self._stderr = b""
        self._isKilled = False
        self._isOver = False
        self._folder = JobFolder()
        self._child = ChildProcess(
            launchOf(python, self._folder.path),
            onOutput=self._onOutput,
            onErrors=self._onErrors,
            onFinished=self._onFinished,
            onNotStarted=lambda: self._over(exitCode=-1, isCrash=False),
        )
        self._process = self._child.process

    @property
    def pid(self) -> int | None:
        """See above; None once the process has ended."""
        if self._isOver:
            return None
        return self._workerPid or self._child.pid or None

    @property
    def stderr(self) -> str:
        """The end of what the worker and its libraries have printed."""
        return self._stderr.decode("utf-8", errors="replace")

    def send(self, method: str, params: Mapping[str, Any], id: int | None = None) -> None:  # noqa: A002
        """Write a request, or without an id a notification.

        It is lost if the process has ended, which :attr:`onEnded` tells.
        """
        message: Message = {"jsonrpc": "2.0", "method": method, "params": dict(params)}
        if id is not None:
            message["id"] = id
        if not self._isOver:
            self._process.write(json.dumps(message, ensure_ascii=True).encode("ascii") + b"\n")

    def kill(self) -> None:
        """End the worker, what it has started, and its launcher, at once and without waiting.

        What it says from then on is not heard: a worker whose launcher is gone before it cancels
        all requests, those too that wait for the next worker.
        """
        self._isKilled = True
        if not self._isOver:
            self._child.kill()
            self._killGroup()

    def end(self, graceSeconds: float) -> None:
        """End the worker and wait for it; :attr:`onEnded` is called before this returns.

        Args:
            graceSeconds: For the worker to stop in good order, without half-written files.
        """
        if not self._isOver and graceSeconds > 0:
            self._process.closeWriteChannel()
            self._process.waitForFinished(int(graceSeconds * 1000))
        if not self._isOver:
            self.kill()
            self._process.waitForFinished(1000)
        if not self._isOver:  # not even then; nobody can do more
            self._over(exitCode=-1, isCrash=True)

    def saidHello(self, pid: int) -> None:
        """Take note of the worker's own id, which is not that of its launcher."""
        self._workerPid = pid
        self._group = ownGroup(pid)

    def _onOutput(self, output: bytes) -> None:
        *lines, rest = (self._partial + output).split(b"\n")
        self._partial = rest[-_LONGEST_LINE:]
        self._lines.extend(lines)
        self._handOut()

    def _handOut(self) -> None:
        import qt

        while self._lines:
            message = _parse(self._lines.popleft())
            if message is None or self._isKilled:
                continue
            if self._lines:  # whoever is told of this one may wait for the next one
                qt.QTimer.singleShot(0, self._handOut)
            self._onMessage(message)

    def _onErrors(self, output: bytes) -> None:
        self._stderr = (self._stderr + output)[-_MOST_STDERR:]

    def _onFinished(self) -> None:
        import qt

        process = self._process
        self._over(int(process.exitCode()), process.exitStatus() == qt.QProcess.CrashExit)

    def _over(self, exitCode: int, isCrash: bool) -> None:
        if self._isOver:
            return
        self._isOver = True
        self._killGroup()  # what a worker that crashed has left running
        self._folder.close()
        self._process.deleteLater()
        self._onEnded(
            ProcessEnd(
                python=self.python.path,
                isStarted=self._child.isStarted,
                saidHello=self._workerPid is not None,
                exitCode=exitCode,
                isCrash=isCrash,
                stderr=self.stderr,
            )
        )

    def _killGroup(self) -> None:
        if self._group is not None:
            killGroup(self._group)


def _parse(line: bytes) -> Message | None:
    """Return a line's JSON object; None for anything else, which a library may have printed."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
