"""What a Python has, found out by asking it; and what a user's file is if it is no Python."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from typing import Any, ClassVar

from medptq.errors import MedPTQError
from medptq.installation.facts import Facts
from MedPTQSlicerLib.jobFolder import jobFolder
from MedPTQSlicerLib.programRun import ProgramRequest
from MedPTQSlicerLib.requirements import OLDEST_PYTHON
from MedPTQSlicerLib.workerLaunch import WorkerPython, workerEnvironment

_SECONDS = 60  # a cold disk and a virus scanner take their time
_IN_ENVIRONMENT = ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe")
_NAME = re.compile(r"(python(slicer|w)?|pypy)[\d.t]*(-\w+)?(\.exe)?", re.IGNORECASE)
_LONGEST = 300  # characters of what another program said


class PythonError(MedPTQError):
    """A file is no Python that can be used."""

    family: ClassVar[str] = "python"


def pythonAt(path: Path) -> Path:
    """Return the Python that a user means by a path: a program, or the folder of an environment.

    Raises:
        PythonError: ``not-there``, or ``not-python``.
    """
    if path.is_dir():
        for name in _IN_ENVIRONMENT:
            if (path / name).is_file():
                return path / name
    if not path.exists():
        raise PythonError(
            "not-there",
            "This Python cannot be used",
            why=f"{path} is not there",
            todo="Choose the program of a Python, such as bin/python of an environment",
        )
    if path.is_dir() or not _NAME.fullmatch(path.name):
        raise _notPython(path)
    return path


def probeSteps(python: WorkerPython) -> Generator[Any, Any, Facts]:
    """Ask a Python what it has; the steps of a job.

    Raises:
        PythonError: ``not-python``, ``old`` or ``broken``.
        ProgramError: It cannot be started, or does not answer.
    """
    stage = "Looking at Slicer's Python" if python.isSlicers else "Looking at this Python"
    with jobFolder() as folder:  # as it works there, no file of the user is taken for a module

        def request(*arguments: str) -> ProgramRequest:
            environment = workerEnvironment(python)
            return ProgramRequest(stage, python.path, arguments, environment, folder, _SECONDS)

        found = yield request("-m", "medptq.installation")
        lines = found["output"].strip().splitlines()
        if found["exitCode"] == 0 and lines:
            try:
                return Facts.from_json(lines[-1])
            except ValueError:
                raise _notPython(python.path) from None
        version = yield request("--version")
    raise _whyNot(python.path, found["errors"], version["output"] + version["errors"])


def _whyNot(path: Path, errors: str, version: str) -> PythonError:
    """Return why a program did not answer."""
    said = re.search(r"\bPython (\d+)\.(\d+)(\.\S+)?", version)
    if said is None:
        return _notPython(path)
    if (int(said[1]), int(said[2])) < OLDEST_PYTHON:
        return PythonError(
            "old",
            f"{said[0]} is too old",
            why=f"{path} is older than Python {'.'.join(map(str, OLDEST_PYTHON))}",
            todo="Choose a newer Python",
        )
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return PythonError(
        "broken",
        f"{said[0]} does not work",
        why=f"{path}: {lines[-1][:_LONGEST]}" if lines else f"{path} said nothing",
        todo="Repair it, or choose another Python",
    )


def _notPython(path: Path) -> PythonError:
    return PythonError(
        "not-python",
        "This is no Python",
        why=f"{path} does not answer as a Python does",
        todo="Choose the program of a Python, such as bin/python of an environment",
    )
