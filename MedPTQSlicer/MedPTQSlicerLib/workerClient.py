"""The worker as the rest of the module sees it: requests go in, and their results come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from medptq.errors import Cancelled, MedPTQError
from MedPTQSlicerLib.workerCall import Call, CallListener, WorkerRequest
from MedPTQSlicerLib.workerErrors import (
    ProcessEnd,
    WorkerError,
    errorFromAnswer,
    errorOfEnd,
    noHello,
    otherProtocol,
)
from MedPTQSlicerLib.workerLaunch import chosenPython, logFile
from MedPTQSlicerLib.workerProcess import Message, WorkerProcess

PROTOCOL = 1
"""What :mod:`medptq.worker` must speak."""

HELLO_SECONDS = 60
STALL_SECONDS = 10
_CANCEL_MS = 1300  # for a worker to stop by itself; all in all, a user waits for 2 seconds
_KILL_MS = 300  # for the system to end a process
_STOP_SECONDS = 1.5


class WorkerClient:
    """One worker, started on first use, kept warm, and started anew when it has crashed.

    All of it happens on Qt's event loop: nothing here waits, except :meth:`stop` and :meth:`held`.

    Attributes:
        isHeld: Whether no worker may be started now; see :meth:`held`.

    Example:
        >>> client = WorkerClient()  # doctest: +SKIP
        >>> models = Job("Models", (lambda: (yield client.request("models")))()).start().wait()
    """

    def __init__(self) -> None:
        import qt

        self._process: WorkerProcess | None = None
        self._dying: list[WorkerProcess] = []
        self._isReady = False
        self.isHeld = False
        self._calls: dict[int, Call] = {}
        self._lastId = 0
        self._stderr = ""
        # Counted by the event loop itself: while that stands still, no time passes.
        self._silentSeconds = 0
        self._clock = qt.QTimer()
        self._clock.setInterval(1000)
        self._clock.connect("timeout()", self._onSecond)

    @property
    def state(self) -> Literal["stopped", "starting", "ready", "busy"]:
        """What the worker is doing."""
        if self._process is None:
            return "stopped"
        if not self._isReady:
            return "starting"
        return "busy" if self._calls else "ready"

    @property
    def pid(self) -> int | None:
        """The worker's process id, or None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def logFile(self) -> Path:
        """The worker's log, which names no scans and no patients."""
        return logFile()

    @property
    def stderr(self) -> str:
        """The end of what the worker's libraries have printed; it may name files."""
        return self._stderr if self._process is None else self._process.stderr

    def request(self, method: str, /, **params: Any) -> WorkerRequest:
        """Describe a request.

        Args:
            method: One of :mod:`medptq.worker`'s.
            params: By name. Those that are None are left out. Paths are made absolute, as the
                worker has another working folder.
        """
        given = {
            name: str(value.absolute()) if isinstance(value, Path) else value
            for name, value in params.items()
            if value is not None
        }
        return WorkerRequest(method, given, self)

    def send(self, request: WorkerRequest, listener: CallListener) -> Call:
        """Send a request, and start a worker for it if none is there; see :class:`WorkerRequest`.

        Requests queue in the worker, which works at one at a time.
        """
        self._lastId += 1
        self._calls[self._lastId] = call = Call(self, self._lastId, request, listener)
        _soon(lambda: self._begin(call))
        return call

    def cancel(self, call: Call) -> None:
        """See :meth:`Call.cancel`."""
        if call.id not in self._calls or call.isCancelled:
            return
        call.isCancelled = True
        if call.isSent and self._process is not None:
            self._process.send("cancel", {"id": call.id})
            _later(_CANCEL_MS, lambda: self._killFor(call))
        else:
            del self._calls[call.id]
        if not call.hasBegun:
            _soon(lambda: call.settle(Cancelled()))

    def stop(self) -> None:
        """Cancel all requests and end the worker; nothing of it is left when this returns.

        An idle worker ends at once. One that works is given 1.5 seconds to stop in good order.
        """
        calls = list(self._calls.values())
        self._calls.clear()
        self._endProcess(_STOP_SECONDS if calls and self._isReady else 0)
        for call in calls:
            call.settle(Cancelled())

    @contextmanager
    def held(self) -> Iterator[None]:
        """End the worker, and start none as long as this lasts, as its packages are replaced.

        Requests fail at once meanwhile, with a :class:`WorkerError` of code ``installing``.
        """
        self.isHeld = True  # before it is stopped: whoever is told of that may ask for something
        try:
            self.stop()
            yield
        finally:
            self.isHeld = False

    # Starting

    def _begin(self, call: Call) -> None:
        if call.id not in self._calls or call.isCancelled:
            return
        try:
            process = self._processFor(call)
        except MedPTQError as error:
            self._fail([call], error)
            return
        if self._isReady:
            self._write(process, call)
        else:
            call.tellStage("Starting the worker")
        self._clock.start()

    def _processFor(self, call: Call) -> WorkerProcess:
        if self.isHeld:
            raise _installing()
        python = chosenPython()
        isIdle = self._calls.keys() <= {call.id}
        if self._process is not None and isIdle and self._process.python != python:
            self._endProcess(graceSeconds=0)  # the user has chosen another one
        if self._process is None:
            self._silentSeconds = 0
            self._process = process = WorkerProcess(
                python,
                lambda message: self._onMessage(process, message),
                lambda end: self._onEnded(process, end),
            )
        return self._process

    def _endProcess(self, graceSeconds: float) -> None:
        """End the worker, and any other that is not quite dead yet, and wait for it."""
        process = self._release()
        if process is not None:
            process.end(graceSeconds)
        for other in self._dying.copy():
            other.end(graceSeconds=0)

    def _release(self) -> WorkerProcess | None:
        """Have nothing to do any more with the worker that there is."""
        process, self._process = self._process, None
        self._isReady = False
        self._clock.stop()
        if process is not None:
            self._stderr = process.stderr
            self._dying.append(process)
        return process

    def _write(self, process: WorkerProcess, call: Call) -> None:
        if call.isSent:  # the worker was ready before it was this one's turn to begin
            return
        call.isSent = True
        if len(self._calls) > 1:
            call.tellStage("Waiting for other work")
        else:
            self._silentSeconds = 0
        process.send(call.request.method, call.request.params, call.id)

    # What comes from the worker

    def _onMessage(self, process: WorkerProcess, message: Message) -> None:
        if process is not self._process:
            return
        self._silentSeconds = 0
        method, params = message.get("method"), message.get("params")
        if not isinstance(params, Mapping):
            params = {}
        if method == "hello":
            self._onHello(process, params)
        elif method in ("progress", "warning", "heartbeat"):
            self._onNews(method, params)
        elif method is None:
            self._onAnswer(message)

    def _onHello(self, process: WorkerProcess, params: Mapping[str, Any]) -> None:
        process.saidHello(int(params["pid"]))
        if params.get("protocol") != PROTOCOL:
            self._giveUp(otherProtocol(params.get("protocol"), PROTOCOL))
            return
        self._isReady = True
        for call in list(self._calls.values()):
            self._write(process, call)

    def _onNews(self, method: str, params: Mapping[str, Any]) -> None:
        call = self._calls.get(params.get("id", -1))
        if call is None:
            return
        hadBegun, call.hasBegun = call.hasBegun, True
        listener = call.listener
        if listener is None:
            return
        listener.onHeartbeat(isStalled=False)
        if not hadBegun:
            listener.onStage(params.get("stage", ""), None, None)
        if method == "progress":
            listener.onStage(params["stage"], params["fraction"], params["eta_seconds"])
        elif method == "warning":
            listener.onWarning(params["text"])

    def _onAnswer(self, message: Message) -> None:
        id = message.get("id")  # noqa: A001
        call = self._calls.pop(id, None) if isinstance(id, int) else None
        if call is not None:
            error = message.get("error")
            call.settle(message.get("result", {}) if error is None else errorFromAnswer(error))

    # When it does not come

    def _onSecond(self) -> None:
        self._silentSeconds += 1
        if self._process is None or (self._isReady and not self._calls):
            self._clock.stop()
        elif not self._isReady and self._silentSeconds >= HELLO_SECONDS:
            self._giveUp(noHello(self._process.python.path, HELLO_SECONDS))
        elif self._isReady and self._silentSeconds >= STALL_SECONDS:
            for call in list(self._calls.values()):
                # One not yet sent was never unanswered, and cancelling it would not end the worker.
                if call.listener is not None and call.isSent and self._isWorkedAt(call):
                    call.listener.onHeartbeat(isStalled=True)

    def _isWorkedAt(self, call: Call) -> bool:
        """Tell whether it is this request that the worker is or should be at."""
        return call.hasBegun or not any(other.hasBegun for other in self._calls.values())

    def _killFor(self, call: Call) -> None:
        """End a worker that has not answered a request since it was cancelled."""
        process = self._process
        if process is None or call.id not in self._calls or not self._isWorkedAt(call):
            return
        process.kill()
        # It has ended by then, except where the system itself hangs.
        _later(_KILL_MS, lambda: self._onLost(process, Cancelled()))

    def _giveUp(self, error: MedPTQError) -> None:
        """End a worker that cannot be used, and fail all that waits for it."""
        process = self._release()
        if process is not None:
            process.kill()
        self._fail(list(self._calls.values()), error)

    def _onEnded(self, process: WorkerProcess, end: ProcessEnd) -> None:
        self._onLost(process, errorOfEnd(end))
        self._dying.remove(process)

    def _onLost(self, process: WorkerProcess, error: MedPTQError) -> None:
        """Fail what a worker was at when it was lost; what had not begun goes to the next one."""
        if process is not self._process:
            return
        self._release()
        calls = list(self._calls.values())
        begun = [call for call in calls if call.hasBegun or call.isCancelled]
        self._fail(begun or calls, error)  # if nothing had begun, the next one would fare no better
        for call in calls:
            if call.id in self._calls:
                call.isSent = False
                self._begin(call)

    def _fail(self, calls: list[Call], error: MedPTQError) -> None:
        for call in calls:
            self._calls.pop(call.id, None)
        for call in calls:
            call.settle(Cancelled() if call.isCancelled else error)


def _installing() -> WorkerError:
    return WorkerError(
        "installing",
        "The worker was not started",
        why="packages are being installed",
        todo="Wait for the installation to end",
    )


def _soon(call: Callable[[], None]) -> None:
    _later(0, call)


def _later(milliseconds: int, call: Callable[[], None]) -> None:
    import qt

    qt.QTimer.singleShot(milliseconds, call)
