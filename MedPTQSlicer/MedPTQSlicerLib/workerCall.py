"""A request to the worker: what is asked, who is told how it goes on, and how it is stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from medptq.errors import MedPTQError

if TYPE_CHECKING:
    from MedPTQSlicerLib.workerClient import WorkerClient


class CallListener(Protocol):
    """Is told how a request goes on; nothing more comes after one of the last two."""

    def onStage(self, stage: str, fraction: float | None, etaSeconds: float | None) -> None:
        """How far it is: the stage, its share that is done, and the seconds that it will take."""

    def onWarning(self, text: str) -> None:
        """Something was worked around."""

    def onHeartbeat(self, isStalled: bool) -> None:
        """The worker lives, or has not been heard of for some time."""

    def onResult(self, result: Mapping[str, Any]) -> None:
        """It is done."""

    def onError(self, error: MedPTQError) -> None:
        """It failed, or was cancelled."""


@dataclass(frozen=True)
class WorkerRequest:
    """What is to be asked of the worker; it is sent when a job yields it.

    Attributes:
        method: One of :mod:`medptq.worker`'s.
        params: By name.
        client: Who sends it.
    """

    method: str
    params: Mapping[str, Any]
    client: WorkerClient = field(repr=False, compare=False)

    def send(self, listener: CallListener) -> Call:
        """Send it; the listener is told of nothing before this returns."""
        return self.client.send(self, listener)


class Call:
    """A request that is not answered yet.

    Attributes:
        id: By which the worker knows it.
        request: What is asked.
        listener: Who is told how it goes on; None once it was told how it has ended.
        isSent: Whether the worker was told of it.
        hasBegun: Whether the worker is at it.
        isCancelled: Whether it is to stop.
        isBreakable: Whether it can be stopped.
    """

    isBreakable = True

    def __init__(
        self,
        client: WorkerClient,
        id: int,  # noqa: A002
        request: WorkerRequest,
        listener: CallListener,
    ) -> None:
        self.id = id
        self.request = request
        self.listener: CallListener | None = listener
        self.isSent = False
        self.hasBegun = False
        self.isCancelled = False
        self._client = client

    def cancel(self) -> None:
        """Stop it; the listener is told within 2 seconds, whatever the worker does."""
        self._client.cancel(self)

    def tellStage(self, stage: str) -> None:
        """Tell the listener that a stage has begun, of which no more is known."""
        if self.listener is not None:
            self.listener.onStage(stage, None, None)

    def settle(self, outcome: Mapping[str, Any] | MedPTQError) -> None:
        """Tell the listener how it has ended, once."""
        listener, self.listener = self.listener, None
        if listener is None:
            return
        if isinstance(outcome, MedPTQError):
            listener.onError(outcome)
        else:
            listener.onResult(outcome)
