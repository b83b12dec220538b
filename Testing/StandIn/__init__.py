"""A stand-in for Slicer's application, for tests only.

Slicer's MRML is real here (slicer-core, from PyPI) and so is Qt (PySide6). What is played is the
rest: the modules ``qt`` and ``ctk`` in the shape that PythonQt gives them, Slicer's own widgets,
``slicer.app``, the base classes of scripted modules. It is as thin as can be and refuses, by
raising, what the real ones do not have; what it lets pass is still to be tried in Slicer itself,
which ``Testing/Slicer`` is for. It draws no views, has no menus, and starts no event loop of its
own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_PRIVATE = ("qSlicerAppMainWindow", "qSlicerApplication")  # Slicer has no names for them


def install() -> None:
    """Put the modules in their places; done again, it does nothing.

    Raises:
        ImportError: PySide6 or slicer-core is not installed.
    """
    if "qt" in sys.modules:
        return
    import slicer
    import slicer.util as util

    from StandIn import pythonqt, qt_module, widgets

    # slicer-core shows all of slicer.util in slicer itself; Slicer does not.
    for name, value in vars(util).items():
        if vars(slicer).get(name) is value and not name.startswith(("_", "vtk")):
            delattr(slicer, name)
    slicer.util = util
    sys.modules["qt"] = qt_module.QtModule("qt")
    sys.modules["ctk"] = ctk = ModuleType("ctk")
    from StandIn import application, ctk_collapsible, ctk_widgets, dialogs  # noqa: F401

    for name, kind in widgets.KINDS.items():
        if not name.startswith("_") and name not in _PRIVATE:
            setattr(ctk if name.startswith("ctk") else slicer, name, pythonqt.class_of(kind))
    # These import qt and ctk.
    from StandIn import parameter_node, scripted_module

    _place("slicer.ScriptedLoadableModule", scripted_module)
    _place("slicer.parameterNodeWrapper", parameter_node)
    i18n = ModuleType("slicer.i18n")
    i18n.tr = lambda text, *_: text  # type: ignore[attr-defined]
    i18n.translate = lambda _, text: text  # type: ignore[attr-defined]
    _place("slicer.i18n", i18n)


def _place(name: str, module: ModuleType) -> None:
    sys.modules[name] = module
    setattr(sys.modules["slicer"], name.partition(".")[2], module)


def begin(folder: Path, *, main_window: bool = True) -> Any:
    """Begin a session of the application with an empty scene; its files go into a folder."""
    install()
    from StandIn import application, dialogs, pythonqt

    pythonqt.errors.clear()
    dialogs.fresh()
    return application.make_session(folder, main_window=main_window)
