"""How the stand-in of Slicer's application loads a scripted module, and reloads it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slicer_gui import Gui

_MODULE = """
import ctk, qt, slicer
from slicer.ScriptedLoadableModule import *
from TinyLib import text

class Tiny(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "Tiny module"
        slicer.app.connect("startupCompleted()", lambda: None)

class TinyWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        super().setup()
        self.logic = TinyLogic()
        self.happened = []
        self.button = qt.QPushButton(text)
        self.layout.addWidget(self.button)
        self.layout.addStretch(1)

    def enter(self):
        self.happened.append("enter")

    def exit(self):
        self.happened.append("exit")

    def cleanup(self):
        self.happened.append("cleanup")

class TinyLogic(ScriptedLoadableModuleLogic):
    pass

class TinyTest(ScriptedLoadableModuleTest):
    def test_once(self):
        self.delayDisplay("once")
        slicer.tiny_was_tested = True
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "TinyLib").mkdir()
    (tmp_path / "TinyLib" / "__init__.py").write_text("text = 'old'", encoding="utf-8")
    path = tmp_path / "Tiny.py"
    path.write_text(_MODULE, encoding="utf-8")
    yield path
    for name in [name for name in sys.modules if name.startswith("Tiny")]:
        del sys.modules[name]
    sys.path.remove(str(tmp_path))


def test_modules_are_opened_left_and_reloaded(gui: Gui, tiny: Path) -> None:
    import slicer

    widget = gui.load_module(tiny)
    assert slicer.modules.tiny.title == "Tiny module"
    assert slicer.util.modulePath("Tiny") == str(tiny)
    assert slicer.util.getModuleWidget("Tiny") is widget
    assert widget.button.text == "old"
    assert widget.happened == ["enter"]
    (tiny.parent / "TinyLib" / "__init__.py").write_text("text = 'newer'", encoding="utf-8")
    del sys.modules["TinyLib"]
    widget.onReload()
    assert widget.happened == ["enter", "cleanup"]
    reloaded = slicer.modules.TinyWidget
    assert type(reloaded) is not type(widget)
    assert reloaded.button.text == "newer"
    assert reloaded.parent == widget.parent
    slicer.util.selectModule("Welcome")
    assert reloaded.happened == ["exit"]
    slicer.selfTests["Tiny"](msec=0)
    assert slicer.tiny_was_tested


def test_parameter_nodes_are_in_the_scene(gui: Gui, tiny: Path) -> None:
    logic = gui.load_module(tiny).logic
    node = logic.getParameterNode()
    assert node.GetScene() is gui.scene
    assert node is logic.getParameterNode()
    assert node.GetAttribute("ModuleName") == "Tiny"
