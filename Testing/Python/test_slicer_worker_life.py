"""The worker's process under Slicer: who runs it, and that nothing of it is left."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from slicer_worker import (  # noqa: F401 - some are fixtures
    LONG,
    data,
    is_calibrating,
    job_of,
    launcher,
    left_in,
    quantize,
    slicer_worker,
    until,
    workers,
)

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs programs with a shebang")


def test_stopping_while_the_worker_starts_leaves_nothing(launcher: Any) -> None:  # noqa: F811
    job = launcher.run(job_of(launcher.client, "models"))
    until(lambda: len(workers()) == 2)  # the launcher and the worker
    launcher.stop()
    assert workers() == []
    assert job.state == "cancelled"


def test_stopping_in_the_middle_leaves_nothing(
    launcher: Any,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    output = tmp_path / "results" / "int8"
    job = launcher.run(job_of(launcher.client, "quantize", **quantize(data, output, **LONG)))
    until(is_calibrating(job))
    started = time.monotonic()
    launcher.stop()
    assert time.monotonic() - started < 3
    assert job.state == "cancelled"
    assert workers() == []
    assert list(output.parent.iterdir()) == []


def test_slicers_end_stops_everything(
    launcher: Any,  # noqa: F811
    gui: Any,
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    from MedPTQSlicerLib.jobFolder import JobFolder, jobFolder
    from MedPTQSlicerLib.jobs import Job

    def steps() -> Any:
        with jobFolder() as folder:
            (folder / "scan.nrrd").write_bytes(b"voxels")
            yield launcher.client.request("quantize", **quantize(data, tmp_path / "int8", **LONG))

    result = JobFolder()  # which somebody still shows
    job = launcher.run(Job("Calibrating", steps()))
    until(is_calibrating(job))
    assert left_in(Path(gui.app.temporaryPath)) != []
    gui.app.aboutToQuit()
    assert not result.path.exists()
    assert job.state == "cancelled"
    assert workers() == []
    assert left_in(Path(gui.app.temporaryPath)) == []


@posix_only
def test_another_python_is_taken_as_soon_as_there_is_nothing_to_do(
    slicer_worker: Any,  # noqa: F811
    tmp_path: Path,
) -> None:
    from MedPTQSlicerLib.workerLaunch import chosenPython, setChosenPython

    client = slicer_worker.client
    assert chosenPython().isSlicers
    slicer_worker.run(job_of(client, "models")).wait(60)
    first = client.pid
    other = tmp_path / "venv" / "python"
    other.parent.mkdir()
    other.symlink_to(sys.executable)
    setChosenPython(other)
    assert (chosenPython().path, chosenPython().isSlicers) == (other, False)
    job = slicer_worker.run(job_of(client, "models"))
    until(lambda: client.pid not in (None, first))
    assert len(workers()) == 1
    assert psutil.Process(workers()[0]).cmdline()[0] == str(other)
    job.cancel()  # whether that Python has the packages is another matter
    setChosenPython(None)
    assert chosenPython().isSlicers


def test_another_python_gets_nothing_of_slicers(
    slicer_worker: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from MedPTQSlicerLib.workerLaunch import WorkerPython, workerEnvironment

    monkeypatch.setenv("PYTHONHOME", "/slicer/lib/Python")
    monkeypatch.setenv("PYTHONPATH", "/slicer/bin/Python")
    home = str(Path(__file__).parents[2] / "MedPTQSlicer")
    foreign = workerEnvironment(WorkerPython(Path("python"), isSlicers=False), tmp_path)
    assert not foreign.contains("PYTHONHOME")
    assert foreign.value("TMPDIR") == str(tmp_path)
    own = workerEnvironment(WorkerPython(Path("PythonSlicer"), isSlicers=True))
    assert own.value("PYTHONHOME") == "/slicer/lib/Python"
    assert own.value("PYTHONPATH") == f"{home}{os.pathsep}/slicer/bin/Python"
    assert own.value("TMPDIR", "unset") == os.environ.get("TMPDIR", "unset")


def test_a_reload_replaces_an_idle_client_and_keeps_a_busy_one(
    launcher: Any,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from MedPTQSlicerLib.background import background as before

    assert before() is launcher
    launcher.run(job_of(launcher.client, "models")).wait(60)
    params = quantize(data, tmp_path / "int8", **LONG)
    job = launcher.run(job_of(launcher.client, "quantize", **params))
    until(is_calibrating(job))

    for name in [name for name in sys.modules if name.startswith("MedPTQSlicerLib")]:
        monkeypatch.delitem(sys.modules, name)  # as a reload does
    from MedPTQSlicerLib.background import background

    assert background is not before
    assert background() is launcher  # it is busy
    assert background().jobs == [job]
    new = background().run(job_of(launcher.client, "models"))
    job.cancel()
    assert "models" in new.wait(60)
    until(lambda: job.state == "cancelled", 2)
    assert len(workers()) == 2  # with its launcher
    fresh = background()
    assert fresh is not launcher
    assert background() is fresh
    assert workers() == []
    assert "models" in fresh.run(job_of(fresh.client, "models")).wait(60)
    fresh.stop()
