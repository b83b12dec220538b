"""How long it takes from Apply to the segmentation in the scene; printed, with nothing asserted.

The lines that begin with TIME go into the log, and to the terminal through scripts/test_slicer.sh.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import slicer

import slicer_testing
from slicer_testing import NETWORK, PATIENCE_SECONDS, loadScan, smallFiles, waitFor

HEAD_SHAPE = (176, 240, 240)  # (K, J, I) of 1 mm, as of a usual T1-weighted head


class MedPTQTimingTest(slicer_testing.SlicerTestCase):
    def setUp(self) -> None:
        super().setUp()
        slicer.util.selectModule("MedPTQSlicer")
        self.widget = slicer.modules.MedPTQSlicerWidget

    def test_small_network(self) -> None:
        self.importNetwork()
        self.time(NETWORK, loadScan(), smallFiles() / "scans")

    def test_demo_network(self) -> None:
        from medptq.errors import MedPTQError

        scans = self.folder / "heads"
        scans.mkdir()
        for seed in range(3):
            slicer.util.saveNode(addHead(seed), str(scans / f"head-{seed}.nrrd"))
        slicer.mrmlScene.Clear()
        try:
            self.time("deepbet", addHead(9), scans)
        except MedPTQError as error:
            if error.code not in ("model.offline", "model.download"):
                raise
            self.skipTest(f"the demo's network could not be downloaded: {error.code}")

    def time(self, model: str, volume: Any, scans: Path) -> None:
        from MedPTQSlicerLib.background import background
        from MedPTQSlicerLib.segmentationRun import runOf

        self.widget.logic.calibrate(model, scans).wait(5 * PATIENCE_SECONDS)
        background().stop()  # so that the first time is a cold one
        self.choose(model)
        ui = self.widget.ui
        ui.segmentInput.setCurrentNode(volume)
        for precision in ("FP32", "INT8"):
            ui.segmentPrecision.setCurrentText(precision)
            for which in ("first", "second", "third"):
                waitFor(lambda: ui.segmentApply.enabled, "Apply")
                slicer.app.processEvents()
                before = len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"))
                start = time.monotonic()
                ui.segmentApply.click()
                waitFor(lambda before=before: self.count() > before, "the segmentation")
                seconds = time.monotonic() - start
                run = runOf(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[-1])
                stages = {name: round(value, 3) for name, value in run.seconds.items()}
                # The worker reads the file of the scan under "load".
                files = run.seconds["transfer"] + run.seconds["load"]
                above = seconds - run.seconds["inference"] - files
                print(
                    f"TIME {model} {precision} {which}: {seconds:.2f} s from Apply to the"
                    f" segmentation, {above:.2f} s of them above inference and files; {stages}"
                )

    def choose(self, model: str) -> None:
        """List the models anew, as the library has changed behind the panel's back."""
        slicer.util.reloadScriptedModule("MedPTQSlicer")
        slicer.util.selectModule("Data")
        slicer.util.selectModule("MedPTQSlicer")
        self.widget = slicer.modules.MedPTQSlicerWidget
        ui = self.widget.ui

        def rows() -> list[Any]:
            items = [ui.modelList.topLevelItem(n) for n in range(ui.modelList.topLevelItemCount)]
            return [item for item in items if item.data(0, 256) == model]

        waitFor(rows, "the list of models")
        ui.modelList.setCurrentItem(rows()[0])
        waitFor(lambda: "INT8" in ui.modelDetails.text, "its details")

    def count(self) -> int:
        return len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"))


def addHead(seed: int) -> Any:
    """Add a volume that has the size and about the looks of a T1-weighted head."""
    random = np.random.default_rng(seed)
    axes = [np.linspace(-1.1, 1.1, n, dtype=np.float32) for n in HEAD_SHAPE]
    k, j, i = np.meshgrid(*axes, indexing="ij", sparse=True)
    radius = np.sqrt(k * k + j * j + i * i)
    layers = np.select([radius < 0.75, radius < 0.82, radius < 1.0], [500.0, 120.0, 700.0], 10.0)
    array = (layers + random.normal(0, 25, HEAD_SHAPE)).clip(0).astype(np.int16)
    return slicer.util.addVolumeFromArray(array, name=f"Head {seed}")
