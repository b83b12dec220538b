"""What goes wrong while a job runs: each time there is a clear error, and the next job works."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

import slicer_testing
from slicer_testing import (
    NETWORK,
    PATIENCE_SECONDS,
    childProcesses,
    letItWork,
    loadScan,
    smallFiles,
    waitFor,
)

onPosix = unittest.skipIf(sys.platform == "win32", "signals are POSIX's")


class MedPTQFaultsTest(slicer_testing.SlicerTestCase):
    def setUp(self) -> None:
        super().setUp()
        from MedPTQSlicerLib.background import background
        from MedPTQSlicerLib.logic import MedPTQLogic

        self.logic = MedPTQLogic()
        self.client = background().client
        self.scans = self.folder / "scans of é 中"
        shutil.copytree(smallFiles() / "scans", self.scans)
        self.importNetwork()
        self.volume = loadScan()
        self.jobFolders = set(Path(slicer.app.temporaryPath).glob("medptq-*"))

    def tearDown(self) -> None:
        """Whatever happened: the next job works, and nothing is left."""
        fresh = self.volume if self.volume.GetScene() is not None else loadScan()
        [found] = self.logic.segment(fresh, NETWORK, precision="fp32").wait(PATIENCE_SECONDS)
        self.assertEqual(found.GetSegmentation().GetNumberOfSegments(), 2)
        self.client.stop()
        self.assertEqual(childProcesses(), set())
        left = set(Path(slicer.app.temporaryPath).glob("medptq-*")) - self.jobFolders
        self.assertEqual(left - {self.folder}, set())
        super().tearDown()

    def calibrationThatRuns(self) -> Any:
        """Start a calibration and wait until the worker is at it."""
        job = self.logic.calibrate(NETWORK, self.scans, recipe={"patches": 9999})
        waitFor(lambda: job.stage not in ("", "Starting the worker"), "the job's begin")
        return job

    def assertEnds(self, job: Any, code: str, seconds: float = 20.0) -> None:
        waitFor(lambda: job.state != "running", "the job's end", seconds)
        self.assertEqual((job.state, job.error.code), ("failed", code))
        for part in (job.error.what, job.error.why, job.error.todo):
            self.assertTrue(part.strip())

    @onPosix
    def test_a_killed_worker_is_told_and_replaced(self) -> None:
        job = self.calibrationThatRuns()
        os.kill(self.client.pid, signal.SIGKILL)
        self.assertEnds(job, "worker.killed", seconds=5)

    @onPosix
    def test_a_worker_that_hangs_can_be_cancelled_within_2_seconds(self) -> None:
        job = self.calibrationThatRuns()
        os.kill(self.client.pid, signal.SIGSTOP)
        letItWork(0.2)
        job.cancel()
        self.assertLess(waitFor(lambda: job.state != "running", "the end"), 2.2)
        self.assertEqual(job.state, "cancelled")

    def test_a_cancel_takes_less_than_2_seconds(self) -> None:
        for delay in (0.0, 0.05, 0.3, 1.0):
            job = self.logic.calibrate(NETWORK, self.scans, recipe={"patches": 9999})
            letItWork(delay)
            job.cancel()
            self.assertLess(waitFor(lambda job=job: job.state != "running", "the end"), 2.2)

    def test_scans_that_vanish(self) -> None:
        job = self.logic.calibrate(NETWORK, self.scans)
        shutil.rmtree(self.scans)
        waitFor(lambda: job.state != "running", "the end", 20)
        self.assertEqual(job.state, "failed")
        self.assertTrue(job.error.code.startswith("scan."), job.error.code)

    def whileSegmenting(self, change: Callable[[], object]) -> Any:
        job = self.logic.segment(self.volume, NETWORK, precision="fp32")
        waitFor(lambda: job.stage != "", "the job's begin")
        change()
        return job

    def test_a_scene_closed_meanwhile(self) -> None:
        job = self.whileSegmenting(lambda: slicer.mrmlScene.Clear())
        self.assertEnds(job, "scan.gone")
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), [])

    def test_a_volume_deleted_meanwhile(self) -> None:
        job = self.whileSegmenting(lambda: slicer.mrmlScene.RemoveNode(self.volume))
        self.assertEnds(job, "scan.gone")

    def test_a_volume_renamed_meanwhile(self) -> None:
        job = self.whileSegmenting(lambda: self.volume.SetName("renamed é"))
        [found] = job.wait(PATIENCE_SECONDS)
        self.assertIn("renamed é", found.GetName())

    def test_a_python_without_the_packages(self) -> None:
        python = shutil.which("python3", path="/usr/local/bin:/usr/bin")
        if python is None:
            self.skipTest("there is no other Python here")
        self.client.stop()
        before = os.environ.get("MEDPTQ_WORKER_PYTHON")
        os.environ["MEDPTQ_WORKER_PYTHON"] = python
        try:
            self.assertEnds(self.logic.models(), "worker.packages", seconds=30)
        finally:
            if before is None:
                del os.environ["MEDPTQ_WORKER_PYTHON"]
            else:
                os.environ["MEDPTQ_WORKER_PYTHON"] = before

    def test_a_library_that_cannot_be_written(self) -> None:
        library = Path(os.environ["MEDPTQ_LIBRARY"])
        int8 = library / NETWORK / "int8"
        int8.write_bytes(b"not a folder")
        job = self.logic.calibrate(NETWORK, self.scans, recipe={"patches": 2})
        waitFor(lambda: job.state != "running", "the end", 60)
        int8.unlink()
        self.assertEqual(job.state, "failed")
        self.assertTrue(job.error.code.startswith("output."), job.error.code)

    def test_slicer_stays_usable_while_a_job_runs(self) -> None:
        import qt

        beats: list[float] = []
        timer = qt.QTimer()
        timer.setInterval(5)
        timer.connect("timeout()", lambda: beats.append(time.monotonic()))
        timer.start()
        self.logic.segment(self.volume, NETWORK, precision="fp32").wait(PATIENCE_SECONDS)
        timer.stop()
        gaps = [later - earlier for earlier, later in itertools.pairwise(beats)]
        longest = 1000 * max(gaps)
        print(f"TIME longest pause of the event loop: {longest:.0f} ms in {len(beats)} beats")
        self.assertGreater(len(beats), 10)
