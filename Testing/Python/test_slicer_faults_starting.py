"""Pythons that cannot run the worker: it is said what they lack, and the next one works."""

from __future__ import annotations

import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from slicer_worker import (  # noqa: F401 - some are fixtures
    HELLO,
    failure_of,
    job_of,
    next_one_works,
    run_instead,
    slicer_worker,
    until,
    workers,
    write_program,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals and shebangs")


def test_there_is_no_such_python(slicer_worker: Any, tmp_path: Path) -> None:  # noqa: F811
    from MedPTQSlicerLib.workerLaunch import setChosenPython

    setChosenPython(tmp_path / "no such" / "python")
    jobs = [slicer_worker.run(job_of(slicer_worker.client, "models")) for _ in range(2)]
    for job in jobs:
        assert "no such" in failure_of(job, "worker.no-python", 5).why
    setChosenPython(Path(__file__))  # a file that is no program
    failure_of(slicer_worker.run(job_of(slicer_worker.client, "models")), "worker.no-python", 5)
    setChosenPython(tmp_path)
    failure_of(slicer_worker.run(job_of(slicer_worker.client, "models")), "worker.no-python", 5)
    setChosenPython(None)
    next_one_works(slicer_worker)


def test_a_python_without_the_packages(slicer_worker: Any, tmp_path: Path) -> None:  # noqa: F811
    from MedPTQSlicerLib.workerLaunch import setChosenPython

    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    setChosenPython(tmp_path / "venv" / "bin" / "python")
    job = slicer_worker.run(job_of(slicer_worker.client, "models"))
    error = failure_of(job, "worker.packages", 30)
    assert str(tmp_path / "venv") in error.why
    assert "does not have the package" in error.why
    assert "This computer" in error.todo
    stderr = slicer_worker.client.stderr
    assert error.why.rpartition(" ")[2] in stderr
    assert "Traceback" in stderr


def test_a_python_that_does_not_look_at_the_environment(slicer_worker: Any, tmp_path: Path) -> None:  # noqa: F811
    from MedPTQSlicerLib.workerLaunch import setChosenPython

    isolated = write_program(
        tmp_path / "python", f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n'
    )
    setChosenPython(isolated)
    failure_of(slicer_worker.run(job_of(slicer_worker.client, "models")), "worker.incomplete", 30)


@pytest.mark.parametrize(
    ("code", "expected", "why"),
    [
        ("raise ImportError('libfoo.so: cannot open')", "worker.packages", "libfoo.so"),
        ("print 'Python 2'", "worker.start", "SyntaxError"),
        ("import sys; sys.stderr.write('old glibc\\n'); sys.exit(9)", "worker.start", "old glibc"),
        ("import os; os.kill(os.getpid(), 11)", "worker.start", "SIGSEGV"),
        ("", "worker.start", "status 0"),
        (f"{HELLO}\nhello(2)\ntime.sleep(600)", "worker.protocol", "protocol 2, not 1"),
    ],
)
def test_a_python_that_cannot_run_it(
    slicer_worker: Any,  # noqa: F811
    tmp_path: Path,
    code: str,
    expected: str,
    why: str,
) -> None:
    run_instead(tmp_path, code)
    jobs = [slicer_worker.run(job_of(slicer_worker.client, "models")) for _ in range(2)]
    for job in jobs:
        assert why in failure_of(job, expected, 20).why


def test_a_python_that_says_nothing(
    slicer_worker: Any,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from MedPTQSlicerLib import workerClient

    monkeypatch.setattr(workerClient, "HELLO_SECONDS", 2)
    run_instead(tmp_path, "import time\ntime.sleep(600)")
    job = slicer_worker.run(job_of(slicer_worker.client, "models"))
    assert "2 seconds" in failure_of(job, "worker.silent", 10).why
    until(lambda: workers() == [], 1)


@pytest.mark.parametrize(
    ("fault", "told"),
    [("ModuleNotFoundError", "a package of"), ("ImportError: numpy", "the package numpy of")],
)
def test_a_package_that_is_found_missing_later(
    slicer_worker: Any,  # noqa: F811
    tmp_path: Path,
    fault: str,
    told: str,
) -> None:
    why = f"of a fault in the program ({fault})"
    data = {"code": "medptq.unexpected", "what": "The work", "why": why, "todo": "Try again"}
    code = f"""{HELLO}
hello(1)
for line in sys.stdin:
    id = json.loads(line)["id"]
    say(id=id, error={{"code": -32603, "message": "", "data": {data!r}}})
"""
    run_instead(tmp_path, code)
    job = slicer_worker.run(job_of(slicer_worker.client, "models"))
    failure = failure_of(job, "worker.packages", 20)
    assert told in failure.why
    assert "This computer" in failure.todo
