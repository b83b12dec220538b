"""What tests inside Slicer share: the worker's Python, a small network, waiting, pictures."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

HERE = Path(__file__).resolve().parent
MODULE = HERE.parents[1] / "MedPTQSlicer"
NETWORK = "brightness"  # the id of the small network, see Testing/Python/tiny_network.py
PATIENCE_SECONDS = 180.0


class SlicerTestCase(ScriptedLoadableModuleTest):
    """A test with an empty scene, and with a cache and a library of its own."""

    def setUp(self) -> None:
        from MedPTQSlicerLib.background import background

        slicer.mrmlScene.Clear()
        background().stop()  # so that the next worker sees the new folders
        folder = tempfile.TemporaryDirectory(prefix="medptq-test-", ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.addCleanup(background().stop)
        self.folder = Path(folder.name)
        for variable, name in (("MEDPTQ_CACHE", "cache"), ("MEDPTQ_LIBRARY", "library")):
            os.environ[variable] = str(self.folder / name)

    def tearDown(self) -> None:
        slicer.mrmlScene.Clear()

    def importNetwork(self) -> str:
        """Put the small network into the test's library, and return its id."""
        from MedPTQSlicerLib.logic import MedPTQLogic

        return MedPTQLogic().importModel(smallFiles() / "net.onnx").wait(PATIENCE_SECONDS)


@functools.cache
def smallFiles() -> Path:
    """Return a folder with ``net.onnx``, ``net.json`` and five scans in ``scans``.

    They are made by the worker's Python, as Slicer's has no PyTorch. Without such a Python the
    test is skipped; but where one is named it has to work.
    """
    folder = tempfile.TemporaryDirectory(prefix="medptq-small-")
    _kept.append(folder)
    command = [str(workerPython()), str(HERE / "make_small_files.py"), folder.name]
    done = subprocess.run(command, env=foreignEnvironment(), capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        message = f"{command[0]} cannot be the worker's Python: {said[0]}"
        if "MEDPTQ_WORKER_PYTHON" in os.environ:
            raise RuntimeError(message)
        raise unittest.SkipTest(f"{message}; MEDPTQ_WORKER_PYTHON can name another")
    return Path(folder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def workerPython() -> Path:
    """Return the Python that runs the worker."""
    from MedPTQSlicerLib.workerLaunch import chosenPython

    return chosenPython().path


def foreignEnvironment() -> dict[str, str]:
    """Return an environment for another Python, as Slicer had it when it was started."""
    from MedPTQSlicerLib.workerLaunch import chosenPython

    if chosenPython().isSlicers:
        return dict(os.environ)
    return {
        name: value
        for name, value in slicer.util.startupEnvironment().items()
        if not name.startswith("PYTHON")
    }


def loadScan(number: int = 0) -> Any:
    """Load one of the small scans as a volume."""
    return slicer.util.loadVolume(str(smallFiles() / "scans" / f"scan-{number}.nii.gz"))


def waitFor(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> float:
    """Let Slicer work until the condition holds; return the seconds that it took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        slicer.app.processEvents()
        time.sleep(0.005)
    return time.monotonic() - start


def letItWork(seconds: float) -> None:
    """Let Slicer draw and handle its events for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.01)


def photograph(name: str) -> None:
    """Save what the main window shows, into the folder that MEDPTQ_SCREENSHOTS names."""
    folder = os.environ.get("MEDPTQ_SCREENSHOTS")
    if folder:
        letItWork(1.0)
        path = Path(folder) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert slicer.util.mainWindow().grab().save(str(path)), path


def childProcesses() -> set[int]:
    """Return the ids of the processes that descend from this one; none where it cannot be told."""
    if not sys.platform.startswith("linux"):
        return set()
    return set(_descendants(os.getpid()))


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield int(child)
            yield from _descendants(int(child))
