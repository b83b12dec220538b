"""Installing through what Slicer has for it: the PyTorch extension and ``slicer.packaging``.

Both are played here, as they are of Slicer's; the calls are those of SlicerPyTorch and of Slicer
5.12.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from medptq.installation.facts import facts
from slicer_gui import Gui

HERE = replace(facts(), packages={"numpy": "2.4.6", "simpleitk": "2.5.5", "pip": "25.0"})


class PyTorchUtilsLogic:
    """The extension's, as far as it is used."""

    asked: dict[str, Any]
    constraints: str
    answer: Any = None

    def installTorch(  # noqa: N802
        self,
        askConfirmation: bool = False,  # noqa: N803
        torchVersionRequirement: str | None = None,  # noqa: N803
    ) -> Any:
        kind = type(self)
        kind.asked = {"ask": askConfirmation, "version": torchVersionRequirement}
        [*others, ours] = os.environ["PIP_CONSTRAINT"].split(" ")
        assert others == ["theirs.txt"]
        kind.constraints = Path(url2pathname(urlsplit(ours).path)).read_text(encoding="utf-8")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def extension(gui: Gui, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[PyTorchUtilsLogic]]:
    import slicer

    module = ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    monkeypatch.setattr(slicer.modules, "pytorchutils", object(), raising=False)
    monkeypatch.setattr(PyTorchUtilsLogic, "answer", object())
    monkeypatch.setenv("PIP_CONSTRAINT", "theirs.txt")
    yield PyTorchUtilsLogic
    assert os.environ["PIP_CONSTRAINT"] == "theirs.txt"
    assert list((gui.folder / "tmp").glob("medptq-*")) == []


def test_the_extension_installs_pytorch_and_keeps_numpy(
    extension: type[PyTorchUtilsLogic],
) -> None:
    from MedPTQSlicerLib.pytorchExtension import hasPyTorchExtension, installPyTorch

    assert hasPyTorchExtension()
    assert installPyTorch(HERE)
    assert extension.asked == {"ask": True, "version": ">=2.6"}
    assert extension.constraints == "numpy===2.4.6\nsimpleitk===2.5.5\n"


def test_a_user_may_decline_there(
    extension: type[PyTorchUtilsLogic], monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedPTQSlicerLib.pytorchExtension import installPyTorch

    monkeypatch.setattr(extension, "answer", None)
    assert not installPyTorch(HERE)


def test_its_failure_is_told(
    extension: type[PyTorchUtilsLogic], monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedPTQSlicerLib.installErrors import InstallationError
    from MedPTQSlicerLib.pytorchExtension import installPyTorch

    monkeypatch.setattr(extension, "answer", RuntimeError("no wheel"))
    with pytest.raises(InstallationError, match="RuntimeError: no wheel") as caught:
        installPyTorch(HERE)
    assert caught.value.code == "install.pytorch"
    assert "PyTorch Utils" in caught.value.todo


def test_without_it_there_is_none(gui: Gui) -> None:
    from MedPTQSlicerLib.pytorchExtension import hasPyTorchExtension

    assert not hasPyTorchExtension()


class Packaging(ModuleType):
    """``slicer.packaging`` of 5.12, as far as it is used."""

    in_progress = False
    calls: list[list[str]]

    def isPipInstallInProgress(self) -> bool:  # noqa: N802
        return self.in_progress

    def pip_install(
        self,
        requirements: list[str],
        *,
        blocking: bool,
        show_progress: bool,
        logCallback: Callable[[str], None],  # noqa: N803
        completedCallback: Callable[[int], None],  # noqa: N803
    ) -> None:
        import qt

        assert not blocking
        assert not show_progress
        self.calls = [*getattr(self, "calls", []), requirements]
        logCallback("ERROR: it did not work.")
        qt.QTimer.singleShot(10, lambda: completedCallback(1))


@pytest.fixture
def packaging(gui: Gui, monkeypatch: pytest.MonkeyPatch) -> Packaging:
    import slicer

    module = Packaging("slicer.packaging")
    monkeypatch.setitem(sys.modules, "slicer.packaging", module)
    monkeypatch.setattr(slicer, "packaging", module, raising=False)
    return module


def test_slicers_own_python_is_changed_by_slicers_own_means(packaging: Packaging) -> None:
    from MedPTQSlicerLib.installing import SlicerPipRequest
    from MedPTQSlicerLib.jobs import Job

    def steps() -> Any:
        return (yield SlicerPipRequest("Installing 3 packages", ("--no-index", "-r", "a b.txt")))

    job = Job("Test", steps()).start()
    assert job.wait(10) == {"exitCode": 1, "output": "ERROR: it did not work.", "errors": ""}
    assert packaging.calls == [["--no-index", "-r", "a b.txt"]]
    assert job.stage == "Installing 3 packages"


def test_two_installations_do_not_meet(packaging: Packaging, gui: Gui) -> None:
    from MedPTQSlicerLib.background import background
    from MedPTQSlicerLib.installErrors import InstallationError
    from MedPTQSlicerLib.installing import installSteps
    from MedPTQSlicerLib.installPlan import InstallPlan
    from MedPTQSlicerLib.jobs import Job
    from MedPTQSlicerLib.workerLaunch import slicersPython

    packaging.in_progress = True
    plan = InstallPlan(slicersPython(), HERE, ())
    with pytest.raises(InstallationError, match="another installation runs") as caught:
        Job("Test", installSteps(plan, background().client)).start().wait(10)
    assert caught.value.code == "install.busy"


def test_nothing_is_replaced_under_a_worker_that_is_at_work(
    gui: Gui, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedPTQSlicerLib.background import background
    from MedPTQSlicerLib.installErrors import InstallationError
    from MedPTQSlicerLib.installing import installSteps
    from MedPTQSlicerLib.installPlan import InstallPlan
    from MedPTQSlicerLib.jobs import Job
    from MedPTQSlicerLib.workerLaunch import setChosenPython, slicersPython

    monkeypatch.delenv("MEDPTQ_WORKER_PYTHON", raising=False)
    setChosenPython(Path(sys.executable))
    client = background().client

    def work() -> Any:
        return (yield client.request("doctor"))

    background().run(Job("Work", work()))
    gui.waitUntil(lambda: client.state == "busy", 60)
    with pytest.raises(InstallationError, match="the worker is at work"):
        Job("Test", installSteps(InstallPlan(slicersPython(), HERE, ()), client)).start().wait(10)
    background().stop()
