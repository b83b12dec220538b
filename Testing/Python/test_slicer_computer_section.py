"""The section "This computer", driven as a user would, with real Pythons, a real pip and worker."""

from __future__ import annotations

import importlib
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from medptq.errors import MedPTQError
from package_index import PackageIndex
from slicer_gui import Gui
from test_slicer_computer_verdict import COMPLETE, NEEDED

UI = Path(__file__).parents[2] / "MedPTQSlicer" / "Resources" / "UI" / "MedPTQSlicer.ui"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pip is lent by links")


class Computer:
    """The section in a panel."""

    def __init__(self, gui: Gui) -> None:
        import slicer

        from MedPTQSlicerLib.computerSection import ComputerSection

        self.gui = gui
        self.widget = slicer.util.loadUI(str(UI))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.widget.show()
        self.section = ComputerSection(self.ui)

    @property
    def light(self) -> str:
        return str(self.ui.computerLight.toolTip)

    @property
    def summary(self) -> str:
        return str(self.ui.computerSummary.text)

    def open(self) -> None:
        """Open the section, and see that it checks."""
        self.ui.computerSection.collapsed = False
        self.ended("computer check")

    def ended(self, kind: str, seconds: float = 60) -> Any:
        """Wait until a job of that kind has ended and no other follows it."""
        job = self.section.job
        assert job is not None
        assert job.kind == kind
        self.gui.waitUntil(lambda: job.state != "running", seconds, kind)
        self.gui.process(0.02)
        return job


@pytest.fixture
def computer(gui: Gui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Computer]:
    from MedPTQSlicerLib.background import background

    monkeypatch.delenv("MEDPTQ_WORKER_PYTHON", raising=False)
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    made = Computer(gui)
    yield made
    made.section.cleanup()
    background().stop()
    gui.process(0.1)
    left = [
        child
        for child in psutil.Process().children(recursive=True)
        if child.pid not in before and child.status() != psutil.STATUS_ZOMBIE
    ]
    assert psutil.wait_procs(left, 3)[1] == []


def _environment(folder: Path, *, with_pip: bool = True) -> Path:
    venv.create(folder, with_pip=False)
    if with_pip:
        pip = Path(str(importlib.import_module("pip").__file__)).parents[1]
        [about] = pip.glob("pip-*.dist-info")
        for name in ("pip", about.name):
            (next(folder.rglob("site-packages")) / name).symlink_to(pip / name)
    return folder / "bin" / "python"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    """All that is needed, by name; none of it does anything."""
    from MedPTQSlicerLib import installPlanning

    index = PackageIndex(tmp_path / "index")
    for name, version in COMPLETE.items():
        if name != "pip":
            index.add(name, version.partition("+")[0])
    with index.serve(monkeypatch):
        monkeypatch.setattr(installPlanning, "CPU_INDEX", f"{index.url}/cpu")
        yield index


def _choose(path: Path | None) -> None:
    from MedPTQSlicerLib.workerLaunch import setChosenPython

    setChosenPython(path)


def test_nothing_runs_until_the_section_is_opened(computer: Computer, tmp_path: Path) -> None:
    _choose(_environment(tmp_path / "env", with_pip=False))
    computer.section.enter()
    computer.gui.process(0.05)
    assert computer.section.job is None
    assert computer.summary == "Not checked yet"
    computer.open()
    first = computer.section.job
    computer.ui.computerSection.collapsed = True
    computer.ui.computerSection.collapsed = False
    computer.section.enter()
    assert computer.section.job is first  # once is enough
    computer.gui.click(computer.ui.computerCheck)
    assert computer.section.job is not first
    computer.ended("computer check")


def test_a_complete_python_is_proved_in_the_background(computer: Computer) -> None:
    _choose(Path(sys.executable))
    with computer.gui.heartbeat() as beat:
        computer.open()
    assert beat.beats > 20
    verdict = computer.section.report.verdict
    assert verdict.light in ("green", "amber")
    assert "OpenVINO" in verdict.line
    assert "INT8 on the CPU" in computer.summary
    assert "int8: ok" in computer.ui.computerDetails.plainText
    assert computer.ui.computerMend.isHidden()
    assert str(computer.ui.computerPython.currentPath) == ""  # chosen before the panel knew it
    computer.section.enter()
    assert str(computer.ui.computerPython.currentPath) == sys.executable

    computer.gui.click(computer.ui.computerCopyDiagnostics)
    copied = computer.gui.app.clipboard().text()
    assert verdict.line in copied
    assert "request 1: doctor" in copied  # the worker's log
    assert str(Path.home()) not in copied


def test_from_red_to_installed(computer: Computer, index: PackageIndex, tmp_path: Path) -> None:
    import qt

    python = _environment(tmp_path / "env é")
    _choose(python)
    computer.open()
    assert computer.light == "It does not work"
    assert f"{NEEDED} packages are missing: PyTorch, OpenVINO, MONAI and" in computer.summary
    assert computer.ui.computerMend.text == "Install what is missing…"

    computer.gui.dialogs.answer(qt.QMessageBox.Cancel)  # asked first, and a no is a no
    computer.gui.click(computer.ui.computerMend)
    assert not computer.ui.computerMend.enabled  # not twice
    computer.ended("computer plan")
    question = computer.gui.dialogs.shown[-1]
    will = f"{NEEDED} packages will be installed into the Python that you have chosen"
    assert will in question.text
    assert "127.0.0.1" in question.text
    assert len(question.details.splitlines()) == NEEDED
    assert "openvino 2026.4.1" in question.details
    assert computer.section.job.kind == "computer plan"
    assert not list(tmp_path.glob("env*/lib/*/site-packages/openvino*"))

    computer.gui.dialogs.answer(qt.QMessageBox.Ok)
    computer.gui.click(computer.ui.computerMend)
    computer.ended("computer plan")
    install = computer.section.job
    assert install.kind == "install"
    computer.gui.waitUntil(lambda: install.state != "running", 60)
    assert install.error is None
    computer.gui.process(0.02)
    check = computer.ended("computer check")  # it follows by itself
    assert computer.section.report.unmet == ()
    assert "Proving the engines" in "\n".join(check.log)
    # These packages do nothing, so the worker cannot start, and that is told as what it is.
    assert computer.light == "It does not work"
    assert computer.section.report.error is not None
    assert computer.ui.computerMend.text == "Use Slicer's Python"
    assert [p.name for p in (computer.gui.folder / "tmp").glob("medptq-*")] == []


def test_while_slicer_is_tested_nothing_is_installed(
    computer: Computer, index: PackageIndex, tmp_path: Path
) -> None:
    _choose(_environment(tmp_path / "env"))
    computer.open()
    computer.gui.app._pyside._testing = True  # Slicer answers its own questions with a yes then
    computer.gui.click(computer.ui.computerMend)
    computer.ended("computer plan")
    assert computer.section.plan is not None
    assert computer.section.job.kind == "computer plan"


def test_a_failed_plan_is_told_and_can_be_tried_again(
    computer: Computer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.setenv(key, str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    _choose(_environment(tmp_path / "env"))
    computer.open()
    computer.gui.click(computer.ui.computerMend)
    job = computer.ended("computer plan")
    assert job.error.code == "install.conflict"
    assert not computer.ui.computerProgress.isHidden()
    assert computer.ui.computerMend.enabled


def test_a_python_is_looked_at_before_it_is_taken(computer: Computer, tmp_path: Path) -> None:
    from MedPTQSlicerLib.workerLaunch import chosenPython

    computer.ui.computerSection.collapsed = False
    computer.ended("computer check")
    assert not computer.ui.computerUseSlicerPython.enabled
    bare = _environment(tmp_path / "bare", with_pip=False)
    before = computer.section.job
    for bad in (tmp_path / "python3", tmp_path, bare):
        computer.ui.computerPython.currentPath = str(bad)
        computer.gui.waitUntil(lambda: computer.section.job is not before)  # noqa: B023
        before = computer.ended("computer python")
        assert isinstance(before.error, MedPTQError)
        assert before.error.code.startswith("python.")
        assert not computer.ui.computerProgress.isHidden()  # where the error is shown
        assert chosenPython().isSlicers
        assert str(computer.ui.computerPython.currentPath) == ""


def test_another_python_and_back(computer: Computer, tmp_path: Path) -> None:
    from MedPTQSlicerLib.workerLaunch import chosenPython

    python = _environment(tmp_path / "env")
    computer.open()
    first = computer.section.job
    computer.ui.computerPython.currentPath = str(tmp_path / "env")  # its folder will do
    computer.gui.waitUntil(lambda: computer.section.job is not first)
    computer.ended("computer python")
    assert chosenPython().path == python
    assert str(computer.ui.computerPython.currentPath) == str(python)
    computer.ended("computer check")
    assert computer.light == "It does not work"
    computer.gui.click(computer.ui.computerUseSlicerPython)
    assert chosenPython().isSlicers
    assert str(computer.ui.computerPython.currentPath) == ""
    assert not computer.ui.computerUseSlicerPython.enabled
    computer.ended("computer check")
    assert computer.section.report.python.isSlicers


def test_a_check_can_be_cancelled(computer: Computer) -> None:
    _choose(Path(sys.executable))
    computer.ui.computerSection.collapsed = False
    job = computer.section.job
    computer.gui.waitUntil(lambda: job.stage not in ("", "Looking at this Python"))
    job.cancel()
    computer.gui.waitUntil(lambda: job.state == "cancelled", 3)
    assert computer.summary == "Not checked yet"
    assert computer.ui.computerCheck.enabled


def test_a_new_panel_goes_on_with_what_runs(computer: Computer) -> None:
    _choose(Path(sys.executable))
    computer.ui.computerSection.collapsed = False
    job = computer.section.job
    computer.section.cleanup()
    another = Computer(computer.gui)
    assert another.section.job is job
    assert not another.ui.computerCheck.enabled
    another.ended("computer check")
    assert another.section.report is job.result
    assert computer.section.report is None


def test_the_log_is_opened(computer: Computer, tmp_path: Path) -> None:
    from MedPTQSlicerLib.workerLaunch import logFile

    _choose(tmp_path / "none")
    computer.open()
    computer.gui.click(computer.ui.computerOpenLog)  # there is none
    logFile().write_text("x", encoding="utf-8")
    computer.gui.click(computer.ui.computerOpenLog)
