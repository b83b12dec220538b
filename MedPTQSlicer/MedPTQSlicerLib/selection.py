"""The models that there are and the one that is chosen, which all sections of the panel look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from medptq.errors import MedPTQError
from MedPTQSlicerLib.jobs import Job
from MedPTQSlicerLib.logic import MedPTQLogic
from MedPTQSlicerLib.modelState import ModelState


class Selection:
    """The models that there are, and the one that is chosen.

    Args:
        logic: Asked for the models.

    Attributes:
        models: All models, as of the last look; None before the first one.
        model: The one that is chosen, or None.
        error: Why the last look failed, or None.
    """

    def __init__(self, logic: MedPTQLogic) -> None:
        self.models: Sequence[ModelState] | None = None
        self.model: ModelState | None = None
        self.error: MedPTQError | None = None
        self._logic = logic
        self._wantedId = ""
        self._observers: list[Callable[[], None]] = []
        self._forget: Callable[[], None] | None = None

    @property
    def isLooking(self) -> bool:
        """Whether the models are being listed right now."""
        return self._forget is not None

    def observe(self, changed: Callable[[], None]) -> None:
        """Have a function called when anything of this has changed."""
        self._observers.append(changed)

    def refresh(self) -> None:
        """List the models anew, in the background."""
        self.close()
        # It may fail, and tell so, before its observer is known.
        self._forget = lambda: None
        forget = self._logic.models().observe(finished=self._onListed)
        if self.isLooking:
            self._forget = forget
        self._tell()

    def choose(self, modelId: str) -> None:
        """Choose a model; one that is not there is chosen as soon as it is."""
        if modelId != self._wantedId:
            self._wantedId = modelId
            self._find()
            self._tell()

    def close(self) -> None:
        """Wait no more for a list that is on its way."""
        if self._forget is not None:
            self._forget()
            self._forget = None

    def _onListed(self, job: Job[list[ModelState]]) -> None:
        self._forget = None
        self.error = job.error
        if job.result is not None:
            self.models = job.result
            self._find()
        self._tell()

    def _find(self) -> None:
        wanted = [model for model in self.models or () if model.id == self._wantedId]
        self.model = wanted[0] if wanted else None

    def _tell(self) -> None:
        for changed in self._observers:
            changed()
