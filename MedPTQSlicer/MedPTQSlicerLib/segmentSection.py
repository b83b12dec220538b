"""The panel's third section: from a volume to its segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from MedPTQSlicerLib import segmenting
from MedPTQSlicerLib.jobs import Job
from MedPTQSlicerLib.jobSection import JobSection
from MedPTQSlicerLib.logic import MedPTQLogic
from MedPTQSlicerLib.modelDetails import sizeText
from MedPTQSlicerLib.nodeSelector import chooseNoneAfterDeletion
from MedPTQSlicerLib.parameterNode import PanelState, Precision
from MedPTQSlicerLib.segmentationRun import runOf
from MedPTQSlicerLib.selection import Selection
from MedPTQSlicerLib.volumeFit import fitWarnings

if TYPE_CHECKING:
    from slicer import vtkMRMLSegmentationNode

_VERBS: Mapping[Precision, segmenting.Precision] = {
    Precision.BEST: "best",
    Precision.INT8: "int8",
    Precision.FP32: "fp32",
    Precision.BOTH: "both",
}
_NEEDS_INT8 = (Precision.INT8, Precision.BOTH)


class SegmentSection(JobSection):
    """Chooses a volume and what becomes of it, and segments in the background."""

    KIND = "segment"

    def __init__(self, ui: Any, logic: MedPTQLogic, selection: Selection) -> None:
        super().__init__(ui, logic, selection, ui.segmentProgress)
        self._result: list[vtkMRMLSegmentationNode] = []
        self._fit: tuple[object, str] = (None, "")
        chooseNoneAfterDeletion(ui.segmentOutput)
        ui.segmentApply.connect("clicked(bool)", self._onApply)
        selection.observe(self.update)

    def enter(self) -> None:
        """Bring up to date what may have changed while the panel was away."""
        self._fit = (None, "")
        self.update()

    def exit(self) -> None:
        """Do nothing: what runs goes on."""

    def update(self) -> None:
        """Show what the scene's choices and the model allow."""
        ui, state = self._ui, self._state
        if state is None:
            ui.segmentApply.setEnabled(False)
            return
        result = self._resultText()
        ui.segmentResult.setText(result)
        ui.segmentResult.setVisible(bool(result))
        warnings = self._warnings(state)
        ui.segmentWarnings.setText(warnings)
        ui.segmentWarnings.setVisible(bool(warnings))
        isOne = state.precision is not Precision.BOTH
        ui.segmentOutput.setEnabled(isOne)
        ui.segmentOutput.setToolTip(
            "A new segmentation, or one whose content is replaced"
            if isOne
            else "Both precisions give a new segmentation each"
        )
        reason = self._reasonNotTo(state)
        ui.segmentApply.setEnabled(not reason)
        ui.segmentApply.setToolTip(reason or "Segment the volume; Slicer stays usable")
        hint = reason or self._whatComesFirst()
        ui.segmentHint.setText(hint)
        ui.segmentHint.setVisible(bool(hint) and not self._view.isRunning)

    def _warnings(self, state: PanelState) -> str:
        """Return how the volume does not fit the model; looked at anew when one has changed."""
        volumeNode, model = state.inputVolume, self._selection.model
        if volumeNode is None or model is None or not model.card:
            return ""
        about = (volumeNode.GetID(), volumeNode.GetImageData(), volumeNode.GetMTime(), model.id)
        if about != self._fit[0]:
            self._fit = (about, "\n".join(fitWarnings(volumeNode, model.card)))
        return self._fit[1]

    def _reasonNotTo(self, state: PanelState) -> str:
        """Return why nothing can be segmented now, or ``""``."""
        model = self._selection.model
        if self._view.isRunning:
            return "It is segmenting."
        if model is None:
            return "Choose a model above."
        if model.problem and not model.card:
            return model.problem
        if state.inputVolume is None:
            return "Load a volume, and choose it here."
        if state.precision in _NEEDS_INT8 and model.int8 is None:
            return f"There is no INT8 network of {model.title} yet: calibrate it above."
        return ""

    def _whatComesFirst(self) -> str:
        """Return what the first use has to do before, or ``""``."""
        model = self._selection.model
        if model is None or model.isDownloaded:
            return ""
        size = f" ({sizeText(model.sizeMb)})" if model.sizeMb is not None else ""
        return f"{model.title} is downloaded first{size}."

    def _onApply(self, *_: object) -> None:
        state, model = self._state, self._selection.model
        if state is None or model is None or state.inputVolume is None:
            return
        self._result = []
        self.attach(
            self._logic.segment(
                state.inputVolume,
                model.id,
                precision=_VERBS[state.precision],
                segmentationNode=state.outputSegmentation,
                show3D=state.show3D,
            )
        )

    def _onFinished(self, job: Job[list[vtkMRMLSegmentationNode]]) -> None:
        if job.result is not None:
            self._result = job.result
            if self._isFirstUse():
                self._selection.refresh()
        self.update()

    def _isFirstUse(self) -> bool:
        """Tell whether what was just used may be in another state now: downloaded, or built."""
        model = self._selection.model
        if model is None:
            return False
        isBuilt = model.isFp32Ready and (model.int8 is None or model.int8.isReady)
        return not (model.isDownloaded and isBuilt)

    def _resultText(self) -> str:
        """Return how what was made last came about, if it is still there."""
        nodes = [node for node in self._result if node.GetScene() is not None]
        runs = [run for run in map(runOf, nodes) if run is not None]
        return "\n".join(run.sentence for run in runs)
