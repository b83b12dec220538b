"""A comparison in the panel whose figures and label maps a test chooses; no worker is needed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluate_helpers import LABELS, comparison
from medptq.errors import MedPTQError
from medptq.evaluate.metrics import agreement, dice
from medptq.evaluate.results import Score, to_json
from slicer_gui import Gui

SPACING = (5.0, 0.75, 0.75)  # along (K, J, I)


def label_maps() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return FP32's and INT8's: INT8 misses a corner of the liver and finds a spleen more."""
    fp32 = np.zeros((20, 30, 40), np.uint8)
    fp32[4:16, 5:20, 5:20] = 1
    fp32[4:16, 5:20, 24:34] = 2
    int8 = fp32.copy()
    int8[4:8, 5:8, 5:8] = 0
    int8[18, 28, 38] = 2
    return fp32, int8


def report_of(fp32: NDArray[np.uint8], int8: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the content of report.json for two label maps."""
    compared = comparison()
    *others, best = compared.engines
    best = replace(
        best,
        dice_vs_fp32=Score(dice(fp32, int8, [1, 2])),
        nsd_vs_fp32=Score(dice(fp32, int8, [1, 2])),
        agreement=agreement(fp32, int8, SPACING),
    )
    compared = replace(compared, engines=(*others, best), scan_spacing=SPACING)
    content: dict[str, Any] = json.loads(json.dumps(to_json(compared), allow_nan=False))
    return content


CARD = {
    "id": "two-organs",
    "labels": [
        {"value": label.value, "name": label.name, "color": list(label.color)} for label in LABELS
    ],
}


class PanelWithComparison:
    """The compare section of the panel, and a volume to compare on.

    Attributes:
        gui: The application.
        ui: The panel's widgets.
        section: The section.
        state: What the scene keeps of it.
        volume: The volume.
        reference: What the last comparison was to be held against, or None.
        fails: What the next comparison fails with, or None.
    """

    def __init__(self, gui: Gui) -> None:
        import slicer

        from MedPTQSlicerLib.compareSection import CompareSection
        from MedPTQSlicerLib.logic import MedPTQLogic
        from MedPTQSlicerLib.parameterNode import PanelState

        outer = self

        class Logic(MedPTQLogic):
            def compare(self, volumeNode: Any, _: str, *, reference: Any) -> Any:  # noqa: N803
                outer.reference = reference
                return outer.job(volumeNode)

        class Model:
            id, title, int8 = "two-organs", "Two organs", object()

        class Selection:
            model = Model()
            observe = staticmethod(lambda _: None)

        self.gui = gui
        self.reference: Any = None
        self.fails: MedPTQError | None = None
        self.labels = label_maps()
        self.volume = self.add_volume()
        widget = slicer.util.loadUI(
            str(pytest.importorskip("slicer_gui").MODULE.parent / "Resources/UI/MedPTQSlicer.ui")
        )
        widget.setMRMLScene(slicer.mrmlScene)
        self.widget = widget
        self.ui = slicer.util.childWidgetVariables(widget)
        self.ui.compareSection.collapsed = False
        widget.show()
        self.section = CompareSection(self.ui, Logic(), Selection())  # type: ignore[arg-type]
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "MedPTQSlicer")
        self.state = PanelState(node)
        self.state.inputVolume = self.volume
        self.section.setParameterNode(self.state)
        self.section.enter()

    def add_volume(self) -> Any:
        import slicer

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1 of Jane Doe")
        slicer.util.updateVolumeFromArray(node, self.labels[0].astype(np.int16))
        k, j, i = SPACING
        matrix = np.diag([-i, j, k, 1.0])
        matrix[:3, 3] = (10, -20, 30)
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
        return node

    def job(self, volume: Any) -> Any:
        """Return a job that gives the comparison when the event loop has had a few turns."""
        from MedPTQSlicerLib.background import background
        from MedPTQSlicerLib.comparing import REPORT_FILES, ComparisonResult
        from MedPTQSlicerLib.jobFolder import JobFolder
        from MedPTQSlicerLib.jobs import Job
        from MedPTQSlicerLib.labelsToSegmentation import addSegmentation

        def steps() -> Any:
            for _ in range(3):
                yield None
            if self.fails is not None:
                raise self.fails
            folder = JobFolder()
            (folder.path / "report").mkdir()
            for name in REPORT_FILES:
                (folder.path / "report" / name).write_text(f"This is {name}")
            nodes = [
                addSegmentation(f"Two organs {name}", labels, LABELS, volume, name)
                for name, labels in zip(("FP32", "INT8"), self.labels, strict=True)
            ]
            report = report_of(*self.labels)
            return ComparisonResult(report, CARD, volume, *nodes, *self.labels, folder)

        return background().run(Job("Comparing", steps(), kind="compare"))

    def compare(self) -> None:
        """Click Compare, and wait until it is shown."""
        self.gui.click(self.ui.compareButton)
        assert not self.ui.compareButton.enabled
        self.gui.waitUntil(lambda: bool(self.ui.compareButton.enabled))
        self.gui.process(0.05)

    def click(self, name: str) -> None:
        self.gui.click(getattr(self.ui, name))
        self.gui.process(0.02)

    @property
    def result(self) -> Any:
        return self.section._result

    @property
    def place(self) -> str:
        return str(self.ui.comparePlace.text)

    @property
    def layout(self) -> int:
        import slicer

        return int(slicer.app.layoutManager().layout)

    def slices(self) -> list[Any]:
        """Return the slice nodes of FP32 and INT8."""
        import slicer

        return [
            slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLSliceNode")
            for tag in ("MedPTQ_FP32", "MedPTQ_INT8")
        ]

    def seen(self) -> dict[str, list[str]]:
        """Return the views that each segmentation is drawn in; an empty list stands for all."""
        import slicer

        nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        displays = {node.GetName(): node.GetDisplayNode() for node in nodes}
        return {
            name: [
                slicer.mrmlScene.GetNodeByID(each).GetName() for each in display.GetViewNodeIDs()
            ]
            for name, display in displays.items()
            if display.GetVisibility()
        }


@pytest.fixture
def compared(gui: Gui) -> Any:
    """A comparison that is shown."""
    panel = PanelWithComparison(gui)
    panel.compare()
    yield panel
    panel.section.cleanup()
