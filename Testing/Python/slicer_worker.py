"""Slicer's side of the worker, with real processes, for tests."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from slicer_gui import Gui
from worker_client import wait_until_gone

LONG = {"patches": 1_000_000}

# What PythonSlicer is: it starts the real Python, waits for it, and hands on its status, but not
# by which signal it was ended (ctkAppLauncher.cpp, applicationFinished). It handles no signals.
LAUNCHER = f"""#!{sys.executable} -IS
import subprocess, sys
status = subprocess.Popen([{sys.executable!r}, *sys.argv[1:]]).wait()
if status < 0:
    sys.stderr.write("error: [python-real] exit abnormally - Report the problem.\\n")
    status = 1
sys.exit(status)
"""


def write_program(path: Path, text: str) -> Path:
    """Write a program that can be started."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


# What a program says that is run instead of the worker.
HELLO = """
import json, os, sys, time
def say(**message):
    os.write(1, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\\n")
def hello(protocol):
    say(method="hello", params={"pid": os.getpid(), "protocol": protocol})
"""


def run_instead(folder: Path, code: str) -> None:
    """Have a program of this code run in the place of the worker."""
    from MedPTQSlicerLib.workerLaunch import setChosenPython

    setChosenPython(write_program(folder / "python", f"#!{sys.executable} -IS\n{code}"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, two scans and a large one."""
    from tiny_network import write_network, write_scan  # PyTorch, which most of this does not need

    folder = tmp_path_factory.mktemp("data é 中 space")
    write_network(folder)
    for seed in range(2):
        write_scan(folder / "scans" / f"{seed}.nii.gz", seed=seed)
    write_scan(folder / "large" / "head.nii.gz", (96, 96, 96))
    return folder


@pytest.fixture
def launcher(
    gui: Gui,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """Slicer with its launcher, PythonSlicer; nothing may be left when the test has ended."""
    program = write_program(tmp_path / "bin" / "PythonSlicer", LAUNCHER)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    yield from _in_slicer(gui, tmp_path, monkeypatch)


@pytest.fixture
def slicer_worker(
    gui: Gui,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """Slicer whose Python is no launcher; nothing may be left when the test has ended."""
    yield from _in_slicer(gui, tmp_path, monkeypatch)


def _in_slicer(the_gui: Gui, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delenv("MEDPTQ_WORKER_PYTHON", raising=False)
    monkeypatch.setenv("MEDPTQ_CACHE", str(folder / "cache"))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(folder / "library"))
    from MedPTQSlicerLib.background import background

    with nothing_left(the_gui):
        yield background()
        background().stop()


@contextmanager
def nothing_left(the_gui: Gui, seconds: float = 0.0) -> Iterator[None]:
    """See that no process and no file for passing data is left after the block."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    seen: set[int] = set(before)
    yield
    seen |= {child.pid for child in psutil.Process().children(recursive=True)}
    wait_until_gone(sorted(seen - before), seconds)
    assert left_in(Path(the_gui.app.temporaryPath)) == []


def left_in(temporary: Path) -> list[str]:
    return sorted(path.name for path in temporary.iterdir() if path.name != "MedPTQ-worker.log")


def workers() -> list[int]:
    """Return the ids of this process's children, and theirs, that run; without dead ones."""
    return [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
    ]


def quantize(data: Path, output: Path, **recipe: Any) -> dict[str, Any]:
    """Return the params of a calibration; it takes for ever, if it is as LONG says."""
    return {
        "model": data / "net.onnx",
        "scans": data / ("large" if recipe == LONG else "scans"),
        "output": output,
        "recipe": recipe,
        "overwrite": True,
    }


def job_of(client: Any, method: str, **params: Any) -> Any:
    """Return a job that asks for one thing."""
    from MedPTQSlicerLib.jobs import Job

    def steps() -> Any:
        return (yield client.request(method, **params))

    return Job(method, steps())


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Run the event loop until a condition holds."""
    import slicer

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        slicer.app.processEvents()
        time.sleep(0.005)


def is_calibrating(job: Any) -> Callable[[], bool]:
    """Return whether a job is in the middle of calibration."""

    def tell() -> bool:
        assert job.state == "running", job.error
        return job.stage == "Calibrating" and bool(job.fraction)

    return tell


def failure_of(job: Any, code: str, seconds: float = 60) -> Any:
    """Return the error of a job, which has all that a user is to be told."""
    from MedPTQSlicerLib.workerErrors import WorkerError

    with pytest.raises(WorkerError) as raised:
        job.wait(seconds)
    error = raised.value
    assert error.code == code
    assert error.what
    assert error.why
    assert error.todo
    assert "Traceback" not in str(error)
    return error


def next_one_works(background: Any) -> None:
    assert "models" in background.run(job_of(background.client, "models")).wait(60)
