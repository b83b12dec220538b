"""What the claims are made of."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer


def refused(call: Callable[[], Any]) -> bool:
    """Return whether a call raises or, as PythonQt's ``connect`` does, returns False."""
    try:
        return call() is False
    except Exception:
        return True


def assign(subject: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(subject, name, value)


def python() -> str:
    """Return a Python to start."""
    return "python3" if "Slicer" in Path(sys.executable).name else sys.executable


def spin(condition: Callable[[], bool]) -> None:
    """Run the event loop until something is so, for a second at most."""
    clock = qt.QElapsedTimer()
    clock.start()
    while not condition() and clock.elapsed() < 1000:
        slicer.app.processEvents()


def volume(name: str, kind: str = "vtkMRMLScalarVolumeNode") -> Any:
    return slicer.mrmlScene.AddNewNodeByClass(kind, name)
