"""Properties, methods and children of Qt's objects in PythonQt."""

from __future__ import annotations

import ctk
import qt

from StandIn.claims.checking import assign, refused


def properties_are_attributes_and_no_methods() -> None:
    button = qt.QPushButton("Calibrate")
    assert button.text == "Calibrate"
    assert button.enabled is True
    assert button.checkable is False
    assert refused(lambda: button.text())
    assert refused(lambda: button.enabled())
    label = qt.QLabel("x")
    assert label.text == "x"
    assert refused(lambda: label.text())


def properties_are_set_by_assignment_or_by_their_setter() -> None:
    label = qt.QLabel()
    label.text = "a"
    label.setText("b")
    assert label.text == "b"
    label.toolTip = "tip"
    assert "tip" in label.toolTip  # Slicer makes HTML of it
    box = qt.QSpinBox()
    box.maximum = 7
    box.value = 9
    assert box.value == 7
    assert refused(assign(box, "value", "text"))


def is_methods_are_no_properties() -> None:
    widget = qt.QWidget()
    assert widget.isVisible() is False
    assert widget.visible is False
    assert widget.isEnabled() is True
    assert widget.isHidden() is True
    check = qt.QCheckBox()
    assert check.isChecked() is False
    assert check.checked is False


def methods_are_methods() -> None:
    layout = qt.QVBoxLayout()
    assert layout.count() == 0
    process = qt.QProcess()
    assert process.state() == qt.QProcess.NotRunning
    tree = qt.QTreeWidget()
    assert tree.topLevelItemCount == 0
    assert refused(lambda: tree.topLevelItemCount())
    combo = qt.QComboBox()
    combo.addItem("a", "data")
    assert combo.count == 1
    assert combo.itemText(0) == "a"
    assert combo.itemData(0) == "data"
    assert combo.currentText == "a"
    assert combo.currentIndex == 0
    assert combo.currentData is not None
    assert qt.QListWidget().count == 0
    table = qt.QTableWidget(2, 3)
    assert table.rowCount == 2
    assert table.columnCount == 3
    edit = qt.QPlainTextEdit()
    edit.setPlainText("a\nb")
    assert edit.plainText == "a\nb"
    assert edit.toPlainText() == "a\nb"
    assert edit.verticalScrollBar().maximum >= 0


def unknown_attributes_are_refused() -> None:
    button = qt.QPushButton()
    for name in ("nothing", "set_text", "is_enabled", "emit", "create", "updateMicroFocus"):
        assert refused(lambda name=name: getattr(button, name)), name
    assert refused(assign(button, "nothing", 1))
    assert refused(lambda: qt.QNothing)
    assert refused(lambda: qt.QPushButton.nothing)
    assert refused(lambda: ctk.ctkNothing)
    assert refused(lambda: qt.QSize(1, 2).nothing)
    assert refused(lambda: qt.QSize(1, 2).toTuple)
    assert refused(lambda: qt.QTreeWidget().rowsInserted)
    assert refused(lambda: qt.QAction("a", None).setMenu)


def setters_take_no_keywords() -> None:
    label = qt.QLabel()
    assert refused(lambda: label.setText(text="a"))


def the_name_is_the_object_name() -> None:
    widget = qt.QWidget()
    widget.name = "panel"
    assert widget.objectName == "panel"
    assert widget.name == "panel"
    assert widget.className() == "QWidget"
    assert widget.inherits("QObject")
    assert not widget.inherits("QLabel")


def children_are_found_by_name_as_attributes() -> None:
    parent = qt.QWidget()
    child = qt.QLabel("x", parent)
    child.objectName = "theLabel"
    assert parent.theLabel.text == "x"
    assert parent.findChild(qt.QLabel, "theLabel").text == "x"
    assert parent.findChild("QLabel", "theLabel").text == "x"
    assert parent.findChild(qt.QLabel, "another") is None
    assert len(parent.findChildren(qt.QLabel)) == 1
    assert len(parent.findChildren(qt.QPushButton)) == 0
    assert [each.objectName for each in parent.children()] == ["theLabel"]


def dynamic_properties_are_read_and_set() -> None:
    widget = qt.QWidget()
    assert widget.property("SlicerParameterName") is None
    widget.setProperty("SlicerParameterName", "folder")
    assert widget.property("SlicerParameterName") == "folder"


def wrappers_of_one_object_are_equal() -> None:
    parent = qt.QWidget()
    child = qt.QLabel(parent)
    assert parent.children()[0] is child
    assert child.parent() == parent
    assert parent != child
    assert child.parentWidget() == parent


def wrappers_of_subclasses_are_no_instances_of_the_base() -> None:
    assert not isinstance(qt.QPushButton(), qt.QWidget)
    assert not isinstance(ctk.ctkSearchBox(), qt.QLineEdit)
    assert isinstance(ctk.ctkSearchBox(), ctk.ctkSearchBox)
    assert ctk.ctkSearchBox().inherits("QLineEdit")
    assert type(qt.QPushButton()) is qt.QPushButton


def deleted_objects_say_so() -> None:
    widget = qt.QWidget()
    label = qt.QLabel("x", widget)
    widget.delete()
    assert refused(lambda: label.text)
    assert refused(lambda: label.setText("y"))
