"""Which Python a user can choose: real ones, and programs that are none."""

from __future__ import annotations

import stat
import sys
import time
import venv
from pathlib import Path
from typing import Any

import pytest

from medptq.errors import Cancelled, MedPTQError
from slicer_gui import Gui
from test_slicer_computer_verdict import NEEDED

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs programs with a shebang")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment with nothing in it."""
    folder = tmp_path_factory.mktemp("env") / "é with space"
    venv.create(folder, with_pip=False)
    return folder


def _job(steps: Any) -> Any:
    from MedPTQSlicerLib.jobs import Job

    return Job("Test", steps).start()


def _accept(path: Path) -> Any:
    from MedPTQSlicerLib.pythonChoice import acceptSteps

    return _job(acceptSteps(path))


def _refused(path: Path, code: str) -> MedPTQError:
    with pytest.raises(MedPTQError) as raised:
        _accept(path).wait(60)
    error = raised.value
    assert error.code == code
    assert error.what
    assert error.why
    assert error.todo
    assert "Traceback" not in str(error)
    return error


def _program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_complete_python_is_taken(gui: Gui) -> None:
    assert _accept(Path(sys.executable)).wait(60).path == Path(sys.executable)


def test_the_folder_of_an_environment_means_its_python(bare: Path) -> None:
    from MedPTQSlicerLib.pythonProbe import pythonAt

    assert pythonAt(bare) == bare / "bin" / "python"
    for name in ("python3.12", "python3.13t", "PythonSlicer", "python-real", "pypy3"):
        (bare / name).touch()
        assert pythonAt(bare / name) == bare / name


def test_an_empty_environment_that_cannot_be_filled_is_not_taken(gui: Gui, bare: Path) -> None:
    error = _refused(bare, "python.packages")
    assert f"{NEEDED} packages are missing: PyTorch" in error.why
    assert "no pip" in error.why


@pytest.mark.parametrize("name", ["firefox", "pythonista.txt~", "sh"])
def test_what_is_not_called_python_is_not_even_run(gui: Gui, tmp_path: Path, name: str) -> None:
    program = _program(tmp_path / name, f"touch {tmp_path / 'ran'}")
    _refused(program, "python.not-python")
    assert not (tmp_path / "ran").exists()


def test_what_is_not_there_is_told(gui: Gui, tmp_path: Path) -> None:
    assert "not there" in _refused(tmp_path / "python", "python.not-there").why
    _refused(tmp_path, "python.not-python")  # a folder without a Python


@pytest.mark.parametrize(
    ("program", "code", "word"),
    [
        ("echo hello", "python.not-python", "does not answer"),
        ("exit 0", "python.not-python", "does not answer"),
        ("echo '{\"python\": 3}'", "python.not-python", "does not answer"),
        (
            'if [ "$1" = --version ]; then echo Python 2.7.18 >&2; exit 0; fi; exit 1',
            "python.old",
            "3.10",
        ),
        (
            'if [ "$1" = --version ]; then echo Python 3.12.1; exit 0; fi;'
            "echo 'ImportError: no module named encodings' >&2; exit 1",
            "python.broken",
            "encodings",
        ),
        ("kill -9 $$", "python.not-python", "does not answer"),
    ],
)
def test_programs_that_call_themselves_python(
    gui: Gui, tmp_path: Path, program: str, code: str, word: str
) -> None:
    assert word in _refused(_program(tmp_path / "python3", program), code).why


def test_a_file_that_cannot_be_run(gui: Gui, tmp_path: Path) -> None:
    (tmp_path / "python").write_text("not a program")
    _refused(tmp_path / "python", "program.start")


def test_a_program_that_hangs_is_ended(
    gui: Gui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedPTQSlicerLib import pythonProbe

    monkeypatch.setattr(pythonProbe, "_SECONDS", 0.3)
    _refused(_program(tmp_path / "python", "sleep 60 & sleep 60"), "program.timeout")


def test_a_search_can_be_cancelled(gui: Gui, tmp_path: Path) -> None:
    job = _accept(_program(tmp_path / "python", "sleep 60"))
    gui.waitUntil(lambda: job.stage == "Looking at this Python")
    started = time.monotonic()
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait(10)
    assert time.monotonic() - started < 2


def test_the_probe_reads_no_file_of_the_users(
    gui: Gui, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedPTQSlicerLib.pythonProbe import probeSteps
    from MedPTQSlicerLib.workerLaunch import WorkerPython

    (tmp_path / "platform.py").write_text("raise SystemExit('this was imported')")
    monkeypatch.chdir(tmp_path)
    found = _job(probeSteps(WorkerPython(bare / "bin" / "python", isSlicers=False))).wait(60)
    assert found.packages.keys() <= {"medptq"}
