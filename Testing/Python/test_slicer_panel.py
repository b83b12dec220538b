"""The panel as a person uses it, from the choice of a model to a segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from monai_bundles import write_bundle
from slicer_panel import (  # noqa: F401 - fixtures
    MODEL,
    OFFERED,
    Panel,
    add_volume,
    calibrated,
    data,
    libraries,
    panel,
    read_mrb,
    segmentations,
    slicer_worker,
)

UI_FILE = Path(__file__).parents[2] / "MedPTQSlicer" / "Resources" / "UI" / "MedPTQSlicer.ui"
SECTIONS = ("model", "calibrate", "segment", "compare", "computer")
BUTTONS = ("calibrateStart", "segmentApply", "compareButton")


def test_what_cannot_be_done_yet_says_why(panel: Panel) -> None:  # noqa: F811
    panel.until(lambda: panel.models() == [*OFFERED, "Brightness"])
    ui = panel.ui
    for button, hint in zip(BUTTONS, ("calibrateHint", "segmentHint", "compareHint"), strict=True):
        assert not getattr(ui, button).enabled
        assert getattr(ui, button).toolTip == getattr(ui, hint).text == "Choose a model above."
    assert (ui.modelDelete.enabled, ui.modelDelete.toolTip) == (False, "Choose a model first")

    panel.choose_model("Brightness")
    assert panel.state.modelId == MODEL
    assert ui.calibrateHint.text == "Choose a folder of scans."
    assert ui.segmentHint.text == "Load a volume, and choose it here."
    assert "calibrate it" in ui.compareHint.text
    assert "Very&nbsp;bright" in ui.modelDetails.text
    assert "Apache-2.0" in ui.modelDetails.text

    add_volume()
    panel.until_enabled("segmentApply")  # it is taken, as it is the only one
    panel.state.precision = type(panel.state.precision).INT8
    assert not ui.segmentApply.enabled
    assert "no INT8 network of Brightness yet" in ui.segmentHint.text
    panel.choose_model("deepbet")
    panel.state.precision = type(panel.state.precision).BEST
    assert ui.segmentApply.enabled
    assert ui.segmentHint.text == "deepbet is downloaded first (10 MB)."
    assert "from left to right" in ui.segmentWarnings.text  # it is far too small for a head
    assert not ui.segmentWarnings.isHidden()


def test_a_model_that_nobody_tried_is_marked(panel: Panel) -> None:  # noqa: F811
    panel.until(lambda: panel.models() == [*OFFERED, "Brightness"])
    states = dict(panel.listed())
    assert states["UNesT whole brain"] == "Not downloaded, untried"
    assert states["deepbet"] == "Not downloaded"
    panel.choose_model("UNesT whole brain")
    details = panel.ui.modelDetails.text
    assert "Not tried by us:" in details
    assert "It is downloaded on its first use." in details  # its size is not published
    assert "Licence: Apache-2.0" in details
    assert "Cite: Yu et al., UNesT" in details
    panel.choose_model("TotalSegmentator total, 3 mm")  # of which no card is known yet
    assert "and 105 more" in panel.ui.modelDetails.text
    panel.choose_model("deepbet")
    assert "Not tried by us" not in panel.ui.modelDetails.text


def test_models_are_found_imported_and_deleted(
    slicer_worker: Any,  # noqa: F811
    gui: Any,
    data: Path,  # noqa: F811
) -> None:
    panel = Panel(gui, gui.load_module())  # noqa: F811
    panel.until(lambda: panel.models() == OFFERED)
    assert panel.state.modelId == ""
    assert panel.ui.modelHint.text == "Choose a model."
    assert not panel.ui.modelDelete.enabled
    panel.choose_model("deepbet")
    assert panel.model_state() == "Not downloaded"
    assert not panel.ui.modelDelete.enabled

    panel.import_network(data / "net.onnx")
    panel.until(lambda: panel.state.modelId == MODEL and panel.model_state() == "FP32")
    assert panel.models() == [*OFFERED, "Brightness"]

    panel.ui.modelSearch.text = "very BRIGHT mr"
    assert panel.models() == ["Brightness"]
    panel.ui.modelSearch.text = "spleen"
    assert panel.models() == []
    panel.ui.modelSearch.text = ""

    panel.import_network(data / "net.onnx")
    panel.until(lambda: panel.failure("modelProgress"))
    assert "already" in panel.failure("modelProgress")

    import qt

    delete_int8, delete_all = panel.ui.modelDelete.menu().actions()
    assert (delete_int8.enabled, delete_all.enabled) == (False, True)
    gui.dialogs.answer(qt.QMessageBox.Cancel, qt.QMessageBox.Ok)
    delete_all.trigger()
    assert panel.models() == [*OFFERED, "Brightness"]
    delete_all.trigger()
    panel.until(lambda: panel.models() == OFFERED)
    assert "import it again" in gui.dialogs.shown[-1].text


def test_a_bundle_is_imported_from_its_folder(panel: Panel, tmp_path: Path) -> None:  # noqa: F811
    bundle = write_bundle(tmp_path / "bundle")
    panel.import_network(bundle)
    panel.until(lambda: panel.failure("modelProgress") or panel.state.modelId, 60)
    assert panel.failure("modelProgress") == ""
    assert panel.state.modelId == "small-ct-segmentation"
    assert panel.gui.dialogs.shown[-1].kind == "QFileDialog.getExistingDirectory"


def test_what_came_with_the_program_stays(panel: Panel) -> None:  # noqa: F811
    import qt

    panel.choose_model("Brain regions (T1)")
    assert panel.model_state() == "FP32"  # nothing has to be downloaded
    assert "Thalamus" in panel.ui.modelDetails.text
    _, delete_all = panel.ui.modelDelete.menu().actions()
    panel.gui.dialogs.answer(qt.QMessageBox.Ok)
    delete_all.trigger()
    assert "itself came with MedPTQ, and stays" in panel.gui.dialogs.shown[-1].text
    panel.until(lambda: panel.ui.modelDelete.enabled)
    assert panel.model_state() == "FP32"


def test_calibrate_cancel_calibrate_segment(
    panel: Panel,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    ui = panel.ui
    panel.choose_model("Brightness")
    volume = add_volume()
    panel.choose_folder(data / "scans")
    assert ui.calibrateFound.text.startswith("2 scans (NIfTI), ")
    assert "1 x 1.5 x 2 mm" in ui.calibrateFound.text

    panel.state.patches = 5000
    panel.choose_folder(data / "large")
    panel.until_enabled("calibrateStart")
    panel.click("calibrateStart")
    panel.until(lambda: "Calibrating" in panel.of_job("calibrateProgress", "jobStage").text)
    assert not ui.calibrateStart.enabled
    assert ui.segmentApply.enabled  # the rest is free
    panel.cancel("calibrateProgress")
    panel.until_enabled("calibrateStart", 2)
    assert not panel.failure("calibrateProgress")
    assert ui.calibrateResult.isHidden()

    panel.state.patches = 4
    panel.choose_folder(data / "scans")
    panel.until_enabled("calibrateStart")
    panel.click("calibrateStart")
    panel.until(lambda: panel.model_state() == "INT8, not built here yet")
    assert ui.calibrateResult.text.startswith("Calibrated on 2 scans (4 patches) in ")
    assert "; least alike is " in ui.calibrateResult.text
    assert "calibrated on 2 scans" in ui.modelDetails.text
    assert "; least alike is " in ui.modelDetails.text
    assert panel.boxes() == []  # the user is looking at it

    panel.click("segmentApply")
    panel.until_enabled("segmentApply")
    [name] = segmentations()
    assert name.startswith("T1 of Jane Doe - Brightness ")
    assert "Segmented in " in ui.segmentResult.text
    panel.until(lambda: panel.model_state() == "INT8 ready")

    volume.SetName("Renamed")
    panel.state.precision = type(panel.state.precision).BOTH
    assert not ui.segmentOutput.enabled
    panel.state.show3D = True
    panel.click("segmentApply")
    panel.until_enabled("segmentApply")
    assert segmentations()[1:] == ["Renamed - Brightness FP32", "Renamed - Brightness INT8"]
    assert len(ui.segmentResult.text.splitlines()) == 2

    import slicer

    output = slicer.util.getNode("Renamed - Brightness FP32")
    assert output.GetSegmentation().ContainsRepresentation("Closed surface")
    output.GetSegmentation().RemoveAllSegments()
    panel.state.precision = type(panel.state.precision).INT8
    panel.state.outputSegmentation = output
    panel.click("segmentApply")
    panel.until_enabled("segmentApply")
    assert len(segmentations()) == 3
    assert output.GetSegmentation().GetNumberOfSegments() == 2
    slicer.mrmlScene.RemoveNode(output)
    assert panel.state.outputSegmentation is None  # and none of the others is to be replaced


def test_calibrating_on_loaded_volumes(panel: Panel) -> None:  # noqa: F811
    panel.choose_model("Brightness")
    for seed in range(3):
        add_volume(f"Head {seed}", seed=seed)
    ui = panel.ui
    ui.calibrateSource.setCurrentIndex(1)
    assert ui.calibrateFolder.isHidden()
    assert ui.calibrateVolumes.count == 3
    assert ui.calibrateHint.text == "Tick the volumes to calibrate on."
    import qt

    for row in (0, 2):
        ui.calibrateVolumes.item(row).setCheckState(qt.Qt.Checked)
    assert ui.calibrateFound.text.startswith("2 volumes chosen")
    import slicer

    slicer.mrmlScene.RemoveNode(slicer.util.getNode("Head 1"))
    assert ui.calibrateVolumes.count == 2
    assert ui.calibrateFound.text.startswith("2 volumes chosen")
    panel.click("calibrateStart")
    panel.until(lambda: panel.model_state().startswith("INT8"))
    assert ui.calibrateResult.text.startswith("Calibrated on 2 scans")


def test_the_user_is_told_in_another_module_and_led_back(
    panel: Panel,  # noqa: F811
    data: Path,  # noqa: F811
) -> None:
    import slicer

    panel.choose_model("Brightness")
    panel.choose_folder(data / "scans")
    panel.until_enabled("calibrateStart")
    panel.click("calibrateStart")
    slicer.util.selectModule("Data")
    panel.until(lambda: panel.boxes())
    [box] = panel.boxes()
    assert not box.isModal()
    assert box.text().startswith("Calibrating brightness is done. Calibrated on 2 scans")
    [button] = [button for button in box.buttons() if button.text() == "Open MedPTQ"]
    button.click()
    panel.until(lambda: slicer.util.selectedModule() == "MedPTQSlicer")
    assert panel.boxes() == []
    assert panel.ui.calibrateResult.text.startswith("Calibrated on 2 scans")
    panel.until(lambda: panel.model_state().startswith("INT8"))


def test_whatever_can_be_used_says_what_it_is_for() -> None:
    widgets = ElementTree.parse(UI_FILE).getroot().iter("widget")  # noqa: S314 - our own file
    silent = {"QWidget", "QLabel", "QFrame", "qMRMLWidget", "ctkCollapsibleButton"}
    for widget in widgets:
        name, kind = widget.get("name", ""), widget.get("class", "")
        assert name.startswith((*SECTIONS, "panel", "MedPTQ"))
        tips = [each for each in widget.findall("property") if each.get("name") == "toolTip"]
        assert tips or kind in silent, f"{name} has no tooltip"


def test_a_citation_can_be_copied(panel: Panel) -> None:  # noqa: F811
    import slicer

    panel.choose_model("deepbet")
    assert "Fisch L" in panel.ui.modelDetails.text
    panel.ui.modelDetails.linkActivated("copy:citation")
    assert slicer.app.clipboard().text().startswith("Fisch L, Zumdick S")
    assert "10.1016/j.compbiomed.2024.108845" in slicer.app.clipboard().text()


@pytest.mark.parametrize("width", [360, 520])
def test_it_fits_the_width_that_panels_have(
    calibrated: Panel,  # noqa: F811
    tmp_path: Path,
    width: int,
) -> None:
    add_volume("A volume with a name that is so long that it would make any panel wide, 2026")
    calibrated.ui.calibrateFolder.currentPath = str(tmp_path / ("long" * 20))
    calibrated.gui.process(0.5)
    picture = calibrated.picture(tmp_path / "panel.png", width)
    import qt

    assert qt.QPixmap(str(picture)).width() <= width
