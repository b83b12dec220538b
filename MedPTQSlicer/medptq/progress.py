"""Progress, warnings and cancellation, passed down through every long piece of work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from medptq.errors import Cancelled

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """One report on a running stage.

    Attributes:
        stage: Name of the stage, for a person to read (``"calibrating"``).
        done: Units finished, from 0 to ``total``.
        total: Units in the stage; at least 1.
        eta_seconds: Estimated seconds until the stage ends, or None while it is unknown.
    """

    stage: str
    done: int
    total: int
    eta_seconds: float | None

    @property
    def fraction(self) -> float:
        """Share of the stage that is done, from 0.0 to 1.0."""
        return self.done / self.total


class Reporter:
    """Tells a listener how far the work is, and the work when to stop.

    Args:
        on_progress: Called with each :class:`Progress`, on the thread that does the work.
        on_warning: Called with one sentence for the user each time something was worked around
            (an unreadable file that was skipped, say).
        cancelled: Asked between units of work; a true answer raises :class:`Cancelled`.

    Example:
        >>> reporter = Reporter(on_progress=lambda p: None)
        >>> [square for square in (x * x for x in reporter.track([1, 2], "squaring"))]
        [1, 4]
    """

    def __init__(
        self,
        on_progress: Callable[[Progress], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._on_progress = on_progress
        self._on_warning = on_warning
        self._cancelled = cancelled

    def check(self) -> None:
        """Raise :class:`Cancelled` if the user asked for the work to stop."""
        if self.cancelled():
            raise Cancelled

    def cancelled(self) -> bool:
        """Tell whether the user asked for the work to stop."""
        return self._cancelled is not None and self._cancelled()

    def warn(self, sentence: str) -> None:
        """Tell the user of something that was worked around."""
        if self._on_warning is not None:
            self._on_warning(sentence)

    def track(self, items: Iterable[T], stage: str, total: int | None = None) -> Iterator[T]:
        """Yield ``items``, reporting before the first and after each, and checking for cancel.

        Args:
            items: What is worked through.
            stage: Name of the stage, for a person to read.
            total: Number of items, where ``len(items)`` does not tell.
        """
        if total is None:
            total = len(items)  # type: ignore[arg-type]
        count = self.counter(stage, total)
        for item in items:
            self.check()
            yield item
            count()
        self.check()

    def counter(self, stage: str, total: int) -> Callable[[], None]:
        """Report the beginning of a stage, and return what is to be called after each of its units.

        Args:
            stage: Name of the stage, for a person to read.
            total: Number of units.
        """
        total = max(total, 1)
        started = time.monotonic()
        done = 0
        self.report(Progress(stage, 0, total, None))

        def count() -> None:
            nonlocal done
            done += 1
            left = max(total - done, 0)
            elapsed = time.monotonic() - started
            self.report(Progress(stage, min(done, total), total, elapsed / done * left))

        return count

    def report(self, progress: Progress) -> None:
        """Tell how far a stage is that no loop of ours works through."""
        if self._on_progress is not None:
            self._on_progress(progress)
