"""Functions that are called on news, and whose faults are theirs alone."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Observers(Generic[T]):
    """Those that are to be told."""

    def __init__(self) -> None:
        self._observers: list[Callable[[T], None]] = []

    def add(self, observer: Callable[[T], None] | None) -> Callable[[], None]:
        """Add one, if one is given, and return the function that removes it."""
        if observer is not None:
            self._observers.append(observer)

        def remove() -> None:
            if observer is not None:
                with contextlib.suppress(ValueError):  # it was removed before
                    self._observers.remove(observer)

        return remove

    def tell(self, news: T) -> None:
        """Call all with the news; what one raises goes to the log, and the others are called."""
        for observer in self._observers.copy():
            try:
                observer(news)
            except Exception:
                logging.exception("MedPTQ: an observer of a job failed")

    def tellOnce(self, news: T) -> None:
        """Likewise, and have them forgotten."""
        observers, self._observers = self._observers, []
        told: Observers[T] = Observers()
        told._observers = observers
        told.tell(news)
