"""Ending a process with all that it has started; Slicer does not have psutil."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

_TASKKILL_SECONDS = 2


def killTree(pid: int) -> None:
    """End a process and all that it has started, without waiting for their end.

    It reads the system's list of processes, which takes some milliseconds. Windows' own program
    does it there, which is waited for, up to 2 seconds: it finds the children by their parents, so
    that those must not be ended by another meanwhile. Pass the id of a process that is known to
    run: numbers are used again.
    """
    if sys.platform == "win32":
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(  # noqa: S603 - a fixed command
                ["taskkill", "/PID", str(pid), "/T", "/F"],  # noqa: S607 - Windows' own
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_TASKKILL_SECONDS,
                check=False,  # it has ended by itself
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows' alone
            )
        return
    for each in (pid, *_descendants(pid)):  # parents first, so that none sees its child end
        with contextlib.suppress(OSError):  # it has ended by itself
            os.kill(each, signal.SIGKILL)


def killGroup(group: int) -> None:
    """End what is left of a process group, at once."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # nothing is left
            os.killpg(group, signal.SIGKILL)


def ownGroup(pid: int) -> int | None:
    """Return the process group that a process leads, if it leads one; Windows has none."""
    if sys.platform == "win32":
        return None
    with contextlib.suppress(OSError):
        if os.getpgid(pid) == pid:
            return pid
    return None


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for each in found:  # it grows as it is walked through
        found.extend(children.get(each, ()))
    return found[1:]


def _parents() -> list[tuple[int, int]]:
    """Return the ids of every process and its parent."""
    stats = Path("/proc").glob("[0-9]*/stat")  # Linux has them, macOS has not
    if found := [pair for stat in stats if (pair := _readStat(stat))]:
        return found
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(
            ["/bin/ps", "-A", "-o", "pid=,ppid="],
            capture_output=True,
            text=True,
            timeout=1,
            check=True,
        )
        pairs = [line.split() for line in listed.stdout.splitlines()]
        return [(int(child), int(parent)) for child, parent in pairs]
    return []


def _readStat(path: Path) -> tuple[int, int] | None:
    try:
        text = path.read_bytes()
    except OSError:  # it has just ended
        return None
    # The second field is the program's name in brackets; it may hold anything.
    return int(path.parent.name), int(text.rpartition(b")")[2].split()[1])
