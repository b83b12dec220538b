"""Tells a process that the one it works for is gone, so that nothing runs on as an orphan."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable

import psutil

_LOOK_EVERY_SECONDS = 0.5


def when_parent_dies(then: Callable[[], None], others: Iterable[int] = ()) -> None:
    """Call ``then`` once, on a thread of its own, when the parent of this process has ended.

    The system's own signal for it (Linux's ``PR_SET_PDEATHSIG``) is not used: it is sent when the
    *thread* that started the process ends, which a living parent's may.

    Args:
        then: What to do.
        others: Process ids of others that this one cannot outlive, such as the program behind a
            launcher. One that is not there counts as ended.
    """
    parent = os.getppid()
    # An orphan gets another parent, except on Windows, where it keeps the dead one's number.
    watched = [_find(pid) for pid in ((*others, parent) if os.name == "nt" else others)]

    def watch() -> None:
        while os.getppid() == parent and all(_is_alive(process) for process in watched):
            time.sleep(_LOOK_EVERY_SECONDS)
        then()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _find(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _is_alive(process: psutil.Process | None) -> bool:
    try:
        return (
            process is not None
            and process.is_running()  # by its start, too: numbers are used again
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
