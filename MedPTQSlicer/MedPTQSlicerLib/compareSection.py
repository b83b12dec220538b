"""The panel's fourth section: FP32 and INT8 on one volume, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medptq.errors import MedPTQError, OutputError
from MedPTQSlicerLib import compareSegmentations
from MedPTQSlicerLib.compareModes import Shown
from MedPTQSlicerLib.compareResults import CompareResults
from MedPTQSlicerLib.compareShow import CompareShow
from MedPTQSlicerLib.compareViews import CompareViews
from MedPTQSlicerLib.comparisonTables import addComparison
from MedPTQSlicerLib.jobs import Job
from MedPTQSlicerLib.jobSection import JobSection
from MedPTQSlicerLib.logic import MedPTQLogic
from MedPTQSlicerLib.nodeSelector import chooseNoneAfterDeletion
from MedPTQSlicerLib.notifying import notify
from MedPTQSlicerLib.parameterNode import CompareView, PanelState
from MedPTQSlicerLib.selection import Selection

if TYPE_CHECKING:
    from MedPTQSlicerLib.comparing import ComparisonResult

_REPORT_FOLDER = "MedPTQSlicer/ReportFolder"  # of the user's settings


class CompareSection(JobSection):
    """Compares in the background, then shows FP32 and INT8 in a layout of their own."""

    KIND = "compare"

    def __init__(self, ui: Any, logic: MedPTQLogic, selection: Selection) -> None:
        super().__init__(ui, logic, selection, ui.compareProgress)
        self._result: ComparisonResult | None = None
        self._show: CompareShow | None = None
        self._isEntered = False
        self._isWaiting = False  # for the panel to be opened, to show the result
        self._results = CompareResults(ui, self._onPlace, self._onVisible)
        self._radios = {
            Shown.SIDE_BY_SIDE: ui.compareSideBySide,
            Shown.BOTH: ui.compareBoth,
            Shown.DISAGREEMENT: ui.compareDisagreement,
        }
        chooseNoneAfterDeletion(ui.compareReference)
        ui.compareButton.connect("clicked(bool)", self._onCompare)
        ui.compareLeaveButton.connect("clicked(bool)", self._onLeave)
        ui.compareBlink.connect("clicked(bool)", self._onBlink)
        ui.compareChart.connect("activated(int)", self._onChart)
        ui.compareSaveReport.connect("clicked(bool)", self._onSave)
        for shown, radio in self._radios.items():
            radio.connect("clicked(bool)", lambda *_, shown=shown: self._onShown(shown))
        selection.observe(self.update)
        self.update()

    # What the panel calls

    def setParameterNode(self, state: PanelState | None) -> None:
        """Take the choices from a scene; None while there is none."""
        import slicer

        self._state = state
        if state is not None:
            self._dropIfGone()
            if not self._isShown:
                # What a scene that was saved in the middle of a comparison still hides.
                compareSegmentations.restore(slicer.mrmlScene)
        self.update()

    def enter(self) -> None:
        """Show what was compared meanwhile, and go on blinking."""
        self._isEntered = True
        self._dropIfGone()
        if self._isWaiting or (self._isShown and self._isBlinking):
            self._present()
        self.update()

    def exit(self) -> None:
        """Stop blinking; the views stay, so that other modules can be used on them."""
        self._isEntered = False
        if self._show is not None:
            self._show.pause()

    def cleanup(self) -> None:
        """Leave the views, and let go of what runs; it goes on."""
        super().cleanup()
        self._drop()

    def update(self) -> None:
        """Show what the scene's choices and the model allow."""
        ui = self._ui
        reason = self._reasonNotTo()
        ui.compareButton.setEnabled(not reason)
        ui.compareButton.setToolTip(reason or "Run FP32 and INT8 on the volume and measure both")
        ui.compareHint.setText(reason)
        ui.compareHint.setVisible(bool(reason) and not self._view.isRunning)
        hasResult, isShown, shown = self._result is not None, self._isShown, self._shown
        ui.compareResults.setVisible(hasResult)
        ui.compareLeaveButton.setEnabled(hasResult)
        ui.compareLeaveButton.setText("Leave comparison" if isShown else "Show comparison")
        ui.compareLeaveButton.setToolTip(
            "Bring back the layout that was there before"
            if isShown or not hasResult
            else "Show what was compared last, without computing it anew"
        )
        for each, radio in self._radios.items():
            radio.setChecked(each is shown)
            radio.setEnabled(isShown)
        ui.compareBlink.setChecked(self._isBlinking)
        ui.compareBlink.setEnabled(isShown and shown is Shown.BOTH)
        ui.compareLegend.setVisible(isShown and shown is Shown.DISAGREEMENT)
        ui.compareChart.setEnabled(isShown)

    # What the user does

    def _onCompare(self, *_: object) -> None:
        state, model = self._state, self._selection.model
        if state is not None and model is not None and state.inputVolume is not None:
            reference = state.compareReference
            self.attach(self._logic.compare(state.inputVolume, model.id, reference=reference))

    def _onFinished(self, job: Job[ComparisonResult]) -> None:
        if job.result is not None:
            self._drop()
            self._take(job.result)
            self._isWaiting = True
            if self._isEntered:
                self._present()
            else:
                notify("FP32 and INT8 were compared; MedPTQ shows them when you open it.")
        self.update()

    def _onLeave(self, *_: object) -> None:
        if self._show is not None and self._isShown:
            self._show.leave()
        else:
            self._view.clear()
            self._present()
        self.update()

    def _onShown(self, shown: Shown) -> None:
        if self._state is not None:
            self._state.compareView = CompareView[shown.name]
            self._present()
            self.update()

    def _onBlink(self, isBlinking: bool) -> None:
        if self._state is not None:
            self._state.compareBlink = isBlinking
            self._present()

    def _onChart(self, index: int) -> None:
        if self._show is not None:
            self._show.views.showChart(index)

    def _onPlace(self, kji: tuple[int, int, int], isCentred: bool) -> None:
        if self._show is not None and self._isShown:
            self._show.views.goTo(kji, isCentred=isCentred)

    def _onVisible(self, segmentId: str, isVisible: bool) -> None:
        if self._show is not None:
            self._show.views.setVisible(segmentId, isVisible)

    def _onSave(self, *_: object) -> None:
        import qt
        import slicer

        settings = slicer.app.userSettings()
        folder = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(),
            "Save the report in a folder",
            str(settings.value(_REPORT_FOLDER) or ""),
        )
        if folder and self._result is not None:
            settings.setValue(_REPORT_FOLDER, folder)
            try:
                report = self._saved(self._result, Path(folder))
            except MedPTQError as error:
                self._view.showError(error)
            else:
                if report is not None:
                    slicer.util.showStatusMessage(f"Saved as {report}", 10_000)

    def _saved(self, result: ComparisonResult, folder: Path) -> Path | None:
        """Save the report; None if the user keeps the one that is there."""
        import slicer

        try:
            return self._logic.saveReport(result, folder)
        except OutputError as error:
            if error.code != "output.exists":
                raise
        question = f"There is a report in {folder} already. Replace it?"
        if not slicer.util.confirmOkCancelDisplay(question, "Save the report"):
            return None
        return self._logic.saveReport(result, folder, overwrite=True)

    # The comparison

    @property
    def _isShown(self) -> bool:
        return self._show is not None and self._show.views.isShown

    @property
    def _shown(self) -> Shown:
        return Shown.SIDE_BY_SIDE if self._state is None else Shown[self._state.compareView.name]

    @property
    def _isBlinking(self) -> bool:
        return self._state is not None and self._state.compareBlink

    def _reasonNotTo(self) -> str:
        """Return why nothing can be compared now, or ``""``."""
        state, model = self._state, self._selection.model
        if self._view.isRunning:
            return "It is comparing."
        if state is None or model is None:
            return "Choose a model above."
        if model.int8 is None:
            return f"There is no INT8 network of {model.title} yet: calibrate it above."
        if state.inputVolume is None:
            return "Choose a volume above, under Segment."
        return ""

    def _take(self, result: ComparisonResult) -> None:
        import slicer

        tables = addComparison(slicer.mrmlScene, result.report)
        self._result = result
        views = CompareViews(
            slicer.mrmlScene, result, tables, self._onClosed, self._results.chooseRow
        )
        self._show = CompareShow(views)
        self._results.fill(result)
        self._ui.compareChart.clear()
        self._ui.compareChart.addItems([chart.GetTitle() for chart in tables.charts])

    def _present(self) -> None:
        """Show the comparison as the user wants it, or say why that cannot be."""
        import qt

        self._isWaiting = False
        if self._show is None:
            return
        isFirst = not self._isShown
        try:
            self._show.show(self._shown, isBlinking=self._isBlinking)
        except MedPTQError as error:
            self._view.showError(error)
            return
        if isFirst:
            self._show.views.showChart(max(self._ui.compareChart.currentIndex, 0))
            qt.QTimer.singleShot(0, self._settle)

    def _settle(self) -> None:
        """Go to what the user looked at last, once the views have their size."""
        if self._show is not None and self._isShown:
            self._show.views.fit()
            self._results.showAgain()

    def _onClosed(self, reason: str) -> None:
        if reason:
            import slicer

            slicer.util.showStatusMessage(f"The comparison was closed: {reason}", 10_000)
        self.update()

    def _dropIfGone(self) -> None:
        """Forget a comparison whose volume is in the scene no more."""
        if self._result is not None and self._result.volumeNode.GetScene() is None:
            self._drop()
            if not self._view.isRunning:
                self._view.clear()

    def _drop(self) -> None:
        """Leave the views and forget the comparison; its segmentations and tables stay."""
        if self._show is not None:
            self._show.leave()
        if self._result is not None:
            self._result.close()
        self._result = self._show = None
        self._isWaiting = False
        self._results.clear()
