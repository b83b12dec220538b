"""The panel when things change below it: scenes, reloads, the worker, another Python."""

from __future__ import annotations

import os
import signal
import sys

import qt
import slicer

import panel_clicks
from slicer_testing import NETWORK, childProcesses, letItWork, loadScan, photograph, waitFor


class MedPTQPanelTest(panel_clicks.PanelTestCase):
    def setUp(self) -> None:
        super().setUp()
        # The panel knows the models of the test before, which are gone.
        slicer.modules.MedPTQSlicerWidget.onReload()
        slicer.util.selectModule("Data")
        slicer.util.selectModule("MedPTQSlicer")

    def test_choices_come_back_with_the_scene(self) -> None:
        self.importAndChoose()
        self.chooseScans()
        ui = self.ui
        ui.segmentPrecision.setCurrentText("FP32")
        ui.calibratePatches.value = 7
        volume = loadScan()
        ui.segmentInput.setCurrentNode(volume)
        letItWork(0.2)
        scene = str(self.folder / "scene.mrb")
        self.assertTrue(slicer.util.saveScene(scene))
        slicer.mrmlScene.Clear()
        letItWork(0.2)
        self.assertEqual(ui.calibratePatches.value, 16)
        slicer.util.loadScene(scene)
        waitFor(lambda: ui.calibratePatches.value == 7, "the scene's choices")
        self.assertEqual(ui.segmentPrecision.currentText, "FP32")
        self.assertEqual(ui.segmentInput.currentNode().GetName(), volume.GetName())
        self.assertEqual(ui.calibrateFolder.currentPath, str(self.scans))  # no scene's choice
        waitFor(lambda: "Brightness" in ui.modelDetails.text, "the model")

    def test_the_list_is_sorted_by_numbers(self) -> None:
        waitFor(lambda: "deepbet" in self.rows(), "the list of models")
        tree = self.ui.modelList
        [column] = [n for n in range(tree.columnCount) if tree.headerItem().text(n) == "Classes"]
        tree.header().setSortIndicator(column, qt.Qt.AscendingOrder)
        tree.header().sectionClicked(column)
        shown = [tree.topLevelItem(n).text(column) for n in range(tree.topLevelItemCount)]
        self.assertNotEqual(shown, sorted(shown))
        self.assertEqual(shown, sorted(shown, key=int))
        photograph("14-sorted")

    def test_a_calibration_outlives_the_panel(self) -> None:
        self.importAndChoose()
        self.chooseScans()
        self.ui.calibratePatches.value = 9999
        self.press(self.ui.calibrateStart)
        slicer.util.selectModule("Data")
        slicer.mrmlScene.Clear()
        slicer.util.selectModule("MedPTQSlicer")
        slicer.modules.MedPTQSlicerWidget.onReload()
        slicer.util.selectModule("MedPTQSlicer")
        waitFor(lambda: NETWORK in self.rows(), "the list")
        waitFor(lambda: "INT8" in self.stateOf(NETWORK), "the INT8 network")
        self.assertEqual(len(childProcesses()), 1)

    def test_a_scene_closed_while_a_volume_is_segmented(self) -> None:
        self.importAndChoose()
        self.open("segment")
        self.ui.segmentInput.setCurrentNode(loadScan())
        self.ui.segmentPrecision.setCurrentText("FP32")
        self.press(self.ui.segmentApply)
        letItWork(0.05)
        slicer.mrmlScene.Clear()
        waitFor(lambda: self.part("segmentProgress", "jobEnded").visible, "the error")
        self.assertEqual(self.part("segmentProgress", "jobCode").text, "scan.gone")
        photograph("faults-scene-closed")
        self.choose(NETWORK)  # the choices were the scene's
        self.ui.segmentInput.setCurrentNode(loadScan())
        self.segment("FP32", 1)

    def test_a_worker_killed_while_it_works(self) -> None:
        if sys.platform == "win32":
            self.skipTest("signals are POSIX's")
        from MedPTQSlicerLib.background import background

        self.importAndChoose()
        self.open("model", "calibrate")
        self.chooseScans()
        self.ui.calibratePatches.value = 9999
        self.press(self.ui.calibrateStart)
        waitFor(lambda: background().jobs[0].stage != "", "the job's begin")
        os.kill(background().client.pid, signal.SIGKILL)
        waitFor(lambda: self.part("calibrateProgress", "jobEnded").visible, "the error", 5)
        self.assertEqual(self.part("calibrateProgress", "jobCode").text, "worker.killed")
        photograph("faults-worker-killed")
        self.part("calibrateProgress", "jobCopy").click()
        self.assertIn("worker.killed", slicer.app.clipboard().text())
        self.ui.calibratePatches.value = 8
        self.calibrate()

    def test_this_computer(self) -> None:
        self.open("computer")
        waitFor(lambda: self.ui.computerCheck.enabled, "the check")
        waitFor(lambda: self.ui.computerDetails.plainText, "the details")
        self.assertTrue(self.ui.computerLight.text)
        photograph("13-this-computer")
        self.press(self.ui.computerCopyDiagnostics)
        self.assertIn("Slicer", slicer.app.clipboard().text())
        self.assertEqual(slicer.util.selectedModule(), "MedPTQSlicer")
