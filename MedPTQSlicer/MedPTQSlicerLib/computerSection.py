"""The panel's section "This computer": what it can do, and how what is missing gets there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medptq.errors import MedPTQError
from MedPTQSlicerLib.background import background
from MedPTQSlicerLib.computerCheck import ComputerReport, checkSteps
from MedPTQSlicerLib.diagnostics import detailLines, diagnosticsText
from MedPTQSlicerLib.installing import installSteps
from MedPTQSlicerLib.installPlan import InstallPlan
from MedPTQSlicerLib.installPlanning import planSteps
from MedPTQSlicerLib.jobs import Job, Steps
from MedPTQSlicerLib.jobView import JobView
from MedPTQSlicerLib.pythonChoice import acceptSteps
from MedPTQSlicerLib.pytorchExtension import installPyTorch
from MedPTQSlicerLib.verdictView import showVerdict
from MedPTQSlicerLib.workerLaunch import WorkerPython, chosenPython, logFile, setChosenPython

if TYPE_CHECKING:
    from MedPTQSlicerLib.parameterNode import PanelState

T = TypeVar("T")

_CHECK, _PLAN, _INSTALL, _PYTHON = "computer check", "computer plan", "install", "computer python"
_TYPING_MS = 800  # after which a path that is typed is taken for complete


class ComputerSection:
    """The check, the installation, the choice of a Python, and the diagnostics.

    Widgets: computerSection, computerLight, computerSummary, computerCheck, computerMend,
    computerProgress, computerPython, computerUseSlicerPython, computerDetails,
    computerCopyDiagnostics, computerOpenLog.

    Args:
        ui: The panel's widgets.
        confirm: Asks a user; called with a title, a text and details, returns whether they agree.
            By default Slicer's dialog, which while Slicer is being tested is taken for a no.
        checked: Called after each check: what works may have changed.

    Attributes:
        report: What the last check has found, or None.
        plan: What the last search for what is missing has found, or None.
        job: What runs, or ran last, or None.
    """

    def __init__(
        self,
        ui: Any,
        confirm: Callable[[str, str, str], bool] | None = None,
        checked: Callable[[], None] | None = None,
    ) -> None:
        import qt

        self.report: ComputerReport | None = None
        self.plan: InstallPlan | None = None
        self.job: Job[Any] | None = None
        self._ui = ui
        self._confirm = confirm or _askInSlicer
        self._checked = checked or (lambda: None)
        self._forget: Callable[[], None] = lambda: None
        self._isShowingPath = False
        self._view = JobView(ui.computerProgress)
        self._typing = qt.QTimer()
        self._typing.setSingleShot(True)
        self._typing.setInterval(_TYPING_MS)
        self._typing.connect("timeout()", self._onPathTyped)
        ui.computerSection.connect("contentsCollapsed(bool)", self._onCollapsed)
        ui.computerCheck.connect("clicked(bool)", self._onCheck)
        ui.computerMend.connect("clicked(bool)", self._onMend)
        ui.computerPython.connect("currentPathChanged(QString)", self._onPathChanged)
        ui.computerUseSlicerPython.connect("clicked(bool)", self._onUseSlicerPython)
        ui.computerCopyDiagnostics.connect("clicked(bool)", self._onCopyDiagnostics)
        ui.computerOpenLog.connect("clicked(bool)", self._onOpenLog)
        ui.computerMend.setVisible(False)
        ui.computerDetails.setVisible(False)
        self._onFinished: dict[str, Callable[[Job[Any]], None]] = {
            _CHECK: self._onChecked,
            _PLAN: self._onPlanned,
            _INSTALL: self._onInstalled,
            _PYTHON: self._onPythonAccepted,
        }
        for job in background().jobs:  # started by a panel that is there no more
            if job.kind in self._onFinished:
                self._follow(job)
        self._showPython()

    def setParameterNode(self, state: PanelState | None) -> None:
        """Do nothing: what this section shows belongs to the computer, not to the scene."""

    def enter(self) -> None:
        """Check this computer, if the section is open and it was not checked yet."""
        self._showPython()
        self._onCollapsed(self._ui.computerSection.collapsed)

    def exit(self) -> None:
        """Do nothing: what runs goes on."""

    def cleanup(self) -> None:
        """Let go of what runs; it goes on."""
        self._typing.stop()
        self._forget()
        self._view.clear()

    def check(self) -> Job[ComputerReport]:
        """Check this computer in the background, and show what comes of it."""
        self._ui.computerSummary.setText("Checking…")
        return self._run("Checking this computer", _CHECK, checkSteps(background().client))

    # The check

    def _onCollapsed(self, isCollapsed: bool) -> None:
        if not isCollapsed and self.report is None and not self._isBusy():
            self.check()

    def _onCheck(self, *_: object) -> None:
        self.check()

    def _onChecked(self, job: Job[ComputerReport]) -> None:
        if job.result is not None:
            self.report = job.result
        self._showReport()
        self._checked()

    def _showReport(self) -> None:
        report = self.report
        if report is None:
            self._ui.computerSummary.setText("Not checked yet")
            return
        showVerdict(self._ui, report.verdict)
        self._ui.computerDetails.setPlainText("\n".join(detailLines(report)))
        self._ui.computerDetails.setVisible(True)

    # Mending

    def _onMend(self, *_: object) -> None:
        report = self.report
        if report is None or report.python is None:
            return
        if report.verdict.mend == "slicersPython":
            self._onUseSlicerPython()
        elif report.verdict.mend == "pytorch" and report.facts is not None:
            try:
                isDone = installPyTorch(report.facts)
            except MedPTQError as error:
                self._view.showError(error)
                return
            if isDone:
                self.check()
        elif report.verdict.mend == "install" and report.facts is not None:
            steps = planSteps(report.python, report.facts)
            self._run("Finding out what is missing", _PLAN, steps)

    def _onPlanned(self, job: Job[InstallPlan]) -> None:
        self.plan = plan = job.result
        if plan is None:
            return
        if self._confirm("Install packages for MedPTQ", plan.question(), plan.table()):
            self._run("Installing", _INSTALL, installSteps(plan, background().client))

    def _onInstalled(self, job: Job[None]) -> None:
        if job.state != "failed":  # a failure is to be read first
            self.check()

    # The Python

    def _onPathChanged(self, *_: object) -> None:
        if not self._isShowingPath:
            self._typing.start()

    def _onPathTyped(self) -> None:
        path = str(self._ui.computerPython.currentPath).strip()
        if self._isBusy():
            self._typing.start()
        elif path and Path(path) != _shownPath():
            self._run("Looking at this Python", _PYTHON, acceptSteps(Path(path)))
        elif not path and _shownPath() is not None:
            self._onUseSlicerPython()

    def _onPythonAccepted(self, job: Job[WorkerPython]) -> None:
        if job.result is not None:
            setChosenPython(job.result.path)
            self.check()
        self._showPython()

    def _onUseSlicerPython(self, *_: object) -> None:
        setChosenPython(None)
        self._showPython()
        self.check()

    def _showPython(self) -> None:
        self._isShowingPath = True
        try:
            self._ui.computerPython.currentPath = str(_shownPath() or "")
        finally:
            self._isShowingPath = False
        self._setEnabled()

    # The diagnostics

    def _onCopyDiagnostics(self, *_: object) -> None:
        import slicer

        slicer.app.clipboard().setText(self.diagnostics())
        slicer.util.showStatusMessage("The diagnostics are in the clipboard", 3000)

    def diagnostics(self) -> str:
        """Return what is needed to understand a fault: no patient's name, no path of a scan."""
        import slicer

        client = background().client
        log = client.logFile
        return diagnosticsText(
            self.report,
            slicer=str(slicer.app.applicationVersion),
            log=log,
            logText=log.read_text(encoding="utf-8", errors="replace") if log.exists() else "",
            stderr=client.stderr,
            home=Path.home(),
        )

    def _onOpenLog(self, *_: object) -> None:
        import qt
        import slicer

        if logFile().exists():
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(logFile())))
        else:
            slicer.util.showStatusMessage("There is no log yet: no network has run", 3000)

    # What runs

    def _run(self, title: str, kind: str, steps: Steps[T]) -> Job[T]:
        job = background().run(Job(title, steps, kind=kind))
        self._follow(job)
        return job

    def _follow(self, job: Job[Any]) -> None:
        self.job = job
        self._forget()
        self._view.watch(job)
        self._forget = job.observe(finished=self._onJobFinished)
        self._setEnabled()

    def _onJobFinished(self, job: Job[Any]) -> None:
        self._setEnabled()
        self._onFinished[job.kind](job)

    def _isBusy(self) -> bool:
        return self.job is not None and self.job.state == "running"

    def _setEnabled(self) -> None:
        isFree = not self._isBusy()
        for widget in (self._ui.computerCheck, self._ui.computerMend, self._ui.computerPython):
            widget.setEnabled(isFree)
        isAnother = _shownPath() is not None
        self._ui.computerUseSlicerPython.setEnabled(isFree and isAnother)
        self._ui.computerUseSlicerPython.setText(
            "Use Slicer's Python" if isAnother else "Slicer's own Python is used"
        )


def _shownPath() -> Path | None:
    """Return the Python that the user has chosen, or None for Slicer's own."""
    try:
        python = chosenPython()
    except MedPTQError:  # Slicer's own is not there: the check tells
        return None
    return None if python.isSlicers else python.path


def _askInSlicer(title: str, text: str, details: str) -> bool:
    import slicer

    if slicer.app.testingEnabled():  # Slicer would take it for a yes
        return False
    return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=title, detailedText=details))
