"""What is seen of a job in the panel: how far it is, how to stop it, and why it failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medptq.errors import MedPTQError

if TYPE_CHECKING:
    import qt

    from MedPTQSlicerLib.jobs import Job

_UI_FILE = Path(__file__).parents[1] / "Resources" / "UI" / "JobView.ui"
_STEPS = 1000  # of the progress bar

# Readable on Slicer's light and dark styles.
_FAILED_STYLE = "#jobEnded { border: 1px solid #c0392b; background: rgba(192, 57, 43, 30) }"
_WARNED_STYLE = "#jobEnded { border: 1px solid #c87f0a; background: rgba(200, 127, 10, 30) }"
_MOST_WARNINGS = 3


class JobView:
    """Shows one job at a time in its place in the panel, and nothing when there is nothing to see.

    While the job runs: its stage, a bar, the time left, a button to cancel it, its log. A failure
    stays with its cause and what to do until it is dismissed or the next job begins; so do the
    warnings of a job that went well.

    Args:
        place: An empty widget with a layout, ``…Progress`` of the panel's .ui file.

    Example:
        >>> view = JobView(self.ui.segmentProgress)                     # doctest: +SKIP
        >>> view.watch(logic.segment(volumeNode, "deepbet"))            # doctest: +SKIP
    """

    def __init__(self, place: qt.QWidget) -> None:
        import slicer

        self._place = place
        self._job: Job[Any] | None = None
        self._error: MedPTQError | None = None
        self._forget: Callable[[], None] | None = None
        self._isStopping = False
        self._shownLog: list[str] = []
        widget = slicer.util.loadUI(str(_UI_FILE))
        place.layout().addWidget(widget)
        self._ui = slicer.util.childWidgetVariables(widget)
        self._ui.jobBar.setRange(0, _STEPS)
        self._ui.jobCancel.connect("clicked(bool)", self._onCancel)
        self._ui.jobCopy.connect("clicked(bool)", self._onCopy)
        self._ui.jobDismiss.connect("clicked(bool)", self._onDismiss)
        self._ui.jobLogToggle.connect("toggled(bool)", self._onLogToggled)
        self._placeInTabOrder()
        self.clear()

    @property
    def isRunning(self) -> bool:
        """Whether the job that is shown runs."""
        return self._job is not None and self._job.state == "running"

    def watch(self, job: Job[Any]) -> None:
        """Show a job from now on, instead of what was shown before."""
        self.clear()
        self._job = job
        self._forget = job.observe(changed=self._onChanged, finished=self._onFinished)
        if job.state == "running":
            self._onChanged(job)

    def showError(self, error: MedPTQError) -> None:
        """Show a failure that happened before there was a job."""
        self.clear()
        self._showFailure(error)

    def clear(self) -> None:
        """Show nothing, and forget the job; it goes on."""
        if self._forget is not None:
            self._forget()
        self._job = self._error = self._forget = None
        self._isStopping = False
        self._shownLog = []
        self._ui.jobCancel.setEnabled(True)
        self._ui.jobLog.setPlainText("")
        self._show(running=False, ended=False, log=False)

    def _placeInTabOrder(self) -> None:
        """Let the tab key come here from what is above, and not after all of the panel."""
        import qt

        ui, last = self._ui, self._place
        while last.focusPolicy == qt.Qt.NoFocus:
            last = last.previousInFocusChain()
        for widget in (ui.jobCancel, ui.jobCopy, ui.jobDismiss, ui.jobLogToggle, ui.jobLog):
            qt.QWidget.setTabOrder(last, widget)
            last = widget

    def _onChanged(self, job: Job[Any]) -> None:
        if job.state != "running":
            return
        stage = "Stopping" if self._isStopping else job.stage or job.title
        self._ui.jobStage.setText(f"{stage}. {job.notice}." if job.notice else stage)
        self._ui.jobCancel.setEnabled(job.canBeCancelled and not self._isStopping)
        self._ui.jobEta.setText(_timeText(job))
        if job.fraction is None:
            self._ui.jobBar.setRange(0, 0)  # moves to and fro
        else:
            self._ui.jobBar.setRange(0, _STEPS)
            self._ui.jobBar.setValue(round(job.fraction * _STEPS))
        self._showLog(job)
        self._show(running=True, ended=False, log=True)

    def _onFinished(self, job: Job[Any]) -> None:
        self._showLog(job)
        if job.state == "failed" and job.error is not None:
            self._showFailure(job.error)
        elif job.state == "done" and job.warnings:
            self._showWarnings(job.warnings)
        else:
            self._show(running=False, ended=False, log=False)

    def _showFailure(self, error: MedPTQError) -> None:
        self._error = error
        self._ui.jobEnded.setStyleSheet(_FAILED_STYLE)
        self._ui.jobWhat.setText(error.what)
        self._ui.jobWhy.setText(f"{_sentence(error.why)} {_sentence(error.todo)}")
        self._ui.jobCode.setText(error.code)
        self._ui.jobCode.setVisible(True)
        self._show(running=False, ended=True, log=bool(self._shownLog))

    def _showWarnings(self, warnings: Sequence[str]) -> None:
        warnings = list(dict.fromkeys(warnings))
        self._ui.jobEnded.setStyleSheet(_WARNED_STYLE)
        count = len(warnings)
        many = f"Done, with {count} warnings"
        self._ui.jobWhat.setText("Done, with a warning" if count == 1 else many)
        more = [f"{count - _MOST_WARNINGS} more are in the log."] if count > _MOST_WARNINGS else []
        lines = [_ended(warning) for warning in warnings[:_MOST_WARNINGS]]
        self._ui.jobWhy.setText("\n".join([*lines, *more]))
        self._ui.jobCode.setVisible(False)
        self._show(running=False, ended=True, log=True)

    def _show(self, *, running: bool, ended: bool, log: bool) -> None:
        self._ui.jobRunning.setVisible(running)
        self._ui.jobEnded.setVisible(ended)
        self._ui.jobLogToggle.setVisible(log)
        self._ui.jobLog.setVisible(log and self._ui.jobLogToggle.checked)
        self._place.setVisible(running or ended)

    def _showLog(self, job: Job[Any]) -> None:
        lines = list(job.log)
        if lines != self._shownLog:
            self._shownLog = lines
            self._ui.jobLog.setPlainText("\n".join(lines))
            bar = self._ui.jobLog.verticalScrollBar()
            bar.setValue(bar.maximum)

    def _onCancel(self, *_: object) -> None:
        if self._job is not None:
            self._isStopping = True
            self._ui.jobCancel.setEnabled(False)
            self._job.cancel()

    def _onDismiss(self, *_: object) -> None:
        self.clear()

    def _onCopy(self, *_: object) -> None:
        import slicer

        slicer.app.clipboard().setText(self._details())

    def _details(self) -> str:
        import slicer

        if self._job is not None:
            details = self._job.details
        else:
            details = f"{self._error.code}: {self._error}" if self._error is not None else ""
        return f"MedPTQSlicer in 3D Slicer {slicer.app.applicationVersion}\n{details}"

    def _onLogToggled(self, isShown: bool) -> None:
        import qt

        self._ui.jobLogToggle.setArrowType(qt.Qt.DownArrow if isShown else qt.Qt.RightArrow)
        self._ui.jobLog.setVisible(isShown)


def durationText(seconds: float) -> str:
    """Return a time to read: ``"2.1 s"``, ``"45 s"``, ``"3 min"``, ``"1 h 20 min"``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _timeText(job: Job[Any]) -> str:
    if job.etaSeconds is not None and job.etaSeconds >= 1:
        return f"{durationText(round(job.etaSeconds))} left"
    return durationText(int(job.elapsedSeconds)) if job.elapsedSeconds >= 1 else ""


def _sentence(text: str) -> str:
    """Return one of an error's parts, which are parts of sentences, as a sentence."""
    text = text.strip()
    return _ended(text[:1].upper() + text[1:])


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."
