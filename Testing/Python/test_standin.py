"""What the stand-in of Slicer's application does, and above all what it refuses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slicer_gui import Gui
from StandIn.claims import all_claims


@pytest.mark.parametrize("claim", all_claims(), ids=lambda claim: claim.__name__)
def test_what_holds_in_slicer_holds_here(gui: Gui, claim: Callable[[], None]) -> None:
    claim()


# Beyond what PythonQt refuses


def _button() -> Any:
    import qt

    return qt.QPushButton("Apply")


@pytest.mark.parametrize(
    "use",
    [
        lambda button: button.connect("clikced()", print),
        lambda button: button.connect("clicked( bool )", print),
        lambda button: button.disconnect("clikced()", print),
        lambda button: button.connect("clicked()", None),
        lambda button: button.setText(5),
        lambda button: button.setText("a", "b"),
        lambda button: button.setIcon(print),
        lambda button: setattr(button, "text", 5),
        lambda button: setattr(button, "text", Path("a")),
        lambda button: setattr(button, "checked", "yes"),
        lambda button: setattr(button, "width", 5),
        lambda button: button.staticMetaObject,
        lambda button: button._pyside_of_another_name,
    ],
)
def test_mistakes_are_raised(gui: Gui, use: Callable[[Any], Any]) -> None:
    with pytest.raises((AttributeError, TypeError, ValueError)):
        use(_button())


def test_classes_of_qt_are_not_derived_from(gui: Gui) -> None:
    import qt

    with pytest.raises(TypeError, match="MyWidget"):
        type("MyWidget", (qt.QWidget,), {})


def test_other_threads_have_no_qt(gui: Gui) -> None:
    refused = []
    button = _button()

    def use() -> None:
        for call in (lambda: button.text, lambda: setattr(button, "text", "a"), _button):
            try:
                call()
            except RuntimeError as error:
                refused.append(str(error))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(refused) == 3


def test_ui_files_with_faults_are_refused(gui: Gui, tmp_path: Path) -> None:
    import slicer

    from StandIn.claims.ui_files import UI

    for right, wrong in {
        "mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChange(vtkMRMLScene*)",
        "setMRMLScene(vtkMRMLScene*)": "setScene(vtkMRMLScene*)",
        '"filters"': '"filter"',
        "ctkPathLineEdit::NoDot": "ctkPathLineEdit::NoDots",
        "<class>qMRMLNodeComboBox": "<class>qMRMLNodesComboBox",
        "<extends>QWidget": "<extends>QComboBox",
        "<container>1</container>": "",
    }.items():
        assert right in UI
        path = tmp_path / "wrong.ui"
        path.write_text(UI.replace(right, wrong), encoding="utf-8")
        with pytest.raises((AttributeError, KeyError, ValueError)):
            slicer.util.loadUI(str(path))


def test_faults_in_slots_are_kept_and_fail_the_test(gui: Gui) -> None:
    button = _button()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    with pytest.raises(ZeroDivisionError):
        gui.check_errors()
    gui.check_errors()


# Dialogs


def test_messages_are_recorded_and_must_be_looked_at(gui: Gui) -> None:
    import slicer

    slicer.util.errorDisplay("It failed", windowTitle="MedPTQ", detailedText="line 1")
    slicer.util.infoDisplay("It is done")
    with pytest.raises(AssertionError, match="It failed"):
        gui.dialogs.check()
    error, info = gui.dialogs.take()
    assert (error.text, error.details, error.buttons) == ("It failed", "line 1", ("OK",))
    assert error.title == "MedPTQ"
    assert info.text == "It is done"
    gui.dialogs.check()


def test_questions_are_answered(gui: Gui) -> None:
    import qt
    import slicer

    gui.dialogs.answer(qt.QMessageBox.Yes, "No", lambda box: box.standardButtons and "Yes")
    assert slicer.util.confirmYesNoDisplay("Delete?") is True
    assert slicer.util.confirmYesNoDisplay("Delete?") is False
    with pytest.raises(TypeError):
        slicer.util.confirmYesNoDisplay("Delete?")
    gui.dialogs.answer("/data/model.onnx", ("a", "b"), "")
    assert qt.QFileDialog.getOpenFileName(None, "Import", "", "*.onnx") == "/data/model.onnx"
    assert qt.QFileDialog.getOpenFileNames(None, "Import") == ("a", "b")
    assert qt.QFileDialog.getExistingDirectory() == ""
    assert [dialog.kind for dialog in gui.dialogs.shown][-1] == "QFileDialog.getExistingDirectory"
    box = qt.QMessageBox()
    box.setText("Which?")
    keep = box.addButton("Keep", qt.QMessageBox.RejectRole)
    box.addButton("Delete", qt.QMessageBox.DestructiveRole)
    gui.dialogs.answer("Keep")
    box.exec_()
    assert box.clickedButton() == keep


def test_a_dialog_can_be_used_by_the_test(gui: Gui) -> None:
    import qt

    dialog = qt.QDialog()
    layout = qt.QVBoxLayout(dialog)
    edit = qt.QLineEdit()
    layout.addWidget(edit)

    def use(shown: Any) -> int:
        assert shown is dialog
        edit.setText("typed")
        return 1

    gui.dialogs.answer(use)
    assert dialog.exec_() == 1
    assert edit.text == "typed"


def test_a_question_without_an_answer_fails(gui: Gui) -> None:
    import slicer

    with pytest.raises(AssertionError, match="Delete"):
        slicer.util.confirmOkCancelDisplay("Delete?")
    with pytest.raises(AssertionError, match="not answered"):
        gui.dialogs.check()
    gui.dialogs.failures.clear()


# The session


def test_the_event_loop_runs_while_it_is_waited(gui: Gui) -> None:
    import qt

    heard: list[int] = []
    qt.QTimer.singleShot(20, lambda: heard.append(1))
    gui.waitUntil(lambda: bool(heard), 5)
    with pytest.raises(AssertionError, match="the end"):
        gui.waitUntil(lambda: False, 0.01, "the end")


def test_the_heartbeat_tells_how_long_the_event_loop_was_away(gui: Gui) -> None:
    import qt

    with gui.heartbeat() as beat:
        gui.process(0.05)
        assert beat.beats > 0
        qt.QTimer.singleShot(0, lambda: time.sleep(0.2))
        gui.process(0.05)
    assert beat.longest >= 0.2


def test_only_what_is_shown_and_enabled_can_be_clicked(gui: Gui) -> None:
    import qt

    panel = qt.QWidget()
    button = qt.QPushButton("Apply", panel)
    heard: list[bool] = []
    button.connect("clicked(bool)", heard.append)
    panel.show()
    gui.click(button)
    button.enabled = False
    with pytest.raises(AssertionError, match="disabled"):
        gui.click(button)
    button.enabled = True
    button.hide()
    with pytest.raises(AssertionError, match="hidden"):
        gui.click(button)
    assert heard == [False]


def test_pictures_are_saved(gui: Gui, tmp_path: Path) -> None:
    from PIL import Image

    path = gui.picture(_button(), tmp_path / "button.png", 120, 40)
    with Image.open(path) as picture:
        assert picture.size == (120, 40)
        assert len(set(picture.convert("L").tobytes())) > 5


def test_each_session_is_new(gui: Gui, tmp_path: Path) -> None:
    import slicer

    assert slicer.app.userSettings().value("MedPTQSlicer/once") is None
    slicer.app.userSettings().setValue("MedPTQSlicer/once", 1)
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    assert Path(slicer.app.temporaryPath).is_relative_to(tmp_path)


@pytest.mark.parametrize("time", [1, 2])
def test_quitting_is_told(gui: Gui, time: int) -> None:
    import slicer

    heard: list[int] = []
    slicer.app.connect("aboutToQuit()", lambda: heard.append(1))
    gui.quit()
    assert heard == [1]


def test_without_a_main_window(gui_without_window: Gui) -> None:
    import slicer

    assert slicer.app.layoutManager() is None
    assert slicer.util.mainWindow() is None
    slicer.util.errorDisplay("Nobody sees it")
    assert not slicer.util.showStatusMessage("Nor this")
    with pytest.raises(RuntimeError):
        slicer.util.selectModule("Tiny")


def test_errors_are_shown_by_the_real_utilities(gui: Gui) -> None:
    import slicer

    with (
        pytest.raises(ValueError, match="no such"),
        slicer.util.tryWithErrorDisplay("It failed", waitCursor=True),
    ):
        raise ValueError("no such thing")
    [shown] = gui.dialogs.take()
    assert shown.text == "It failed\n\nno such thing"
