"""Whether a Python that a user names can be taken for the worker."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from MedPTQSlicerLib.installErrors import InstallationError, requireInstallable
from MedPTQSlicerLib.pythonProbe import PythonError, probeSteps, pythonAt
from MedPTQSlicerLib.requirements import (
    isOldPython,
    lackLine,
    loadRequirements,
    unmetRequirements,
)
from MedPTQSlicerLib.workerLaunch import WorkerPython


def acceptSteps(path: Path) -> Generator[Any, Any, WorkerPython]:
    """Return the Python at a path if it has what is needed, or can be given it; a job's steps.

    Args:
        path: A program, or the folder of an environment.

    Raises:
        PythonError: ``not-there``, ``not-python``, ``old``, ``broken``; or ``packages``: it lacks
            packages, and nothing may be installed into it.
        ProgramError: It cannot be started, or does not answer.
    """
    python = WorkerPython(pythonAt(path), isSlicers=False)
    facts = yield from probeSteps(python)
    if isOldPython(facts):
        raise PythonError(
            "old",
            f"Python {facts.python} is too old",
            why=f"{python.path} is older than what is needed",
            todo="Choose a newer Python",
        )
    unmet = unmetRequirements(facts, loadRequirements())
    if unmet:
        try:
            requireInstallable(python, facts)
        except InstallationError as error:
            raise PythonError(
                "packages",
                "This Python was not taken",
                why=f"{lackLine(unmet)}; and nothing is installed into it, as {error.why}",
                todo=error.todo,
            ) from error
    return python
