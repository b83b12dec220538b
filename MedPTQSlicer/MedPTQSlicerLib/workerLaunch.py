"""Which Python runs the worker, and with what environment."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import medptq
from MedPTQSlicerLib.childProcess import Launch
from MedPTQSlicerLib.workerErrors import noPython

_SETTING = "MedPTQSlicer/WorkerPython"
_VARIABLE = "MEDPTQ_WORKER_PYTHON"  # for scripts and tests, which leave a user's settings alone
_LOG_NAME = "MedPTQ-worker.log"


@dataclass(frozen=True)
class WorkerPython:
    """A Python that can run the worker.

    Attributes:
        path: The program.
        isSlicers: Whether it is Slicer's own, with Slicer's packages.
    """

    path: Path
    isSlicers: bool


def chosenPython() -> WorkerPython:
    """Return the Python that the user has chosen for the worker, or else Slicer's own.

    What the environment variable ``MEDPTQ_WORKER_PYTHON`` names is preferred to both.

    Raises:
        WorkerError: ``no-python`` - Slicer's own was not found.
    """
    import slicer

    chosen = os.environ.get(_VARIABLE) or slicer.app.userSettings().value(_SETTING)
    if chosen:
        return WorkerPython(Path(str(chosen)), isSlicers=False)
    return slicersPython()


def setChosenPython(path: Path | None) -> None:
    """Choose the Python for the next worker; None goes back to Slicer's own.

    A worker that runs is replaced as soon as it has nothing to do.
    """
    import slicer

    settings = slicer.app.userSettings()
    if path is None:
        settings.remove(_SETTING)
    else:
        settings.setValue(_SETTING, str(path))


def slicersPython() -> WorkerPython:
    """Return Slicer's own Python: a launcher, which starts the real one.

    Raises:
        WorkerError: ``no-python`` - it was not found.
    """
    found = shutil.which("PythonSlicer") or sys.executable
    if not found:
        raise noPython(None)
    return WorkerPython(Path(found), isSlicers=True)


def logFile() -> Path:
    """Return where the worker's log is kept; it names no scans and no patients."""
    import slicer

    return Path(slicer.app.temporaryPath) / _LOG_NAME


def launchOf(python: WorkerPython, folder: Path) -> Launch:
    """Return how to start a worker.

    Args:
        python: What is to run it.
        folder: An empty folder that is the worker's alone; its temporary files go there, too. As
            it works there, no file of the user is taken for a Python module.
    """
    arguments = ["-u", "-m", "medptq.worker", "--parent", str(os.getpid())]
    log = logFile()
    if _isWritable(log):  # the worker would not start without the log that it is told to keep
        arguments += ["--log", str(log)]
    return Launch(str(python.path), arguments, workerEnvironment(python, folder), folder)


def workerEnvironment(python: WorkerPython, temporaryFolder: Path | None = None) -> Any:
    """Return the environment for a program that imports medptq, a ``qt.QProcessEnvironment``.

    Another Python than Slicer's gets nothing of what Slicer has set for its own libraries.

    Args:
        python: What is to run it.
        temporaryFolder: For its temporary files; None leaves them where they are.
    """
    import qt
    import slicer

    if python.isSlicers:
        environment = qt.QProcessEnvironment.systemEnvironment()
    else:
        environment = slicer.app.startupEnvironment()
        environment.remove("PYTHONHOME")
        for name, value in os.environ.items():
            if name.startswith("MEDPTQ_"):  # set since, as in .slicerrc.py
                environment.insert(name, value)
    before = environment.value("PYTHONPATH", "")
    home = str(Path(medptq.__file__).resolve().parents[1])
    environment.insert("PYTHONPATH", os.pathsep.join([home, before] if before else [home]))
    if temporaryFolder is not None:
        for name in ("TMPDIR", "TEMP", "TMP"):
            environment.insert(name, str(temporaryFolder))
    return environment


def _isWritable(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("ab"):
        return True
    return False
