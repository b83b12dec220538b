"""The way through the whole panel, as a person would go it; each state is photographed.

By default on a small network that is made for it. For pictures of a real one, MEDPTQ_TOUR_MODEL
names a network of the catalogue, MEDPTQ_TOUR_SCANS a folder of scans and MEDPTQ_TOUR_SCAN a scan.
"""

from __future__ import annotations

import os
from pathlib import Path

import slicer

import panel_clicks
from slicer_testing import NETWORK, letItWork, photograph, waitFor


class MedPTQTourTest(panel_clicks.PanelTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.model = os.environ.get("MEDPTQ_TOUR_MODEL", NETWORK)
        self.scans = Path(os.environ.get("MEDPTQ_TOUR_SCANS", self.scans))
        self.scan = os.environ.get("MEDPTQ_TOUR_SCAN", str(self.scans / "scan-0.nii.gz"))

    def test_from_the_model_to_the_comparison_and_back(self) -> None:
        ui = self.ui
        self.open("model", "calibrate", "segment")
        waitFor(lambda: "deepbet" in self.rows(), "the list of models")
        photograph("1-models")
        self.importAndChoose()
        ui.modelSearch.text = "brain"
        letItWork(0.1)
        self.assertTrue(self.rows()[NETWORK].isHidden())
        self.assertFalse(self.rows()["deepbet"].isHidden())
        ui.modelSearch.text = ""
        photograph("2-imported")

        self.assertFalse(ui.calibrateStart.enabled)
        self.choose(self.model)
        self.chooseScans()
        photograph("3-scans")
        self.press(ui.calibrateStart)
        cancel = self.part("calibrateProgress", "jobCancel")
        waitFor(lambda: cancel.visible and cancel.enabled, "the cancel button")
        bar = self.part("calibrateProgress", "jobBar")
        waitFor(lambda: bar.value > 0 or not cancel.visible, "some progress")
        photograph("4-calibrating")
        if cancel.visible:  # it is a small network: it may be done by now
            cancel.click()
        seconds = waitFor(lambda: not cancel.visible and ui.calibrateStart.enabled, "the end")
        self.assertLess(seconds, 2.2)
        self.calibrate(self.model)
        photograph("5-calibrated")

        volume = slicer.util.loadVolume(self.scan)
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        self.open("segment", "compare")
        ui.segmentInput.setCurrentNode(volume)
        self.segment("INT8", 1)
        photograph("6-segmented")
        self.segment("FP32", 1)
        self.segment("Both, INT8 and FP32", 2)
        self.segment("Best for this computer", 1)
        names = {node.GetName() for node in self.segmentations()}
        self.assertEqual(len(names), 5)

        self.compareAndLeave()

    def compareAndLeave(self) -> None:
        ui, manager = self.ui, slicer.app.layoutManager()
        before = manager.layout
        self.press(ui.compareButton)
        waitFor(lambda: manager.layout != before, "the comparison's layout", 600)
        waitFor(lambda: ui.compareResults.visible, "the comparison's results")
        self.assertIsNotNone(manager.sliceWidget("MedPTQ_FP32"))
        self.assertIsNotNone(manager.sliceWidget("MedPTQ_INT8"))
        letItWork(1.0)
        photograph("7-side-by-side")
        for button, name in (
            (ui.compareBoth, "8-both"),
            (ui.compareDisagreement, "9-differences"),
            (ui.compareSideBySide, "10-side-by-side-again"),
        ):
            self.press(button)
            letItWork(0.5)
            photograph(name)
        self.press(ui.compareBoth)
        self.press(ui.compareBlink)
        letItWork(2.0)
        self.press(ui.compareBlink)
        self.assertGreater(ui.compareClasses.topLevelItemCount, 0)
        ui.compareClasses.setCurrentItem(ui.compareClasses.topLevelItem(0))
        if ui.compareNext.enabled:
            self.goToTheNextDifference()
        photograph("11-next-difference")
        self.press(ui.compareLeaveButton)
        waitFor(lambda: manager.layout == before, "the layout from before")
        photograph("12-left")

    def goToTheNextDifference(self) -> None:
        sliceNode = slicer.app.layoutManager().sliceWidget("MedPTQ_FP32").mrmlSliceNode()

        def middle() -> list[float]:
            matrix = sliceNode.GetSliceToRAS()
            return [round(matrix.GetElement(row, 3), 3) for row in range(3)]

        self.press(self.ui.compareNext)
        first, where = self.ui.comparePlace.text, middle()
        self.press(self.ui.compareNext)
        self.assertNotEqual(self.ui.comparePlace.text, first)
        self.assertNotEqual(middle(), where)
        self.press(self.ui.comparePrevious)
        self.assertEqual(self.ui.comparePlace.text, first)
        self.assertEqual(middle(), where)
