"""The application: ``slicer.app``, its main window and its scene."""

from __future__ import annotations

import os
import sys
from importlib import util as importing
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from StandIn import pythonqt, signals
from StandIn.layout import qSlicerLayoutManager
from StandIn.modules import (
    qSlicerLoadableModule,
    qSlicerModuleManager,
    qSlicerScriptedLoadableModule,
)
from StandIn.widgets import StandInWidget

# The logics of Slicer's own modules; making them also makes their nodes known to the scene.
_LOGICS = {
    name: f"vtkSlicer{logic}"
    for name, logic in {
        "annotations": "AnnotationModuleLogic",
        "cameras": "CamerasModuleLogic",
        "colors": "ColorLogic",
        "markups": "MarkupsLogic",
        "models": "ModelsLogic",
        "plots": "PlotsLogic",
        "segmentations": "SegmentationsModuleLogic",
        "subjecthierarchy": "SubjectHierarchyModuleLogic",
        "tables": "TablesLogic",
        "volumes": "VolumesLogic",
    }.items()
}


class qSlicerModuleSelectorToolBar(StandInWidget, QtWidgets.QToolBar):
    """Where a module is selected."""

    SIGNALS = ("moduleSelected(QString)",)
    SLOTS = ("selectModule(QString)",)
    _selected: Any = None

    def selectModule(self, name: str) -> None:
        if self._selected == name:
            return
        manager = slicer.app._pyside.moduleManager()
        for module in (manager.module(self._selected), manager.module(name)):
            if isinstance(module, qSlicerScriptedLoadableModule):
                widget = module.widgetRepresentation()
                widget._enter() if module is manager.module(name) else widget._exit()
        self._selected = name
        self._emit("moduleSelected(QString)", name)

    selectedModule = QtCore.Property(str, lambda self: self._selected or "")


class qSlicerAppMainWindow(StandInWidget, QtWidgets.QMainWindow):
    """The main window, with a module selector and a status bar."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._selector = qSlicerModuleSelectorToolBar(self)

    def moduleSelector(self) -> Any:
        return self._selector


class qSlicerApplication(StandInWidget, QtWidgets.QApplication):
    """The application; one for all tests, made anew within for each."""

    SIGNALS = ("startupCompleted()", "mrmlSceneChanged(vtkMRMLScene*)", "aboutToQuit()")
    SLOTS = ("pauseRender()", "resumeRender()")

    def _begin(self, folder: Path, *, main_window: bool) -> None:
        self.setApplicationName("Slicer")
        self.setApplicationVersion("5.12.4-stand-in")
        self._folder = folder
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
        for scope in (QtCore.QSettings.Scope.UserScope, QtCore.QSettings.Scope.SystemScope):
            QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, scope, str(folder))
        self._settings = QtCore.QSettings(
            str(folder / "Slicer.ini"), QtCore.QSettings.Format.IniFormat
        )
        self._testing = False
        self._scene = slicer.vtkMRMLScene()
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self._scene)
        self._application_logic = slicer.vtkSlicerApplicationLogic()
        self._application_logic.SetMRMLScene(self._scene)
        self._application_logic.SetTemporaryPath(self.temporaryPath)
        self._application_logic.SetHomeDirectory(self.slicerHome)
        self._application_logic.SetShareDirectory("share")
        self._manager = qSlicerModuleManager()
        slicer.mrmlScene = self._scene
        slicer.modules = ModuleType("slicer.modules")
        slicer.moduleNames = ModuleType("slicer.moduleNames")
        slicer.selfTests = {}
        for name, logic in _LOGICS.items():
            module = qSlicerLoadableModule()
            module._logic = getattr(slicer, logic)()
            module._logic.SetMRMLApplicationLogic(self._application_logic)
            module._logic.SetMRMLScene(self._scene)
            setattr(slicer.modules, name, pythonqt.wrap(module))
        self._window = qSlicerAppMainWindow() if main_window else None
        self._layout_manager = (
            qSlicerLayoutManager(self._scene, self._application_logic) if main_window else None
        )

    def _quit(self) -> None:
        self._emit("aboutToQuit()")
        signals.disconnect(self, "aboutToQuit()", None)

    def _end(self) -> None:
        self._quit()
        for name in self._manager.modulesNames():
            self._manager._emit("moduleAboutToBeUnloaded(QString)", name)
        for widget in QtWidgets.QApplication.topLevelWidgets():
            widget.close()
            widget.deleteLater()
        if self._layout_manager is not None:
            self._layout_manager._close()
        for signature in self.SIGNALS:
            signals.disconnect(self, signature, None)
        self._scene.Clear(True)
        self.processEvents()
        self.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)

    def _add_module(self, path: Path) -> Any:
        """Load a scripted module as Slicer does when it starts; return its Python object."""
        name = path.stem
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        spec = importing.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = loaded = importing.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        module = qSlicerScriptedLoadableModule(path)
        module.setObjectName(f"{name}Module")
        self._manager._modules[name] = module
        setattr(slicer.modules, name.lower(), pythonqt.wrap(module))
        setattr(slicer.moduleNames, name, name)
        instance = getattr(loaded, name)(pythonqt.wrap(module))
        setattr(slicer.modules, f"{name}Instance", instance)
        self._manager._emit("moduleLoaded(QString)", name)
        return instance

    temporaryPath = QtCore.Property(str, lambda self: str(self._folder / "tmp"))
    cachePath = QtCore.Property(str, lambda self: str(self._folder / "cache"))
    slicerHome = QtCore.Property(str, lambda self: str(self._folder / "home"))
    slicerUserSettingsFilePath = QtCore.Property(str, lambda self: self._settings.fileName())
    majorVersion = QtCore.Property(int, lambda self: 5)
    minorVersion = QtCore.Property(int, lambda self: 12)
    revision = QtCore.Property(str, lambda self: "0")

    def mrmlScene(self) -> Any:
        return self._scene

    def applicationLogic(self) -> Any:
        return self._application_logic

    def layoutManager(self) -> Any:
        return self._layout_manager

    def moduleManager(self) -> Any:
        return self._manager

    def moduleLogic(self, name: str) -> Any:
        return getattr(slicer.modules, name.lower()).logic()

    def userSettings(self) -> QtCore.QSettings:
        return self._settings

    def settings(self) -> QtCore.QSettings:
        return self._settings

    def revisionUserSettings(self) -> QtCore.QSettings:
        return self._settings

    def testingEnabled(self) -> bool:
        return self._testing

    def startupEnvironment(self) -> QtCore.QProcessEnvironment:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def environment(self) -> QtCore.QProcessEnvironment:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def pauseRender(self) -> None:
        """Do nothing: nothing is drawn."""

    def resumeRender(self) -> None:
        """Do nothing: nothing is drawn."""


def start() -> Any:
    """Return the application, which is started by the first call."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    application = QtWidgets.QApplication.instance()
    if application is None:
        application = qSlicerApplication(["Slicer"])
        application.setStyle("Fusion")
        application.setQuitOnLastWindowClosed(False)
    assert isinstance(application, qSlicerApplication)
    return application


def make_session(folder: Path, *, main_window: bool = True) -> Any:
    """Begin a session: an empty scene, no settings, no modules but Slicer's own."""
    for name in ("tmp", "cache", "home/share/ColorFiles"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    application = start()
    application._begin(folder, main_window=main_window)
    slicer.app = pythonqt.wrap(application)
    return SimpleNamespace(app=application, folder=folder)
