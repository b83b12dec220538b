"""The 3D Slicer module MedPTQ: the door. What is behind it is in MedPTQSlicerLib and medptq."""

from __future__ import annotations

import logging
import sys
from typing import Any

import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

from medptq.errors import MedPTQError
from MedPTQSlicerLib.logic import MedPTQLogic
from MedPTQSlicerLib.panel import Panel

__all__ = [
    "MedPTQSlicer",
    "MedPTQSlicerLogic",
    "MedPTQSlicerTest",
    "MedPTQSlicerWidget",
]

_HELP = """
Makes 3D segmentation networks several times faster on your own computer: calibrates them to INT8
on a folder of unlabeled scans, runs them, and shows FP32 and INT8 side by side with what was
measured. Scans and results stay on this computer.
<p>1. Choose a model. 2. Calibrate it on scans of the kind that it will be used on. 3. Segment.
4. Compare. If something is missing, <i>This computer</i> says so and mends it.</p>
<p>Not for clinical use.</p>
"""
_ACKNOWLEDGEMENT = """
The method is that of MedPTQ (<a href="https://arxiv.org/abs/2501.17343">arXiv 2501.17343</a>).
Each network has its own authors, licence and citation, which the panel shows.
"""


class MedPTQSlicer(ScriptedLoadableModule):
    """What Slicer knows of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = "MedPTQ"
        parent.categories = ["Segmentation"]
        parent.dependencies = []
        parent.contributors = ["The MedPTQSlicer developers"]
        parent.helpText = _HELP
        parent.acknowledgementText = _ACKNOWLEDGEMENT
        slicer.app.connect("startupCompleted()", _onStarted)


class MedPTQSlicerWidget(ScriptedLoadableModuleWidget):
    """The shell that Slicer opens, closes and reloads; the panel is in it."""

    def setup(self) -> None:
        """Make the panel."""
        super().setup()
        widget = slicer.util.loadUI(self.resourcePath("UI/MedPTQSlicer.ui"))
        self.layout.addWidget(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = MedPTQSlicerLogic()
        self.ui = slicer.util.childWidgetVariables(widget)
        self.panel = Panel(self.ui, self.logic, self.logic.getParameterNode)
        if self.parent.isEntered:  # it was reloaded, and Slicer does not say that it is open
            self.panel.enter()

    def enter(self) -> None:
        """The user opens the module."""
        self.panel.enter()

    def exit(self) -> None:
        """The user opens another one."""
        self.panel.exit()

    def cleanup(self) -> None:
        """The panel is taken away; what runs goes on."""
        self.panel.cleanup()

    def onReload(self) -> None:
        """Reload all of the module's code; Slicer alone would reload this file only."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "MedPTQSlicerLib"]:
            del sys.modules[name]
        super().onReload()


class MedPTQSlicerLogic(MedPTQLogic, ScriptedLoadableModuleLogic):
    """All verbs of :class:`MedPTQSlicerLib.logic.MedPTQLogic`; no widget is needed.

    Example::

        from MedPTQSlicer import MedPTQSlicerLogic
        [brain] = MedPTQSlicerLogic().segment(slicer.util.getNode("MRHead"), "deepbet").wait()
    """


class MedPTQSlicerTest(ScriptedLoadableModuleTest):
    """Whether the module works here: the worker starts and answers.

    The tests of everything are in Testing, and are run by scripts/test_slicer.sh.
    """

    def setUp(self) -> None:
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def test_the_worker_lists_the_models(self) -> None:
        """The worker starts in the Python that is chosen, and answers."""
        try:
            models = MedPTQSlicerLogic().models().wait(timeoutSeconds=120)
        except MedPTQError as error:
            if error.code != "worker.packages":  # as where extensions are built
                raise
            self.skipTest(str(error))
        self.assertIn("deepbet", [model.id for model in models])


def _onStarted() -> None:
    _registerSampleData()
    slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, _onLoaded)
    _onLoaded()  # a scene that Slicer was started with


def _onLoaded(*_: object) -> None:
    """Show what a scene hides that was saved while a comparison was shown; no panel is needed."""
    try:
        from MedPTQSlicerLib import compareSegmentations

        compareSegmentations.restoreLoaded(slicer.mrmlScene)
    except Exception:  # nor must it keep a scene from being loaded
        logging.exception("MedPTQ: what a comparison has hidden was not shown again")


def _registerSampleData() -> None:
    try:
        from MedPTQSlicerLib import sampleData

        sampleData.registerSampleData()
    except Exception:  # another extension's fault must not become this one's
        logging.exception("MedPTQ: the sample data were not registered")
