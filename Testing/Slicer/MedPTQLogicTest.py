"""The verbs of the logic with a real worker, as a script or the Python console uses them."""

from __future__ import annotations

import numpy as np
import slicer

import slicer_testing
from slicer_testing import (
    NETWORK,
    PATIENCE_SECONDS,
    childProcesses,
    loadScan,
    smallFiles,
    waitFor,
)


class MedPTQLogicTest(slicer_testing.SlicerTestCase):
    def setUp(self) -> None:
        super().setUp()
        from MedPTQSlicerLib.logic import MedPTQLogic as MedPTQSlicerLogic

        self.logic = MedPTQSlicerLogic()

    def calibrate(self) -> dict:
        job = self.logic.calibrate(NETWORK, smallFiles() / "scans", recipe={"patches": 10})
        return job.wait(PATIENCE_SECONDS)

    def test_from_import_to_int8(self) -> None:
        self.assertEqual(self.importNetwork(), NETWORK)
        states = {model.id: model for model in self.logic.models().wait(PATIENCE_SECONDS)}
        self.assertIn("deepbet", states)
        self.assertTrue(states[NETWORK].isImported)
        self.assertIsNone(states[NETWORK].int8)

        found = self.logic.inspectScans(smallFiles() / "scans").wait(PATIENCE_SECONDS)
        self.assertEqual(found["scans"], 5)

        made = self.calibrate()
        self.assertEqual(made["scans"], 5)
        self.assertGreater(made["agreement_with_fp32"]["voxels_equal"], 0.95)
        states = {model.id: model for model in self.logic.models().wait(PATIENCE_SECONDS)}
        self.assertEqual(states[NETWORK].int8.scans, 5)

        self.logic.deleteModel(NETWORK, "int8").wait(PATIENCE_SECONDS)
        states = {model.id: model for model in self.logic.models().wait(PATIENCE_SECONDS)}
        self.assertIsNone(states[NETWORK].int8)

    def test_a_segmentation_finds_what_is_there_on_the_volumes_own_grid(self) -> None:
        self.importNetwork()
        self.calibrate()
        volume = loadScan()
        fp32, int8 = self.logic.segment(volume, NETWORK, precision="both").wait(PATIENCE_SECONDS)
        array = slicer.util.arrayFromVolume(volume)
        for segmentation in (fp32, int8):
            names = [
                segmentation.GetSegmentation().GetSegment(name).GetName()
                for name in segmentation.GetSegmentation().GetSegmentIDs()
            ]
            self.assertEqual(names, ["Bright", "Very bright"])
            mask = np.zeros(array.shape, dtype=bool)
            for name in segmentation.GetSegmentation().GetSegmentIDs():
                mask |= slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, name, volume) != 0
            bright = array > 30
            dice = 2 * (mask & bright).sum() / (mask.sum() + bright.sum())
            self.assertGreater(dice, 0.85)

    def test_volumes_of_the_scene_serve_as_scans(self) -> None:
        self.importNetwork()
        volumes = [loadScan(number) for number in range(3)]
        job = self.logic.calibrate(NETWORK, volumes, recipe={"patches": 4})
        self.assertEqual(job.wait(PATIENCE_SECONDS)["scans"], 3)

    def test_a_comparison_has_a_report_that_can_be_saved(self) -> None:
        self.importNetwork()
        self.calibrate()
        volume = loadScan()
        [fp32] = self.logic.segment(volume, NETWORK, precision="fp32").wait(PATIENCE_SECONDS)
        job = self.logic.compare(volume, NETWORK, reference=fp32)
        result = job.wait(PATIENCE_SECONDS)
        for engine in result.report["engines"]:
            self.assertGreater(engine["dice_vs_reference"]["mean"], 0.9)
        page = self.logic.saveReport(result, self.folder / "report")
        self.assertTrue(page.is_file())
        self.assertTrue(page.with_suffix(".csv").is_file())
        self.assertEqual(
            result.fp32Labels.shape, slicer.util.arrayFromVolume(result.volumeNode).shape
        )
        result.close()

    def test_a_cancelled_calibration_leaves_nothing(self) -> None:
        from medptq.errors import Cancelled

        self.importNetwork()
        job = self.logic.calibrate(NETWORK, smallFiles() / "scans")
        waitFor(lambda: "alibrat" in job.stage or job.state != "running", "calibration")
        job.cancel()
        waitFor(lambda: job.state != "running", "the end", seconds=3)
        if job.state == "cancelled":  # it may have been done already
            with self.assertRaises(Cancelled):
                job.wait()
            states = {model.id: model for model in self.logic.models().wait(PATIENCE_SECONDS)}
            self.assertIsNone(states[NETWORK].int8)

    def test_the_worker_stays_warm_and_ends_without_a_trace(self) -> None:
        from MedPTQSlicerLib.background import background

        before = childProcesses()
        self.importNetwork()
        volume = loadScan()
        self.logic.segment(volume, NETWORK, precision="fp32").wait(PATIENCE_SECONDS)
        pid = background().client.pid
        self.assertIsNotNone(pid)
        self.logic.segment(volume, NETWORK, precision="fp32").wait(PATIENCE_SECONDS)
        self.assertEqual(background().client.pid, pid)
        background().stop()
        self.assertLessEqual(childProcesses(), before)
