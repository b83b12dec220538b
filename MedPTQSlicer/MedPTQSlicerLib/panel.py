"""The panel: its sections in order, the scene that they belong to, and what goes on without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from medptq.errors import MedPTQError
from MedPTQSlicerLib.background import background
from MedPTQSlicerLib.calibrateSection import CalibrateSection
from MedPTQSlicerLib.compareSection import CompareSection
from MedPTQSlicerLib.computerSection import ComputerSection
from MedPTQSlicerLib.logic import MedPTQLogic
from MedPTQSlicerLib.modelSection import LAST_MODEL, ModelSection
from MedPTQSlicerLib.notifying import notify
from MedPTQSlicerLib.parameterNode import PanelState, panelStateOf
from MedPTQSlicerLib.sceneVolumes import volumeInView
from MedPTQSlicerLib.segmentSection import SegmentSection
from MedPTQSlicerLib.selection import Selection

if TYPE_CHECKING:
    from slicer import vtkMRMLScriptedModuleNode


_MODIFIED = "ModifiedEvent"


class Section(Protocol):
    """One of the panel's collapsible parts."""

    def setParameterNode(self, state: PanelState | None) -> None:
        """Take the choices from a scene; None while there is none."""

    def enter(self) -> None:
        """The panel is shown."""

    def exit(self) -> None:
        """Another module is shown."""

    def cleanup(self) -> None:
        """The panel is taken away; what runs goes on."""


class Panel:
    """Holds the sections together.

    Args:
        ui: All widgets of MedPTQSlicer.ui, by name.
        logic: Does the work.
        moduleNode: Returns the module's node in the scene, which is made if there is none.
    """

    def __init__(
        self, ui: Any, logic: MedPTQLogic, moduleNode: Callable[[], vtkMRMLScriptedModuleNode]
    ) -> None:
        self._ui = ui
        self._moduleNode = moduleNode
        self._state: PanelState | None = None
        self._disconnect: Callable[[], None] = _doNothing
        self._sceneTags: list[int] = []
        self._isShown = False
        selection = Selection(logic)
        self._model = ModelSection(ui, logic, selection)
        self._calibrate = CalibrateSection(ui, logic, selection, notify)
        self._segment = SegmentSection(ui, logic, selection)
        self._compare = CompareSection(ui, logic, selection)
        self._working = (self._calibrate, self._segment, self._compare)
        computer = ComputerSection(ui, checked=self._onChecked)
        self._sections: tuple[Section, ...] = (self._model, *self._working, computer)
        self._selection = selection
        self._shownError: MedPTQError | None = None
        selection.observe(self._onSelection)
        self._observeScene()
        self._attachToJobs()

    @property
    def state(self) -> PanelState | None:
        """The choices, in the scene; None while there is none."""
        return self._state

    def enter(self) -> None:
        """The user opens the module."""
        self._isShown = True
        self._takeState()
        for section in self._sections:
            section.enter()

    def exit(self) -> None:
        """The user opens another module."""
        self._isShown = False
        for section in self._sections:
            section.exit()
        self._setState(None)

    def cleanup(self) -> None:
        """The module is reloaded, or Slicer ends."""
        import slicer

        for tag in self._sceneTags:
            slicer.mrmlScene.RemoveObserver(tag)
        self._sceneTags = []
        self._setState(None)
        for section in self._sections:
            section.cleanup()

    def _takeState(self) -> None:
        import slicer

        state = panelStateOf(self._moduleNode())
        if not state.modelId:
            state.modelId = str(slicer.app.userSettings().value(LAST_MODEL) or "")
        if state.inputVolume is None:
            state.inputVolume = volumeInView()
        self._setState(state)

    def _setState(self, state: PanelState | None) -> None:
        self._disconnect()
        self._state = state
        if state is not None:
            guiTag = state.connectGui(self._ui)
            stateTag = state.AddObserver(_MODIFIED, self._onStateChanged)

            def disconnect() -> None:
                state.disconnectGui(guiTag)
                state.RemoveObserver(stateTag)

            self._disconnect = disconnect
        else:
            self._disconnect = _doNothing
        for section in self._sections:
            section.setParameterNode(state)

    def _onStateChanged(self, *_: object) -> None:
        for section in self._working:
            section.update()

    def _onSelection(self) -> None:
        """Open 'This computer', which mends it, when the worker turns out not to work."""
        error = self._selection.error
        if error is not self._shownError:
            self._shownError = error
            if error is not None and error.code.startswith("worker."):
                self._ui.computerSection.collapsed = False

    def _onChecked(self) -> None:
        """List the models that could not be listed before the computer was mended."""
        if self._selection.error is not None and not self._selection.isLooking:
            self._selection.refresh()

    def _observeScene(self) -> None:
        import slicer

        scene = slicer.mrmlScene
        self._sceneTags = [
            scene.AddObserver(scene.StartCloseEvent, self._onSceneStartClose),
            scene.AddObserver(scene.EndCloseEvent, self._onSceneReady),
            scene.AddObserver(scene.EndImportEvent, self._onSceneReady),
            scene.AddObserver(scene.NodeAddedEvent, self._onNodeAdded),
        ]

    def _onSceneStartClose(self, *_: object) -> None:
        self._setState(None)

    def _onSceneReady(self, *_: object) -> None:
        if self._isShown:
            self._setState(None)
            self._takeState()

    def _onNodeAdded(self, *_: object) -> None:
        """Take the first volume that is loaded, so that nobody has to choose it."""
        import slicer

        state = self._state
        if (
            state is not None
            and state.inputVolume is None
            and not slicer.mrmlScene.IsBatchProcessing()
        ):
            state.inputVolume = volumeInView()

    def _attachToJobs(self) -> None:
        """Show what was started by a panel that is there no more."""
        for job in background().jobs:
            for section in self._working:
                if job.kind == section.KIND:
                    section.attach(job)


def _doNothing() -> None:
    pass
