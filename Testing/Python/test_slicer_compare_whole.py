"""A comparison from the panel's button to its report, with a real worker and a real network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from medptq.models.segmentation_model import Label
from MedPTQSlicerLib.compareLayout import Arrangement
from MedPTQSlicerLib.labelsToSegmentation import addSegmentation
from slicer_panel import (  # noqa: F401 - fixtures
    Panel,
    calibrated,
    data,
    libraries,
    segmentations,
    slicer_worker,
)


def test_from_the_button_to_the_report(calibrated: Panel, tmp_path: Path) -> None:  # noqa: F811
    import slicer

    ui = calibrated.ui
    volume = calibrated.state.inputVolume
    drawn = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    drawn[6:18, 5:15, 5:15] = 2
    drawn[6:12, 5:10, 5:10] = 1
    names = [Label(1, "very bright", (1, 2, 3)), Label(2, "bright", (4, 5, 6))]
    by_hand = addSegmentation("By hand", drawn, names, volume, "a person")
    ui.compareReference.setCurrentNode(by_hand)
    calibrated.click("compareButton")
    assert not ui.compareButton.enabled
    calibrated.until(lambda: ui.compareButton.enabled, 200)
    assert not calibrated.failure("compareProgress")
    manager = slicer.app.layoutManager()
    assert manager.layout == Arrangement.SIDE_BY_SIDE
    assert "INT8, compared with " in ui.compareSummary.text
    assert "Dice to the reference 0.9" in ui.compareSummary.text
    assert len(segmentations()) == 3

    report = tmp_path / "report"
    report.mkdir()
    calibrated.gui.dialogs.answer(str(report))
    calibrated.click("compareSaveReport")
    assert {path.name for path in report.iterdir()} >= {"report.html", "report.csv"}
    rows = json.loads((report / "report.json").read_text())["engines"]
    tree = ui.compareClasses
    found = [tree.topLevelItem(row).text(0) for row in range(tree.topLevelItemCount)]
    assert found == list(rows[-1]["dice_vs_fp32"]["per_class"])
    for row in rows:
        assert min(row["dice_vs_reference"]["per_class"].values()) > 0.8
        assert min(row["nsd_vs_reference"]["per_class"].values()) > 0.8
    calibrated.click("compareLeaveButton")
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    calibrated.widget.cleanup()  # the report's files are kept until then
