"""What the panel does when the ground is pulled from under it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from slicer_panel import (  # noqa: F401 - fixtures
    MODEL,
    OFFERED,
    Panel,
    add_volume,
    calibrated,
    data,
    libraries,
    panel,
    segmentations,
    slicer_worker,
)
from slicer_worker import write_program


def start_long_calibration(panel: Panel, data: Path) -> None:  # noqa: F811
    panel.choose_model("Brightness")
    panel.state.patches = 9999
    panel.choose_folder(data / "large")
    panel.until_enabled("calibrateStart")
    panel.click("calibrateStart")
    panel.until(lambda: "Calibrating" in panel.of_job("calibrateProgress", "jobStage").text)


def test_a_calibration_outlives_the_scene_the_module_and_its_code(
    panel: Panel,  # noqa: F811
    data: Path,  # noqa: F811
) -> None:
    import slicer

    start_long_calibration(panel, data)
    slicer.mrmlScene.Clear()
    assert panel.is_seen("calibrateProgress", "jobRunning")
    slicer.util.selectModule("Data")
    panel.gui.process(0.3)
    slicer.util.selectModule("MedPTQSlicer")
    assert panel.is_seen("calibrateProgress", "jobRunning")

    old = panel.widget
    code = sys.modules["MedPTQSlicerLib.panel"]
    old.onReload()
    panel = Panel(panel.gui, slicer.modules.MedPTQSlicerWidget)
    assert panel.widget is not old
    assert sys.modules["MedPTQSlicerLib.panel"] is not code
    panel.choose_model("Brightness")  # they are listed, though the worker is busy
    assert panel.is_seen("calibrateProgress", "jobRunning")
    assert not panel.ui.calibrateStart.enabled
    panel.cancel("calibrateProgress")
    panel.until(lambda: not panel.is_seen("calibrateProgress", "jobRunning"), 2)
    panel.choose_folder(data / "scans")
    panel.until_enabled("calibrateStart")


@pytest.mark.parametrize("how", ["volume", "scene"])
def test_a_volume_that_goes_while_it_is_segmented(calibrated: Panel, how: str) -> None:  # noqa: F811
    import slicer

    volume = calibrated.ui.segmentInput.currentNode()
    calibrated.click("segmentApply")
    calibrated.gui.process(0.02)
    if how == "scene":
        slicer.mrmlScene.Clear()
    else:
        slicer.mrmlScene.RemoveNode(volume)
    calibrated.until(lambda: calibrated.failure("segmentProgress"), 5)
    assert "scan.gone" in calibrated.failure("segmentProgress")
    assert "was removed, or the scene was closed" in calibrated.failure("segmentProgress")
    assert segmentations() == []

    add_volume("Another")
    calibrated.until_enabled("segmentApply", 5)
    calibrated.click("segmentApply")
    assert not calibrated.failure("segmentProgress")
    calibrated.until_enabled("segmentApply")
    assert len(segmentations()) == 1


def test_a_worker_that_is_killed(calibrated: Panel) -> None:  # noqa: F811
    import slicer

    from MedPTQSlicerLib.background import background

    calibrated.click("segmentApply")
    calibrated.until(lambda: background().client.state == "busy")
    os.kill(background().client.pid, signal.SIGKILL)
    calibrated.until(lambda: calibrated.failure("segmentProgress"), 5)
    assert "worker.killed" in calibrated.failure("segmentProgress")
    assert calibrated.ui.segmentApply.enabled

    calibrated.gui.click(calibrated.of_job("segmentProgress", "jobCopy"))
    copied = slicer.app.clipboard().text()
    assert "worker.killed" in copied
    assert "5.12.4" in copied
    calibrated.gui.click(calibrated.of_job("segmentProgress", "jobDismiss"))
    assert not calibrated.failure("segmentProgress")

    calibrated.click("segmentApply")
    calibrated.until_enabled("segmentApply")
    assert len(segmentations()) == 1


def test_a_folder_that_vanishes_or_holds_nothing(
    panel: Panel,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    panel.choose_model("Brightness")
    (tmp_path / "empty").mkdir()
    panel.choose_folder(tmp_path / "empty")
    assert not panel.ui.calibrateStart.enabled
    assert panel.ui.calibrateHint.text == "Choose a folder that holds scans."
    assert panel.ui.calibrateFound.text

    scans = tmp_path / "scans"
    shutil.copytree(data / "scans", scans)
    (scans / "broken.nii.gz").write_bytes(b"no image")
    panel.choose_folder(scans)
    assert panel.ui.calibrateFound.text.startswith("2 scans")
    assert "Left out: broken.nii.gz" in panel.ui.calibrateFound.text
    assert "broken.nii.gz" in panel.ui.calibrateFound.toolTip

    panel.until_enabled("calibrateStart")
    shutil.rmtree(scans)
    panel.click("calibrateStart")
    panel.until(lambda: panel.failure("calibrateProgress"))
    assert "scan.missing" in panel.failure("calibrateProgress")
    panel.until(lambda: panel.ui.calibrateHint.text == "Choose a folder that holds scans.")
    panel.choose_folder(data / "scans")
    panel.until_enabled("calibrateStart")


def test_a_folder_that_failed_is_looked_at_again_but_not_for_ever(
    panel: Panel,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, really = [], panel.logic.inspectScans

    def inspect(*arguments: Any, **options: Any) -> Any:
        looks.append(arguments)
        return really(*arguments, **options)

    def until_refused(count: int) -> None:
        panel.until(lambda: panel.ui.calibrateHint.text == "Choose a folder that holds scans.")
        panel.gui.process(1)
        assert len(looks) == count

    monkeypatch.setattr(panel.logic, "inspectScans", inspect)
    scans = tmp_path / "scans"
    panel.choose_model("Brightness")
    panel.choose_folder(scans)
    until_refused(1)
    panel.choose_model("deepbet")
    until_refused(2)
    panel.widget.panel._selection.refresh()
    until_refused(3)
    shutil.copytree(data / "scans", scans)
    panel.ui.calibrateFolder.currentPath = f"{scans}/"  # Qt does not tell of the very same text
    panel.until_enabled("calibrateStart")
    assert len(looks) == 4


def test_what_is_left_out_on_the_way_is_told_at_the_end(
    panel: Panel,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    scans = tmp_path / "scans"
    shutil.copytree(data / "scans", scans)
    whole = (scans / "0.nii.gz").read_bytes()
    (scans / "cut off.nii.gz").write_bytes(whole[: len(whole) // 2])
    panel.choose_model("Brightness")
    panel.choose_folder(scans)
    panel.until_enabled("calibrateStart")
    panel.click("calibrateStart")
    panel.until(lambda: panel.model_state().startswith("INT8"))
    said = panel.failure("calibrateProgress")
    assert "cut off.nii.gz was left out" in said
    assert panel.of_job("calibrateProgress", "jobWhat").text.startswith("Done, ")
    assert panel.of_job("calibrateProgress", "jobCode").isHidden()
    assert panel.ui.calibrateResult.text.startswith("Calibrated on 2 scans")


def test_a_library_that_cannot_be_written(
    slicer_worker: Any,  # noqa: F811
    gui: Any,
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(tmp_path / "file" / "library"))
    panel = Panel(gui, gui.load_module())  # noqa: F811
    panel.until(lambda: panel.models() == OFFERED)
    panel.import_network(data / "net.onnx")
    panel.until(lambda: panel.failure("modelProgress"))
    assert "output." in panel.failure("modelProgress")
    assert panel.ui.modelImport.enabled


def panel_without_packages(gui: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Panel:
    """Return a panel whose worker's Python has no packages; it has said so."""
    bare = write_program(tmp_path / "python", f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    monkeypatch.setenv("MEDPTQ_WORKER_PYTHON", str(bare))
    opened = Panel(gui, gui.load_module())
    opened.until(lambda: opened.failure("modelProgress"), 20)
    return opened


def test_a_python_that_cannot_run_the_worker(
    slicer_worker: Any,  # noqa: F811
    gui: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel = panel_without_packages(gui, tmp_path, monkeypatch)  # noqa: F811
    assert "worker.packages" in panel.failure("modelProgress")
    assert "'This computer'" in panel.failure("modelProgress")
    assert not panel.ui.computerSection.collapsed
    assert not panel.ui.segmentApply.enabled
    panel.until(lambda: panel.ui.computerCheck.enabled)
    panel.until(lambda: not panel.ui.modelRetry.isHidden())

    monkeypatch.delenv("MEDPTQ_WORKER_PYTHON")
    panel.click("modelRetry")
    panel.until(lambda: panel.models() == OFFERED)
    assert not panel.failure("modelProgress")
    assert panel.ui.modelRetry.isHidden()


def test_a_folder_is_looked_at_again_as_soon_as_the_worker_works(
    slicer_worker: Any,  # noqa: F811
    gui: Any,
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel = panel_without_packages(gui, tmp_path, monkeypatch)  # noqa: F811
    panel.choose_folder(data / "scans")
    panel.until(lambda: "package" in panel.ui.calibrateFound.text, 20)
    panel.until(lambda: panel.ui.computerCheck.enabled)

    monkeypatch.delenv("MEDPTQ_WORKER_PYTHON")
    panel.click("computerCheck")  # as after an installation
    panel.choose_model("deepbet")
    panel.until_enabled("calibrateStart")
    assert panel.ui.calibrateFound.text.startswith("2 scans")


def test_a_panel_that_is_opened_while_packages_are_installed(
    slicer_worker: Any,  # noqa: F811
    gui: Any,
) -> None:
    from MedPTQSlicerLib.background import background

    with background().client.held():
        panel = Panel(gui, gui.load_module())
        panel.until(lambda: panel.failure("modelProgress"), 5)
        assert "Packages are being installed" in panel.failure("modelProgress")
        assert "worker.installing" in panel.failure("modelProgress")
        assert background().client.state == "stopped"
        panel.until(lambda: panel.ui.computerCheck.enabled)
    panel.click("computerCheck")  # as after an installation
    panel.until(lambda: panel.models() == OFFERED)
    assert not panel.failure("modelProgress")


def test_a_damaged_model_is_listed_with_what_is_wrong(
    slicer_worker: Any,  # noqa: F811
    gui: Any,
    libraries: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    shutil.copytree(libraries["calibrated"], tmp_path / "library")
    (tmp_path / "library" / MODEL / "network" / "card.json").write_text("{")
    add_volume()
    panel = Panel(gui, gui.load_module())  # noqa: F811
    panel.choose_model(MODEL)
    assert panel.model_state() == "Damaged"
    assert not panel.ui.segmentApply.enabled
    assert panel.ui.segmentHint.text == panel.ui.modelHint.text != ""
    assert panel.ui.modelDelete.enabled
