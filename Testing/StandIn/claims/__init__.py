"""What is true of PythonQt and Slicer, and so must be of the stand-in.

Each function without arguments in these modules states one thing with ``assert``. They run on the
stand-in with pytest, and in a real Slicer with ``scripts/test_slicer.sh MedPTQStandInTest``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable

_MODULES = (
    *("objects", "values", "signals", "ctk_widgets", "mrml", "ui_files", "parameters"),
    "application",
)


def all_claims() -> list[Callable[[], None]]:
    """Return the claims, to be called with nothing."""
    found = []
    for name in _MODULES:
        module = importlib.import_module(f"StandIn.claims.{name}")
        found += [
            function
            for function in vars(module).values()
            if inspect.isfunction(function)
            and function.__module__ == module.__name__
            and not inspect.signature(function).parameters
        ]
    return found
