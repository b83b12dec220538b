"""Typed parameters and the widgets that they are bound to."""

from __future__ import annotations

import enum
import tempfile
from pathlib import Path
from typing import Annotated

import ctk
import qt
import slicer
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from StandIn.claims.checking import assign, refused, volume


class Choice(enum.Enum):
    """A choice with labels."""

    FIRST = "The first"
    SECOND = "The second"

    def label(self) -> str:
        return self.value


@parameterNodeWrapper
class State:
    """A parameter of each type."""

    name: str
    on: bool
    count: Annotated[int, WithinRange(1, 9)] = 4
    share: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    folder: Path
    choice: Choice
    volume: slicer.vtkMRMLScalarVolumeNode


def parameters_are_bound_to_widgets() -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    state = State(node)
    assert (state.name, state.on, state.count, state.share) == ("", False, 4, 0.5)
    assert (state.folder, state.choice, state.volume) == (Path(), Choice.FIRST, None)
    assert node.GetParameter("choice") == "FIRST"
    assert node.GetParameter("on") == "False"
    assert refused(assign(state, "count", 10))
    assert refused(assign(state, "count", "3"))
    assert refused(assign(state, "choice", None))
    assert refused(assign(state, "folder", tempfile.gettempdir()))
    widgets = {
        "name": qt.QLineEdit(),
        "on": qt.QCheckBox(),
        "count": qt.QSpinBox(),
        "share": qt.QDoubleSpinBox(),
        "folder": ctk.ctkPathLineEdit(),
        "choice": qt.QComboBox(),
        "volume": slicer.qMRMLNodeComboBox(),
    }
    widgets["volume"].nodeTypes = ["vtkMRMLScalarVolumeNode"]
    widgets["volume"].noneEnabled = True
    widgets["volume"].setMRMLScene(slicer.mrmlScene)
    tag = state.connectParametersToGui(widgets)
    assert widgets["count"].value == 4
    assert widgets["count"].maximum == 9
    assert widgets["choice"].itemText(1) == "The second"
    image = volume("a")
    widgets["name"].text = "deepbet"
    widgets["on"].checked = True
    widgets["count"].value = 7
    widgets["choice"].currentIndex = 1
    widgets["folder"].currentPath = tempfile.gettempdir()
    widgets["volume"].setCurrentNode(image)
    assert (state.name, state.on, state.count) == ("deepbet", True, 7)
    assert (state.choice, state.folder) == (Choice.SECOND, Path(tempfile.gettempdir()))
    assert state.volume is image
    state.count = 2
    state.choice = Choice.FIRST
    assert widgets["count"].value == 2
    assert widgets["choice"].currentIndex == 0
    state.disconnectGui(tag)
    state.count = 3
    assert widgets["count"].value == 2
    widgets["count"].value = 5
    assert state.count == 3
    slicer.mrmlScene.RemoveNode(image)
    slicer.mrmlScene.RemoveNode(node)
