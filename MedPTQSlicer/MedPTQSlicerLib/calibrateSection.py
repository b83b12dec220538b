"""The panel's second section: from unlabeled scans to the INT8 network of the chosen model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from MedPTQSlicerLib import scansText
from MedPTQSlicerLib.jobs import Job
from MedPTQSlicerLib.jobSection import JobSection
from MedPTQSlicerLib.logic import MedPTQLogic
from MedPTQSlicerLib.parameterNode import Observer, PanelState, ScanSource
from MedPTQSlicerLib.scanFolder import ScanFolder
from MedPTQSlicerLib.selection import Selection
from MedPTQSlicerLib.volumeList import VolumeList


class CalibrateSection(JobSection):
    """Chooses scans, says what was found, and calibrates in the background.

    Args:
        ui: See :class:`JobSection`.
        logic: Likewise.
        selection: Likewise.
        notify: Tells the user that it is done, wherever they are in Slicer.
    """

    KIND = "calibrate"

    def __init__(
        self, ui: Any, logic: MedPTQLogic, selection: Selection, notify: Callable[[str], None]
    ) -> None:
        super().__init__(ui, logic, selection, ui.calibrateProgress)
        self._notify = notify
        self._folder = ScanFolder(ui.calibrateFolder, logic, self.update)
        self._volumes = VolumeList(ui.calibrateVolumes, self.update)
        ui.calibrateStart.connect("clicked(bool)", self._onStart)
        selection.observe(self._onSelection)
        self.update()

    def setParameterNode(self, state: PanelState | None) -> None:
        """Take the choices from a scene; None while there is none."""
        self._state = state
        if state is not None:
            self._volumes.refresh()
        self.update()

    def enter(self) -> None:
        """Bring up to date what may have changed while the panel was away."""
        self._volumes.enter()
        self._folder.look()
        self.update()

    def exit(self) -> None:
        """Stop looking at what nobody sees; a calibration goes on."""
        self._volumes.exit()
        self._folder.stop()

    def cleanup(self) -> None:
        """Let go of what runs; a calibration goes on."""
        self.exit()
        super().cleanup()

    def update(self) -> None:
        """Show what the scene's choices, the model and the scans allow."""
        ui, state = self._ui, self._state
        if state is None:
            return
        if self._selection.model is not None:
            self._folder.setChannels(self._selection.model.channels)
        isFolder = state.scanSource is ScanSource.FOLDER
        for widget in (ui.calibrateFolder, ui.calibrateFolderLabel):
            widget.setVisible(isFolder)
        for widget in (ui.calibrateVolumes, ui.calibrateVolumesLabel):
            widget.setVisible(not isFolder)
        found, tip = self._found(state)
        ui.calibrateFound.setText(found)
        ui.calibrateFound.setToolTip(tip)
        for widget in (ui.calibrateFound, ui.calibrateFoundLabel):
            widget.setVisible(bool(found))
        ui.calibratePercentile.setEnabled(state.observer is Observer.PERCENTILE)
        reason = self._reasonNotTo(state)
        ui.calibrateStart.setEnabled(not reason)
        ui.calibrateStart.setToolTip(reason or "Make the INT8 network; Slicer stays usable")
        ui.calibrateHint.setText(reason)
        ui.calibrateHint.setVisible(bool(reason) and not self._view.isRunning)

    def _found(self, state: PanelState) -> tuple[str, str]:
        """Return what is said of the scans, and the tooltip."""
        scans, tip = len(self._volumes.checked()), ""
        text = scansText.count(scans, "volume") + " chosen"
        if state.scanSource is ScanSource.FOLDER:
            if self._folder.error is not None:
                return f"{self._folder.error.why}. {self._folder.error.todo}.", ""
            if self._folder.found is None:
                return self._folder.progress, ""
            scans = self._folder.found["scans"]
            text = scansText.foundText(self._folder.found)
            tip = scansText.unusableText(self._folder.found)
        if scans:
            whole = self._selection.model is not None and self._selection.model.takesWholeScan
            text += "\n" + scansText.shareText(scans, state.patches, whole)
        return text, tip

    def _reasonNotTo(self, state: PanelState) -> str:
        """Return why calibration cannot start now, or ``""``."""
        model = self._selection.model
        if self._view.isRunning:
            return "It is calibrating."
        if model is None:
            return "Choose a model above."
        if model.problem and not model.card:
            return model.problem
        if state.scanSource is ScanSource.VOLUMES:
            return "" if self._volumes.checked() else "Tick the volumes to calibrate on."
        if self._folder.path == Path():
            return "Choose a folder of scans."
        if self._folder.error is not None:
            return "Choose a folder that holds scans."
        if self._folder.found is None:
            return "Wait until the folder was looked through."
        return "" if self._folder.found["scans"] else "None of the scans can be used."

    def _onSelection(self) -> None:
        """Look at the folder again where that failed: the worker may have been what was wrong."""
        selection = self._selection
        # Of a list that is under way it is not known yet whether the worker works.
        isWorking = selection.error is None and not selection.isLooking
        if self._state is not None and isWorking and self._folder.error is not None:
            self._folder.lookAgain()  # its end tells update() alone, so that this cannot go round
        self.update()

    def _onStart(self, *_: object) -> None:
        state, model = self._state, self._selection.model
        if state is None or model is None:
            return
        recipe = {
            "observer": state.observer.name.lower(),
            "percentile": state.percentile,
            "patches": state.patches,
            "seed": state.seed,
        }
        isFolder = state.scanSource is ScanSource.FOLDER
        scans = self._folder.path if isFolder else self._volumes.checked()
        self._ui.calibrateResult.setVisible(False)
        self.attach(self._logic.calibrate(model.id, scans, recipe=recipe))

    def _onFinished(self, job: Job[dict[str, Any]]) -> None:
        if job.result is not None:
            text = scansText.calibratedText(job.result, job.elapsedSeconds)
            self._ui.calibrateResult.setText(text)
            self._ui.calibrateResult.setVisible(True)
            self._notify(f"{job.title} is done. {text}")
        elif job.state == "failed":
            self._notify(f"{job.title} has failed. {job.error}")
            self._folder.lookAgain()  # it may be what has vanished
        self._selection.refresh()
        self.update()
