"""What can go wrong with the worker, in the words that a user is shown."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from medptq.errors import Cancelled, MedPTQError

_START = "The worker did not start"
_ENDED = "The worker ended unexpectedly"
_AGAIN = "Try again; if it comes back, report it with the worker's log"
_INSTALL = "Open 'This computer' and install what is missing, or choose a Python that has it"
# What Slicer's launcher says when the Python that it started was ended by a signal; which one it
# does not say, and its own status is then 1.
_LAUNCHER_SAW_A_SIGNAL = "exit abnormally"
_CANCELLED = -32800  # JSON-RPC's code for it, see medptq.worker
_FAILED_IMPORT = re.compile(r"\b(?:ModuleNotFoundError|ImportError)\b(?:: (\w+))?")
_LONGEST = 300  # characters of what another program said


class WorkerError(MedPTQError):
    """The worker cannot be started, or has ended in the middle of its work."""

    family: ClassVar[str] = "worker"
    exit_status: ClassVar[int] = 8


@dataclass(frozen=True)
class ProcessEnd:
    """How a worker's process ended.

    Attributes:
        python: The Python that was to run it.
        isStarted: Whether there was a process at all.
        saidHello: Whether it was ever ready for work.
        exitCode: Its status; the number of the signal where ``isCrash``.
        isCrash: Whether a signal ended it (on Windows: an unhandled exception).
        stderr: The end of what was printed.
    """

    python: Path
    isStarted: bool
    saidHello: bool
    exitCode: int
    isCrash: bool
    stderr: str


def errorOfEnd(end: ProcessEnd) -> WorkerError:
    """Return what to tell a user whose work was pending when the worker's process ended."""
    if not end.isStarted:
        return noPython(end.python)
    if not end.saidHello:
        return _startFailed(end)
    why, todo = _causeOf(end)
    code = "killed" if _isKilled(end) else "ended"
    return WorkerError(code, _ENDED, why=why, todo=todo)


def noPython(python: Path | None) -> WorkerError:
    """Return the error of a Python that is not there; None stands for Slicer's own."""
    if python is None:
        why = "Slicer's own Python (PythonSlicer) was not found"
    else:
        why = f"{python} is not there, or cannot be run"
    return WorkerError("no-python", _START, why=why, todo="Choose a Python under 'This computer'")


def noHello(python: Path, seconds: int) -> WorkerError:
    """Return the error of a process that was started and stayed silent."""
    return WorkerError(
        "silent",
        _START,
        why=f"{python} said nothing within {seconds} seconds",
        todo="Try again when this computer is less busy, or choose another Python under"
        " 'This computer'",
    )


def otherProtocol(theirs: object, ours: int) -> WorkerError:
    """Return the error of a worker from another version of the extension."""
    return WorkerError(
        "protocol",
        _START,
        why=f"it is of another version of this extension (protocol {theirs}, not {ours})",
        todo="Restart Slicer; if that does not help, install the extension again, and take medptq"
        " out of the Python chosen under 'This computer'",
    )


def errorFromAnswer(error: Mapping[str, Any]) -> MedPTQError:
    """Return the failure that the worker answered a request with, as medptq raised it.

    Args:
        error: The member ``error`` of a JSON-RPC answer.
    """
    if error.get("code") == _CANCELLED:
        return Cancelled()
    data = error.get("data")
    if not isinstance(data, Mapping):
        return MedPTQError(
            "unexpected",
            "The worker did not accept the request",
            why=str(error.get("message", "no reason was given"))[:_LONGEST],
            todo=_AGAIN,
        )
    code, what, why, todo = (str(data.get(part, "")) for part in ("code", "what", "why", "todo"))
    if (failed := _FAILED_IMPORT.search(why)) is not None:
        package = f"the package {failed[1]}" if failed[1] else "a package"
        why = f"{package} of the worker's Python is missing, or cannot be loaded"
        return WorkerError("packages", what, why=why, todo=_INSTALL)
    family, _, name = code.partition(".")
    kinds = {kind.family: kind for kind in MedPTQError.__subclasses__() if kind is not Cancelled}
    made = kinds.get(family, MedPTQError)(name, what, why=why, todo=todo)
    made.code = code
    return made


def _startFailed(end: ProcessEnd) -> WorkerError:
    missing = re.findall(r"\b(?:ModuleNotFoundError|ImportError): (.*)$", end.stderr, re.MULTILINE)
    if not missing:
        why, _ = _causeOf(end)
        return WorkerError(
            "start",
            _START,
            why=f"{end.python}: {why}",
            todo="Check this Python under 'This computer', or choose another one",
        )
    name = re.search(r"No module named '([^']+)'", missing[-1])
    if name is None:
        why = f"a package of {end.python} cannot be loaded ({missing[-1][:_LONGEST]})"
    elif name[1].partition(".")[0] == "medptq":
        return WorkerError(
            "incomplete",
            _START,
            why="files of this extension are missing",
            todo="Install the extension again",
        )
    else:
        why = f"{end.python} does not have the package {name[1].partition('.')[0]}"
    return WorkerError("packages", _START, why=why, todo=_INSTALL)


def _isKilled(end: ProcessEnd) -> bool:
    if "Fatal Python error" in end.stderr:  # it ended by itself, see faulthandler
        return False
    if end.isCrash:
        return end.exitCode == getattr(signal, "SIGKILL", None)
    return end.exitCode != 0 and _LAUNCHER_SAW_A_SIGNAL in end.stderr


def _causeOf(end: ProcessEnd) -> tuple[str, str]:
    """Return why it ended and what can be done about it."""
    fatal = re.findall(r"^Fatal Python error: (.*)$", end.stderr, re.MULTILINE)
    if fatal:
        return f"a library crashed in it ({fatal[-1][:_LONGEST]})", _AGAIN
    if _isKilled(end):
        return (
            "the system, or somebody, stopped it, probably because the memory ran out",
            "Close other programs, or take a smaller volume or fewer patches, and try again",
        )
    if end.isCrash:
        return f"it was stopped by {_signalName(end.exitCode)}", _AGAIN
    lines = [line.strip() for line in end.stderr.splitlines() if line.strip()]
    if end.exitCode != 0 and lines:
        return f"it ended with status {end.exitCode}: {lines[-1][:_LONGEST]}", _AGAIN
    return f"it ended with status {end.exitCode}", _AGAIN


def _signalName(number: int) -> str:
    try:
        return f"the signal {signal.Signals(number).name}"
    except ValueError:
        return f"the system (status {number:#x})"
