"""What the panel remembers with a scene, and what it does not."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from slicer_panel import (  # noqa: F401 - fixtures
    MODEL,
    Panel,
    calibrated,
    data,
    libraries,
    panel,
    read_mrb,
    slicer_worker,
)


def test_choices_come_back_with_the_scene(calibrated: Panel, tmp_path: Path) -> None:  # noqa: F811
    import slicer

    state = calibrated.state
    calibrated.ui.segmentPrecision.setCurrentIndex(2)
    calibrated.ui.calibrateObserver.setCurrentText("Percentile")
    calibrated.ui.calibratePatches.value = 7
    calibrated.ui.segmentShow3D.checked = True
    calibrated.click("segmentApply")
    calibrated.until_enabled("segmentApply")
    calibrated.ui.segmentOutput.setCurrentNode(
        slicer.util.getNode("T1 of Jane Doe - Brightness FP32")
    )
    assert (state.patches, state.precision.name, state.observer.name) == (7, "FP32", "PERCENTILE")
    scene = tmp_path / "scene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(scene), None)

    slicer.mrmlScene.Clear()
    ui = calibrated.ui
    assert (ui.calibratePatches.value, ui.segmentPrecision.currentIndex) == (16, 0)
    assert calibrated.state.modelId == MODEL  # the one that was used last
    assert ui.segmentInput.currentNode() is None
    assert ui.segmentResult.isHidden()

    read_mrb(scene, tmp_path)
    calibrated.gui.process()
    assert (ui.calibratePatches.value, ui.segmentPrecision.currentIndex) == (7, 2)
    assert ui.segmentShow3D.checked
    assert ui.calibratePercentile.enabled
    assert ui.segmentInput.currentNode().GetName() == "T1 of Jane Doe"
    assert ui.segmentOutput.currentNode().GetName() == "T1 of Jane Doe - Brightness FP32"
    calibrated.until_enabled("segmentApply")


def test_a_scene_does_not_tell_the_folder_of_scans(
    panel: Panel,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    import slicer

    ui = panel.ui
    panel.choose_model("Brightness")
    shutil.copytree(data / "scans", tmp_path / "John Smith")
    panel.choose_folder(tmp_path / "John Smith")
    panel.until_enabled("calibrateStart")
    scene = tmp_path / "scene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(scene), None)
    with zipfile.ZipFile(scene) as saved:
        [mrml] = [name for name in saved.namelist() if name.endswith(".mrml")]
        text = saved.read(mrml).decode()
    assert "brightness" in text
    assert "Smith" not in text

    slicer.mrmlScene.Clear()
    assert ui.calibrateFolder.currentPath == str(tmp_path / "John Smith")  # used last
    ui.calibrateFolder.currentPath = str(data / "scans")
    read_mrb(scene, tmp_path)
    panel.gui.process()
    assert ui.calibrateFolder.currentPath == str(data / "scans")
    panel.until_enabled("calibrateStart")


def test_the_folder_in_a_scene_of_an_older_version_is_not_looked_at(
    panel: Panel,  # noqa: F811
    data: Path,  # noqa: F811
) -> None:
    import slicer

    panel.choose_model("Brightness")
    panel.choose_folder(data / "scans")
    slicer.util.selectModule("Data")
    node = panel.logic.getParameterNode()
    node.SetParameter("scansFolder", "//elsewhere/John Smith")
    node.SetParameter("patches", "7")
    slicer.util.selectModule("MedPTQSlicer")
    assert panel.state.patches == 7
    assert panel.ui.calibrateFolder.currentPath == str(data / "scans")
    panel.until_enabled("calibrateStart")
    assert "scansFolder" not in node.GetParameterNames()  # it is not saved again either


def test_a_scene_of_another_version_opens_with_what_is_known_of_it(calibrated: Panel) -> None:  # noqa: F811
    import slicer

    slicer.util.selectModule("Data")
    node = calibrated.logic.getParameterNode()
    node.SetParameter("precision", "INT2")
    slicer.util.selectModule("MedPTQSlicer")
    assert calibrated.state.precision.name == "BEST"
    assert calibrated.ui.segmentApply.enabled
