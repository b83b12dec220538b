"""The panel under a person's hands: pressing its buttons, choosing in it, waiting for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import qt
import slicer

import slicer_testing
from slicer_testing import NETWORK, letItWork, photograph, smallFiles, waitFor


class PanelTestCase(slicer_testing.SlicerTestCase):
    """A test with the panel open, and a copy of the small network and its scans."""

    def setUp(self) -> None:
        super().setUp()
        slicer.util.mainWindow().resize(1600, 1000)
        self.scans = self.folder / "my scans é"
        shutil.copytree(smallFiles() / "scans", self.scans)
        shutil.copy(smallFiles() / "net.onnx", self.folder)
        shutil.copy(smallFiles() / "net.json", self.folder)
        slicer.util.selectModule("MedPTQSlicer")

    @property
    def ui(self) -> Any:
        """The widgets of the panel that is there now; a reload makes new ones."""
        return slicer.modules.MedPTQSlicerWidget.ui

    def press(self, button: Any) -> None:
        self.assertTrue(button.visible, f"{button.objectName} cannot be seen")
        self.assertTrue(button.enabled, f"{button.objectName} is disabled: {button.toolTip}")
        button.click()

    def pressWhenReady(self, button: Any, seconds: float = 60) -> None:
        try:
            waitFor(lambda: button.enabled, button.objectName, seconds)
        except AssertionError as error:
            photograph(f"faults-{button.objectName}")
            raise AssertionError(f"{error}: {button.toolTip}") from None
        self.press(button)

    def open(self, *sections: str) -> None:
        """Leave these sections open, and no other, so that they fit on the screen."""
        for name in ("model", "calibrate", "segment", "compare", "computer"):
            getattr(self.ui, f"{name}Section").collapsed = name not in sections
        letItWork(0.1)

    def rows(self) -> dict[str, Any]:
        tree = self.ui.modelList
        items = [tree.topLevelItem(number) for number in range(tree.topLevelItemCount)]
        return {item.data(0, 256): item for item in items}

    def stateOf(self, modelId: str) -> str:
        tree = self.ui.modelList
        [column] = [n for n in range(tree.columnCount) if tree.headerItem().text(n) == "State"]
        return self.rows()[modelId].text(column)

    def part(self, place: str, name: str) -> Any:
        return slicer.util.findChild(getattr(self.ui, place), name)

    def importAndChoose(self) -> None:
        """Import the small network by its file dialog, which nobody can click in a test."""
        waitFor(lambda: "deepbet" in self.rows(), "the list of models")
        path = str(self.folder / "net.onnx")
        before = qt.QFileDialog

        class Dialog:
            getOpenFileName = staticmethod(lambda *_: path)

        qt.QFileDialog = Dialog
        try:
            self.ui.modelImport.menu().actions()[0].trigger()
        finally:
            qt.QFileDialog = before
        waitFor(lambda: NETWORK in self.rows(), "the imported network")
        self.choose(NETWORK)

    def choose(self, modelId: str) -> None:
        self.ui.modelList.setCurrentItem(self.rows()[modelId])
        title = self.rows()[modelId].text(0)
        waitFor(lambda: title in self.ui.modelDetails.text, "its details", 20)

    def chooseScans(self, folder: Path | None = None) -> None:
        self.ui.calibrateFolder.currentPath = str(folder or self.scans)
        waitFor(lambda: " scans" in self.ui.calibrateFound.text, "what is in the folder")

    def calibrate(self, modelId: str = NETWORK) -> None:
        self.pressWhenReady(self.ui.calibrateStart)
        waitFor(lambda: self.part("calibrateProgress", "jobCancel").visible, "the progress")
        waitFor(lambda: self.ui.calibrateResult.visible, "the INT8 network", 600)
        waitFor(lambda: "INT8" in self.stateOf(modelId), "its state in the list")

    def segmentations(self) -> list[Any]:
        return slicer.util.getNodesByClass("vtkMRMLSegmentationNode")

    def segment(self, precision: str, count: int) -> None:
        self.ui.segmentPrecision.setCurrentText(precision)
        before = len(self.segmentations())
        self.press(self.ui.segmentApply)
        waitFor(lambda: len(self.segmentations()) == before + count, precision)
        waitFor(lambda: self.ui.segmentResult.visible, "the result's line")
