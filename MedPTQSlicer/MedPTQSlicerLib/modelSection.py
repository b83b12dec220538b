"""The panel's first section: which model is used, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from MedPTQSlicerLib import modelDetails
from MedPTQSlicerLib.jobView import JobView
from MedPTQSlicerLib.logic import MedPTQLogic
from MedPTQSlicerLib.modelList import ModelList
from MedPTQSlicerLib.selection import Selection

if TYPE_CHECKING:
    from MedPTQSlicerLib.jobs import Job
    from MedPTQSlicerLib.parameterNode import PanelState

LAST_MODEL = "MedPTQSlicer/Model"
"""The model that was chosen last, in the user's settings: new scenes begin with it."""

_IMPORT_FOLDER = "MedPTQSlicer/ImportFolder"  # of the user's settings
_IMPORT = "Import a network"
_NETWORK_FILES = "Networks (*.onnx *.ts *.pt *.pth *.ckpt *.zip);;All files (*)"


class ModelSection:
    """Lists the models, shows what is known of the chosen one, imports and deletes.

    Args:
        ui: The panel's widgets; those whose names begin with ``model`` are used.
        logic: Does the work.
        selection: What is chosen here.
    """

    def __init__(self, ui: Any, logic: MedPTQLogic, selection: Selection) -> None:
        self._ui = ui
        self._logic = logic
        self._selection = selection
        self._state: PanelState | None = None
        self._isErrorOfList = False
        self._view = JobView(ui.modelProgress)
        self._addImportMenu()
        self._addDeleteMenu()
        self._list = ModelList(ui.modelList, ui.modelSearch, self._onChosen)
        ui.modelClearCache.connect("clicked(bool)", self._onClearCache)
        ui.modelRetry.connect("clicked(bool)", lambda *_: selection.refresh())
        ui.modelDetails.connect("linkActivated(QString)", self._onLink)
        selection.observe(self._update)
        self._update()

    def setParameterNode(self, state: PanelState | None) -> None:
        """Take the choice from a scene; None while there is none."""
        self._state = state
        if state is not None:
            self._selection.choose(state.modelId)

    def enter(self) -> None:
        """List the models: some may have come, or been calibrated, without the panel."""
        if not self._selection.isLooking:
            self._selection.refresh()

    def exit(self) -> None:
        """Do nothing: what runs goes on."""

    def cleanup(self) -> None:
        """Let go of what runs; it goes on."""
        self._selection.close()
        self._view.clear()

    # What is seen

    def _update(self) -> None:
        selection = self._selection
        model = selection.model
        self._list.show(selection.models or (), None if model is None else model.id)
        self._ui.modelDetails.setText("" if model is None else modelDetails.html(model))
        self._ui.modelDetails.setToolTip("" if model is None else modelDetails.detailsTip(model))
        self._ui.modelDetails.setVisible(model is not None)
        hint = self._hint()
        self._ui.modelHint.setText(hint)
        self._ui.modelHint.setVisible(bool(hint))
        self._showErrorOfList()
        self._updateButtons()

    def _showErrorOfList(self) -> None:
        """Say why the models could not be listed, until they can."""
        selection = self._selection
        hasFailed = selection.error is not None and not selection.isLooking
        self._ui.modelRetry.setVisible(hasFailed)
        if not self._view.isRunning:
            if selection.error is not None and hasFailed:
                self._view.showError(selection.error)
            elif self._isErrorOfList:
                self._view.clear()
            self._isErrorOfList = hasFailed

    def _hint(self) -> str:
        selection = self._selection
        if selection.isLooking and not selection.models:
            return "Looking which models there are…"
        if selection.model is not None and selection.model.problem:
            return selection.model.problem
        if selection.models and selection.model is None:
            return "Choose a model."
        return ""

    def _updateButtons(self) -> None:
        ui, model, isIdle = self._ui, self._selection.model, not self._view.isRunning
        kept = model is not None and (
            model.isDownloaded or model.isImported or model.int8 is not None
        )
        ui.modelDelete.setEnabled(isIdle and kept)
        if model is None:
            tip = "Choose a model first"
        elif not kept:
            tip = "Nothing of this model is on this computer"
        else:
            tip = "Remove the INT8 network, or all that is kept of this model"
        ui.modelDelete.setToolTip(tip)
        if model is not None:
            int8 = f" ({modelDetails.sizeText(model.int8.sizeMb)})" if model.int8 else ""
            self._deleteInt8.setText(f"INT8 network{int8}")
            self._deleteInt8.setEnabled(model.int8 is not None)
        cacheMb = self._logic.cacheMb
        known = "" if not cacheMb else f" ({modelDetails.sizeText(cacheMb)})"
        ui.modelClearCache.setText(f"Clear cache{known}")
        ui.modelClearCache.setEnabled(isIdle and bool(cacheMb))
        ui.modelImport.setEnabled(isIdle)

    # What is done

    def _onChosen(self, modelId: str) -> None:
        import slicer

        self._choose(modelId)
        slicer.app.userSettings().setValue(LAST_MODEL, modelId)

    def _choose(self, modelId: str) -> None:
        if self._state is not None:
            self._state.modelId = modelId
            self._selection.choose(modelId)

    def _onLink(self, link: str) -> None:
        import qt
        import slicer

        model = self._selection.model
        if link != modelDetails.COPY:
            qt.QDesktopServices.openUrl(qt.QUrl(link))
        elif model is not None:
            slicer.app.clipboard().setText(model.citation)
            slicer.util.showStatusMessage("The citation is in the clipboard", 3000)

    def _addImportMenu(self) -> None:
        import qt

        menu = qt.QMenu(self._ui.modelImport)
        fromFile = menu.addAction("File…")
        fromFile.connect("triggered(bool)", lambda *_: self._onImport(self._askForFile))
        fromFolder = menu.addAction("Folder (MONAI bundle, nnU-Net model)…")
        fromFolder.connect("triggered(bool)", lambda *_: self._onImport(self._askForFolder))
        self._ui.modelImport.setMenu(menu)

    def _addDeleteMenu(self) -> None:
        import qt

        menu = qt.QMenu(self._ui.modelDelete)
        self._deleteInt8 = menu.addAction("INT8 network")
        self._deleteInt8.connect("triggered(bool)", lambda *_: self._onDelete("int8"))
        self._deleteAll = menu.addAction("All that is kept of this model")
        self._deleteAll.connect("triggered(bool)", lambda *_: self._onDelete("all"))
        self._ui.modelDelete.setMenu(menu)

    def _onDelete(self, what: Any) -> None:
        import slicer

        model = self._selection.model
        if model is None:
            return
        question = modelDetails.deleteQuestion(model, what)
        if slicer.util.confirmOkCancelDisplay(question, windowTitle="Delete"):
            self._do(self._logic.deleteModel(model.id, what))

    def _onClearCache(self, *_: object) -> None:
        import slicer

        question = (
            "Remove all downloads, exported networks and built engines?\n\n"
            "Networks that you calibrated or imported stay. The rest is downloaded and built again"
            " when it is needed."
        )
        if slicer.util.confirmOkCancelDisplay(question, windowTitle="Clear cache"):
            self._do(self._logic.clearCache())

    def _onImport(self, ask: Callable[[str], str]) -> None:
        import slicer

        settings = slicer.app.userSettings()
        name = ask(settings.value(_IMPORT_FOLDER, ""))
        if name:
            settings.setValue(_IMPORT_FOLDER, str(Path(name).parent))
            self._do(self._logic.importModel(Path(name)), then=self._onImported)

    def _askForFile(self, folder: str) -> str:
        import qt
        import slicer

        window = slicer.util.mainWindow()
        return str(qt.QFileDialog.getOpenFileName(window, _IMPORT, folder, _NETWORK_FILES))

    def _askForFolder(self, folder: str) -> str:
        import qt
        import slicer

        return str(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _IMPORT, folder))

    def _onImported(self, job: Job[str]) -> None:
        if job.result is not None:
            self._choose(job.result)

    def _do(self, job: Job[Any], then: Callable[[Job[Any]], None] | None = None) -> None:
        """Show a job, and list the models anew when it has ended."""

        def finished(job: Job[Any]) -> None:
            self._selection.refresh()
            if then is not None:
                then(job)

        self._view.watch(job)
        self._updateButtons()
        job.observe(finished=finished)
