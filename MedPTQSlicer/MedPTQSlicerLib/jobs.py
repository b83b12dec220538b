"""Long work in Slicer: a generator that asks the worker, while Slicer stays usable."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from medptq.errors import Cancelled, MedPTQError
from MedPTQSlicerLib.observers import Observers
from MedPTQSlicerLib.workerCall import Call, WorkerRequest
from MedPTQSlicerLib.workerClient import STALL_SECONDS

T = TypeVar("T")

Steps: TypeAlias = Generator[WorkerRequest | str | None, Any, T]
"""The steps of a job, on Slicer's own thread; each must be short.

They yield a request, and are sent its result or thrown its error; a text, which names the stage
that begins; or None. After each, Qt's event loop has its turn. When the job is cancelled,
:class:`medptq.errors.Cancelled` is thrown in: what must be undone goes into ``finally``.
"""

STALLED = (
    f"The worker has not been heard of for {STALL_SECONDS} seconds. It may be at something that"
    " cannot be interrupted; you can wait, or cancel"
)

_MOST_LINES = 500
_WAIT_SECONDS = 0.005
_MOST_STEPS_TO_STOP = 10  # for steps that go on though they are told to stop


class Job(Generic[T]):
    """One piece of work, from its start to its end.

    Args:
        title: For a person to read, such as ``"Calibrating deepbet"``.
        steps: What is done.
        kind: What it is for a program, such as ``"calibrate"``: a panel that was made anew finds
            its jobs by it.
        cleanUp: Called once at the end, however it ends, before anybody is told.

    Attributes:
        title: See above.
        kind: See above.
        state: Where it is; it is ``"running"`` before it was started, too.
        stage: What is being done, for a person to read; ``""`` before the first stage.
        fraction: Share of the stage that is done, from 0 to 1, or None where it is unknown.
        etaSeconds: Seconds until the stage ends, or None where it is unknown.
        isStalled: Whether the worker has not been heard of for 10 seconds.
        log: Stages and warnings, each with the time. For the screen only, as a warning may name a
            file and so a patient.
        warnings: What was worked around, a sentence each.
        result: What the steps returned, once ``state`` is ``"done"``.
        error: Why there is none, once ``state`` is ``"failed"`` or ``"cancelled"``.

    Example:
        >>> def steps(client):
        ...     answer = yield client.request("models")
        ...     return [model["id"] for model in answer["models"]]
        >>> Job("Models", steps(background().client)).start().wait()  # doctest: +SKIP
        ['deepbet']
    """

    def __init__(
        self,
        title: str,
        steps: Steps[T],
        *,
        kind: str = "",
        cleanUp: Callable[[], None] | None = None,
    ) -> None:
        self.title = title
        self.kind = kind
        self.state: Literal["running", "done", "failed", "cancelled"] = "running"
        self.stage = ""
        self.fraction: float | None = None
        self.etaSeconds: float | None = None
        self.isStalled = False
        self.log: list[str] = []
        self.warnings: list[str] = []
        self.result: T | None = None
        self.error: MedPTQError | None = None
        self._steps = steps
        self._cleanUp = cleanUp
        self._traceback = ""
        self._started: float | None = None
        self._ended: float | None = None
        self._call: Call | None = None
        self._isStepping = False
        self._isCancelling = False
        self._changed: Observers[Job[T]] = Observers()
        self._finished: Observers[Job[T]] = Observers()

    @property
    def elapsedSeconds(self) -> float:
        """Seconds since the start, to now or to the end."""
        if self._started is None:
            return 0.0
        return (self._ended or time.monotonic()) - self._started

    @property
    def notice(self) -> str:
        """A sentence on how it goes, where there is something to say; else ``""``."""
        return STALLED if self.isStalled else ""

    @property
    def details(self) -> str:
        """All that is known of it, to be copied into a report; it may name files."""
        lines = [f"{self.title}: {self.state} after {self.elapsedSeconds:.1f} s", *self.log]
        if self.error is not None:
            lines += [f"{self.error.code}: {self.error}", self._traceback]
        return "\n".join(lines).strip() + "\n"

    def start(self) -> Job[T]:
        """Begin, at the next turn of Qt's event loop, and return this job."""
        if self._started is None:
            self._started = time.monotonic()
            self._soon()
        return self

    @property
    def canBeCancelled(self) -> bool:
        """Whether what it is at may be broken off; an installation may not."""
        return self._call is None or self._call.isBreakable

    def cancel(self) -> None:
        """Stop; it has ended within 2 seconds, whatever the worker does.

        What cannot be broken off goes on, and the job with it, to tell how that ends.
        """
        if self.canBeCancelled:
            self._cancel()

    def _cancel(self) -> None:
        if self.state != "running" or self._isCancelling:
            return
        self._isCancelling = True
        if self._call is not None:
            self._call.cancel()
        else:
            self.start()  # whoever waits for it must see it end
        self._tellChanged()

    def stop(self) -> None:
        """Cancel where Qt's event loop no longer runs, and the worker has been stopped."""
        self._cancel()
        for _ in range(_MOST_STEPS_TO_STOP):
            self._step()

    def wait(self, timeoutSeconds: float | None = None) -> T:
        """Return the result when it is there, while Slicer's events are handled.

        For the Python console and scripts. In the panel use :meth:`observe`.

        Raises:
            MedPTQError: The job failed, or was cancelled.
            TimeoutError: It takes longer; it goes on.
            RuntimeError: The job's own steps wait for it, which would never end.
        """
        import slicer

        if self._isStepping and self.state == "running":
            raise RuntimeError(f"{self.title}: a job cannot wait for itself")
        self.start()
        deadline = None if timeoutSeconds is None else time.monotonic() + timeoutSeconds
        while self.state == "running":
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{self.title} takes longer than {timeoutSeconds} s")
            slicer.app.processEvents()
            if self._call is not None:  # else the next step waits for nothing
                time.sleep(_WAIT_SECONDS)
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # it is done

    def observe(
        self,
        *,
        changed: Callable[[Job[T]], None] | None = None,
        finished: Callable[[Job[T]], None] | None = None,
    ) -> Callable[[], None]:
        """Have functions called with this job, until the function that is returned is called.

        Args:
            changed: On every news.
            finished: Once, when it has ended; at once if it has.
        """
        stopChanged, stopFinished = self._changed.add(changed), self._finished.add(finished)
        if self.state != "running":
            self._finished.tellOnce(self)

        def stopObserving() -> None:
            stopChanged()
            stopFinished()

        return stopObserving

    # The steps

    def _soon(self) -> None:
        import qt

        qt.QTimer.singleShot(0, self._step)

    def _step(self, result: Any = None, error: MedPTQError | None = None) -> None:
        """Let the steps go on to the next thing that they yield, or to their end."""
        if self.state != "running" or self._isStepping:
            return
        if self._isCancelling and error is None:
            error = Cancelled()
        self._isStepping = True
        try:
            yielded = self._steps.send(result) if error is None else self._steps.throw(error)
        except StopIteration as stop:
            self.result = stop.value
            self._end("done")
        except Cancelled as stopped:
            self._end("cancelled", stopped)
        except MedPTQError as failed:
            self._end("failed", failed)
        except Exception as fault:
            self._traceback = "".join(traceback.format_exception(fault))
            self._end("failed", _unexpected(fault))
        except BaseException:  # Ctrl-C in a script
            self._end("cancelled", Cancelled())
            raise
        else:
            self._isStepping = False
            self._next(yielded)
        finally:
            self._isStepping = False

    def _next(self, yielded: WorkerRequest | str | None) -> None:
        if isinstance(yielded, str):
            self.onStage(yielded, None, None)
        if yielded is None or isinstance(yielded, str) or self._isCancelling:
            self._soon()
        else:
            self._call = yielded.send(self)
            if not self.canBeCancelled:
                self._tellChanged()

    def _end(
        self, state: Literal["done", "failed", "cancelled"], error: MedPTQError | None = None
    ) -> None:
        self._ended = time.monotonic()
        self.error = error
        self.fraction = self.etaSeconds = None
        self.isStalled = False
        self._note({"done": "Done", "failed": f"Failed: {error}", "cancelled": "Cancelled"}[state])
        if self._cleanUp is not None:
            try:
                self._cleanUp()
            except Exception:
                logging.exception("MedPTQ: cleaning up after a job failed")
        self.state = state
        self._tellChanged()
        self._finished.tellOnce(self)

    # What the worker tells (see MedPTQSlicerLib.workerCall.CallListener)

    def onStage(self, stage: str, fraction: float | None, etaSeconds: float | None) -> None:
        """Take note of a stage and how far it is."""
        if stage != self.stage:
            self._note(stage)
        self.stage, self.fraction, self.etaSeconds = stage, fraction, etaSeconds
        self._tellChanged()

    def onWarning(self, text: str) -> None:
        """Take note of a warning."""
        self.warnings.append(text)
        self._note(text)
        self._tellChanged()

    def onHeartbeat(self, isStalled: bool) -> None:
        """Take note of whether the worker lives."""
        if isStalled and not self.isStalled:
            self._note(STALLED)
        self.isStalled = isStalled
        self._tellChanged()

    def onResult(self, result: Mapping[str, Any]) -> None:
        """Go on with what the worker answered."""
        self._answered()
        self._step(result)

    def onError(self, error: MedPTQError) -> None:
        """Go on, though the worker failed."""
        self._answered()
        self._step(error=error)

    def _answered(self) -> None:
        self._call = None
        self.fraction = self.etaSeconds = None
        self.isStalled = False

    def _note(self, text: str) -> None:
        self.log.append(f"{time.strftime('%H:%M:%S')} {text}")
        del self.log[:-_MOST_LINES]

    def _tellChanged(self) -> None:
        self._changed.tell(self)


def _unexpected(fault: Exception) -> MedPTQError:
    return MedPTQError(
        "unexpected",
        "The work did not finish",
        why=f"of a fault in the extension ({type(fault).__name__}: {fault})",
        todo="Try again; if it comes back, report it with what 'Copy details' gives",
    )
