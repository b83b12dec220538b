"""The folder of scans that is chosen in the panel, and what is found in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medptq.errors import MedPTQError
from MedPTQSlicerLib.jobs import Job
from MedPTQSlicerLib.logic import MedPTQLogic

if TYPE_CHECKING:
    import ctk

_PAUSE_MS = 400  # after the last key, before the folder is looked at


class ScanFolder:
    """Looks through the folder as soon as one is chosen, and stops where another one is.

    Args:
        edit: Where the folder is chosen.
        logic: Looks through it.
        changed: Called when the path or what is known of it has changed.

    Attributes:
        path: The folder; ``Path()`` if none is chosen.
        found: What the worker's method ``inspect`` answered, or None while it is not known.
        error: Why nothing can be found in it, or None.
    """

    def __init__(
        self, edit: ctk.ctkPathLineEdit, logic: MedPTQLogic, changed: Callable[[], None]
    ) -> None:
        import qt

        self.path = Path(edit.currentPath)  # it remembers the last one, in the user's settings
        self._channels = 1
        self.found: Mapping[str, Any] | None = None
        self.error: MedPTQError | None = None
        self._edit = edit
        self._logic = logic
        self._changed = changed
        self._isKeeping = False
        self._job: Job[dict[str, Any]] | None = None
        self._forget: Callable[[], None] = lambda: None
        self._pause = qt.QTimer()
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.connect("timeout()", self.look)
        edit.connect("currentPathChanged(QString)", self._onEdited)

    @property
    def progress(self) -> str:
        """What is going on while nothing is known, to show."""
        return "" if self.path == Path() else "Looking through the folder…"

    def setChannels(self, channels: int) -> None:
        """Say how many channels a scan must have, for the model that is chosen."""
        if channels != self._channels:
            self._channels = channels
            self._take(self.path)

    def look(self) -> None:
        """Look through the folder, unless that is known, or under way."""
        self._pause.stop()
        if self.path == Path() or self._job is not None or self.found is not None:
            return
        self._job = job = self._logic.inspectScans(self.path, channels=self._channels)
        self._forget = job.observe(finished=self._onLooked)

    def lookAgain(self) -> None:
        """Look through the folder, whatever is known of it, and whatever went wrong before."""
        self.found = self.error = None
        self.look()

    def stop(self) -> None:
        """Stop looking."""
        self._pause.stop()
        self._forget()
        job, self._job = self._job, None
        if job is not None:
            job.cancel()

    def _take(self, path: Path) -> None:
        self.stop()
        self.path = path
        self.found = self.error = None
        self._pause.start()

    def _onEdited(self, text: str) -> None:
        path = Path(text)
        # The same folder is looked at again where that failed: what was wrong may be mended.
        if (path != self.path or self.error is not None) and not self._isKeeping:
            self._take(path)
            self._changed()

    def _onLooked(self, job: Job[dict[str, Any]]) -> None:
        self._job = None
        self.found = job.result
        self.error = job.error
        if self.found is not None:
            # The widget empties itself, and tells so, before it shows the path again.
            self._isKeeping = True
            self._edit.addCurrentPathToHistory()
            self._isKeeping = False
        self._changed()
