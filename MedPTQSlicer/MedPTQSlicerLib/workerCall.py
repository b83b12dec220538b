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
        isSent: Whether the worker was told of it.
        hasBegun: Whether the worker is at it.
        isCancelled: Whether it is to stop.
    """

    def __init__(self, client: WorkerClient, id: int, request: WorkerRequest) -> None:  # noqa: A002
        self.id = id
        self.request = request
        self.isSent = False
        self.hasBegun = False
        self.isCancelled = False
        self._client = client

    def cancel(self) -> None:
        """Stop it; the listener is told within 2 seconds, whatever the worker does."""
        self._client.cancel(self)
