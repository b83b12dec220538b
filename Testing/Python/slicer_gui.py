"""A session of Slicer's application, played by the stand-in, for tests of what uses Qt.

Use the fixture ``gui`` (or ``gui_without_window``) and import modules of MedPTQSlicerLib that need
``qt``, ``ctk`` or ``slicer.app`` inside the test.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 is not installed", exc_type=ImportError)

import StandIn

StandIn.install()

import slicer  # noqa: E402
from PySide6 import QtCore, QtWidgets  # noqa: E402

from slicer_scenes import forget_conversion_rules  # noqa: E402
from StandIn import dialogs, pythonqt  # noqa: E402

MODULE = Path(__file__).parents[2] / "MedPTQSlicer" / "MedPTQSlicer.py"


@dataclass
class Heartbeat:
    """How long the event loop was away, at worst, while it was measured."""

    longest: float = 0.0
    beats: int = 0


@dataclass
class Gui:
    """One session.

    Attributes:
        app: The application, as ``slicer.app``.
        scene: The scene, as ``slicer.mrmlScene``.
        dialogs: What was shown, and what is answered.
        folder: Where settings, temporary and cached files go.
    """

    app: Any
    scene: Any
    dialogs: dialogs.Dialogs
    folder: Path
    errors: list[BaseException] = field(default_factory=lambda: pythonqt.errors)

    def click(self, button: Any) -> None:
        """Click a button as a user would, who can only click what is shown and enabled."""
        assert button.enabled, f"{button.objectName} is disabled"
        assert not button.isHidden(), f"{button.objectName} is hidden"
        button.click()

    def waitUntil(  # noqa: N802
        self, condition: Callable[[], bool], seconds: float = 10, what: str = "it"
    ) -> None:
        """Run the event loop until a condition holds; raise AssertionError if it never does."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
            self.process(0.01)
            self.check_errors()

    def process(self, seconds: float = 0.0) -> None:
        """Run the event loop for some time; the application must not have been blocked."""
        end = time.monotonic() + seconds
        while True:
            QtWidgets.QApplication.processEvents()
            QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
            if time.monotonic() >= end:
                return
            time.sleep(0.002)

    @contextmanager
    def heartbeat(self, every: float = 0.01) -> Iterator[Heartbeat]:
        """Measure how long the event loop was away within the block."""
        beat, timer, last = Heartbeat(), QtCore.QTimer(), time.monotonic()

        def tick() -> None:
            nonlocal last
            now = time.monotonic()
            beat.longest, beat.beats = max(beat.longest, now - last), beat.beats + 1
            last = now

        timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        timer.timeout.connect(tick)
        timer.start(round(every * 1000))
        try:
            yield beat
        finally:
            timer.stop()
            beat.longest = max(beat.longest, time.monotonic() - last)

    def picture(self, widget: Any, path: Path, width: int = 0, height: int = 0) -> Path:
        """Save what a widget looks like as a PNG file; shown at a size, if one is given."""
        pyside = pythonqt.unwrap(widget)
        pyside.show()
        if width:
            pyside.resize(width, height or max(pyside.sizeHint().height(), 1))
        self.process(0.05)
        assert pyside.grab().save(str(path), "PNG"), f"{path} could not be written"
        return path

    def load_module(self, path: Path = MODULE) -> Any:
        """Load the scripted module and return its widget, as when a user opens it."""
        if not hasattr(slicer.modules, path.stem.lower()):
            self.app._pyside._add_module(path)
        if slicer.util.mainWindow() is not None:
            slicer.util.selectModule(path.stem)
        else:
            getattr(slicer.modules, path.stem.lower()).widgetRepresentation()
        return getattr(slicer.modules, f"{path.stem}Widget")

    def quit(self) -> None:
        """Tell everyone that the application quits; the session then cannot go on."""
        self.app._pyside._quit()

    def check_errors(self) -> None:
        """Raise the first exception that came out of a slot."""
        if pythonqt.errors:
            raise pythonqt.errors.pop(0)


def session(folder: Path, *, main_window: bool) -> Iterator[Gui]:
    """Begin a session, give it to a test, end it, and raise what nobody has looked at."""
    forget_conversion_rules()
    played = StandIn.begin(folder / "Slicer", main_window=main_window)
    gui = Gui(slicer.app, slicer.mrmlScene, dialogs.current, played.folder)
    try:
        yield gui
        gui.check_errors()
        gui.dialogs.check()
    finally:
        played.app._end()
        sys.modules.pop(MODULE.stem, None)  # the next session loads it as a new Slicer does
    gui.check_errors()
