"""What is loaded from .ui files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import ctk
import qt
import slicer


def ui_files() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "claim.ui"
        path.write_text(UI, encoding="utf-8")
        widget = slicer.util.loadUI(str(path))
    ui = slicer.util.childWidgetVariables(widget)
    assert type(widget) is slicer.qMRMLWidget
    assert type(ui.start) is qt.QPushButton
    assert type(ui.folder) is ctk.ctkPathLineEdit
    assert type(ui.chooser) is slicer.qMRMLNodeComboBox
    assert ui.section.text == "Section"
    assert ui.folder.property("SlicerParameterName") == "folder"
    assert ui.chooser.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert ui.chooser.mrmlScene() is None
    widget.setMRMLScene(slicer.mrmlScene)
    assert ui.chooser.mrmlScene() is slicer.mrmlScene
    assert ui.start.parent() == ui.section
    ui.check.checked = True
    assert ui.start.enabled is False


UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Claim</class>
<widget class="qMRMLWidget" name="Claim"><layout class="QVBoxLayout" name="claimLayout">
<item><widget class="ctkCollapsibleButton" name="section">
 <property name="text"><string>Section</string></property>
 <layout class="QVBoxLayout" name="sectionLayout">
 <item><widget class="QPushButton" name="start"/></item>
 <item><widget class="QCheckBox" name="check"/></item>
 <item><widget class="ctkPathLineEdit" name="folder">
  <property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::NoDot</set></property>
  <property name="SlicerParameterName" stdset="0"><string>folder</string></property>
 </widget></item>
 <item><widget class="qMRMLNodeComboBox" name="chooser">
  <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist>
  </property>
 </widget></item>
 </layout>
</widget></item></layout></widget>
<customwidgets>
<customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends>
 <header>ctkCollapsibleButton.h</header><container>1</container></customwidget>
<customwidget><class>ctkPathLineEdit</class><extends>QWidget</extends>
 <header>ctkPathLineEdit.h</header></customwidget>
<customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends>
 <header>qMRMLNodeComboBox.h</header></customwidget>
<customwidget><class>qMRMLWidget</class><extends>QWidget</extends>
 <header>qMRMLWidget.h</header><container>1</container></customwidget>
</customwidgets>
<connections>
<connection><sender>Claim</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
 <receiver>chooser</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>
<connection><sender>check</sender><signal>toggled(bool)</signal>
 <receiver>start</receiver><slot>setDisabled(bool)</slot></connection>
</connections></ui>
"""
