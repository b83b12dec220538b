"""The application and its main window."""

from __future__ import annotations

from pathlib import Path

import slicer

from StandIn.claims.checking import refused


def the_application() -> None:
    app = slicer.app
    assert Path(app.temporaryPath).is_dir()
    assert refused(lambda: app.temporaryPath())
    assert app.mrmlScene() is slicer.mrmlScene
    assert app.testingEnabled() in (True, False)
    assert app.applicationName
    assert app.applicationVersion.startswith("5.")
    assert app.majorVersion == 5
    assert app.clipboard().text is not None
    assert app.applicationLogic().GetSelectionNode() is not None
    assert not refused(lambda: app.connect("aboutToQuit()", print))
    assert not refused(lambda: app.connect("startupCompleted()", print))
    assert refused(lambda: app.connect("aboutToClose()", print))
    assert app.moduleManager().module("NoSuchModule") is None
    assert refused(lambda: app.nothing)
    app.pauseRender()
    app.resumeRender()


def settings_are_kept() -> None:
    settings = slicer.app.userSettings()
    settings.setValue("MedPTQSlicer/claim", "here")
    assert settings.value("MedPTQSlicer/claim") == "here"
    assert settings.contains("MedPTQSlicer/claim")
    settings.remove("MedPTQSlicer/claim")
    assert settings.value("MedPTQSlicer/claim") is None
    assert settings.value("MedPTQSlicer/claim", "default") == "default"


def the_main_window() -> None:
    window = slicer.util.mainWindow()
    assert window.objectName == "qSlicerMainWindow"
    assert slicer.util.showStatusMessage("hello", 100)
    assert window.moduleSelector() is not None


def slicer_itself_has_no_functions_of_its_utilities() -> None:
    assert refused(lambda: slicer.loadVolume)
    assert refused(lambda: slicer.loadUI)
    assert refused(lambda: slicer.nothing)
