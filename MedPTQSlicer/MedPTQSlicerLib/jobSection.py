"""What the sections of the panel that run jobs have in common: one job at a time, which is seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from MedPTQSlicerLib.jobView import JobView
from MedPTQSlicerLib.logic import MedPTQLogic
from MedPTQSlicerLib.selection import Selection

if TYPE_CHECKING:
    import qt

    from MedPTQSlicerLib.jobs import Job
    from MedPTQSlicerLib.parameterNode import PanelState


class JobSection(ABC):
    """A section of the panel that starts jobs of one kind, and shows them.

    Args:
        ui: The panel's widgets; those whose names begin with the section's are used.
        logic: Does the work.
        selection: The model that it is done with.
        place: Where the job is shown; see :class:`MedPTQSlicerLib.jobView.JobView`.

    Attributes:
        KIND: The kind of its jobs, by which a panel that was made anew finds them.
    """

    KIND: ClassVar[str]

    def __init__(
        self, ui: Any, logic: MedPTQLogic, selection: Selection, place: qt.QWidget
    ) -> None:
        self._ui = ui
        self._logic = logic
        self._selection = selection
        self._state: PanelState | None = None
        self._forget: Callable[[], None] = lambda: None
        self._view = JobView(place)

    def setParameterNode(self, state: PanelState | None) -> None:
        """Take the choices from a scene; None while there is none."""
        self._state = state
        self.update()

    def cleanup(self) -> None:
        """Let go of what runs; it goes on."""
        self._forget()
        self._view.clear()

    def attach(self, job: Job[Any]) -> None:
        """Show a job that runs, and what comes of it."""
        self._forget()
        self._view.watch(job)
        self._forget = job.observe(finished=self._onFinished)
        self.update()

    @abstractmethod
    def update(self) -> None:
        """Show what the scene's choices and the model allow."""

    @abstractmethod
    def _onFinished(self, job: Job[Any]) -> None:
        """Take what came of the job."""
