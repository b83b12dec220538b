"""CTK's widgets."""

from __future__ import annotations

import tempfile

import ctk
import qt

from StandIn.claims.checking import refused


def collapsible_buttons() -> None:
    button, heard = ctk.ctkCollapsibleButton(), []
    button.text = "Model"
    layout = qt.QVBoxLayout(button)
    label = qt.QLabel("inside")
    layout.addWidget(label)
    button.connect("contentsCollapsed(bool)", heard.append)
    button.collapsed = True
    assert heard == [True]
    assert not label.isHidden()  # not before the button was shown
    button.show()
    assert label.isHidden()
    button.setChecked(True)
    assert button.collapsed is False
    assert not label.isHidden()
    label.setVisible(False)
    button.collapsed = True
    button.collapsed = False
    assert label.isHidden()
    button.collapsed = True
    label.setVisible(True)
    assert label.isHidden()
    button.collapsed = False
    assert not label.isHidden()
    assert refused(lambda: button.collapsed())


def collapsible_group_boxes() -> None:
    box = ctk.ctkCollapsibleGroupBox()
    box.title = "Advanced"
    label = qt.QLabel("inside", box)
    assert box.checked is True
    box.show()
    assert not label.isHidden()
    box.collapsed = True
    assert box.checked is False
    assert label.isHidden()
    box.checked = True
    assert box.collapsed is False
    assert not label.isHidden()


def path_edits() -> None:
    edit, heard = ctk.ctkPathLineEdit(), []
    edit.connect("currentPathChanged(QString)", heard.append)
    edit.currentPath = tempfile.gettempdir()
    assert edit.currentPath == tempfile.gettempdir()
    assert heard == [tempfile.gettempdir()]
    edit.currentPath = "/not/there"
    assert heard[1:] == ["/not/there"]
    edit.setCurrentPath("")
    assert edit.currentPath == ""
    assert heard[2:] == []  # an empty path is not told
    assert refused(lambda: edit.currentPath())
    assert refused(lambda: edit.text)


def search_boxes() -> None:
    box, heard = ctk.ctkSearchBox(), []
    box.connect("textChanged(QString)", heard.append)
    box.text = "liver"
    assert heard == ["liver"]
    box.showSearchIcon = True
    assert box.showSearchIcon is True


def message_boxes() -> None:
    box = ctk.ctkMessageBox()
    box.text = "Delete?"
    box.dontShowAgainVisible = True
    box.dontShowAgainSettingsKey = "MedPTQ/claim"
    assert box.dontShowAgain is False
    box.standardButtons = qt.QMessageBox.Yes | qt.QMessageBox.No
    assert len(box.buttons()) == 2
