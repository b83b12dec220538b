"""What goes into Qt and comes back from it in PythonQt."""

from __future__ import annotations

import qt
import slicer

from StandIn.claims.checking import assign, python, refused


def enumerators_are_numbers_without_their_enumeration() -> None:
    assert int(qt.Qt.Horizontal) == 1
    assert qt.Qt.Checked == 2
    assert qt.QMessageBox.Yes == 0x4000
    assert qt.QProcess.CrashExit == 1
    assert qt.QProcess.FailedToStart == 0
    assert qt.QProcess.MergedChannels == 1
    assert (qt.QMessageBox.Yes | qt.QMessageBox.No) == 0x14000
    assert int(qt.Qt.AlignLeft | qt.Qt.AlignTop) == 0x21
    assert qt.Qt.UserRole == 256
    assert qt.QFile.ReadOnly == 1
    assert qt.QSizePolicy.Expanding == 7
    assert qt.QHeaderView.Stretch == 1


def enumerations_of_properties_are_numbers() -> None:
    slider = qt.QSlider()
    slider.orientation = qt.Qt.Horizontal
    assert slider.orientation == qt.Qt.Horizontal == 1
    button = qt.QToolButton()
    button.setArrowType(qt.Qt.RightArrow)
    assert button.arrowType == qt.Qt.RightArrow
    label = qt.QLabel()
    label.alignment = qt.Qt.AlignRight
    other = qt.QLabel()
    other.alignment = label.alignment
    assert refused(lambda: label.alignment & qt.Qt.AlignRight)


def items_keep_what_they_are_given() -> None:
    tree = qt.QTreeWidget()
    item = qt.QTreeWidgetItem(["Liver", "0.99"])
    item.setData(0, qt.Qt.UserRole, 3)
    tree.addTopLevelItem(item)
    assert tree.topLevelItemCount == 1
    assert tree.topLevelItem(0).text(0) == "Liver"
    assert tree.topLevelItem(0).data(0, qt.Qt.UserRole) == 3
    tree.setCurrentItem(item)
    assert tree.currentItem().text(1) == "0.99"
    item.setFlags(item.flags() & ~qt.Qt.ItemIsEnabled)
    assert not int(item.flags()) & int(qt.Qt.ItemIsEnabled)
    item.setCheckState(0, qt.Qt.Checked)
    assert item.checkState(0) == qt.Qt.Checked
    rows = qt.QListWidget()
    rows.addItem("a")
    rows.addItems(["b", "c"])
    assert rows.count == 3
    assert rows.item(1).text() == "b"


def lists_come_back_as_tuples() -> None:
    widget = qt.QWidget()
    qt.QLabel(widget)
    assert isinstance(widget.children(), (tuple, list))
    chooser = slicer.qMRMLNodeComboBox()
    chooser.nodeTypes = ["vtkMRMLModelNode"]
    assert chooser.nodeTypes == ("vtkMRMLModelNode",)


def bytes_come_from_byte_arrays() -> None:
    assert bytes(qt.QByteArray(b"abc").data()) == b"abc"
    process = qt.QProcess()
    process.start(python(), ["-c", "print('hello')"])
    assert process.waitForFinished(10000)
    assert bytes(process.readAllStandardOutput().data()).strip() == b"hello"
    assert process.exitCode() == 0
    assert process.exitStatus() == qt.QProcess.NormalExit


def bytes_are_written_to_processes() -> None:
    process = qt.QProcess()
    process.start(python(), ["-c", "print(input()[::-1])"])
    assert process.waitForStarted(10000)
    process.write(b"abc\n")
    process.closeWriteChannel()
    assert process.waitForFinished(10000)
    assert bytes(process.readAllStandardOutput().data()).strip() == b"cba"
    assert int(process.processId()) == 0


def environments_of_processes() -> None:
    environment = qt.QProcessEnvironment.systemEnvironment()
    environment.insert("MEDPTQ_CLAIM", "1")
    assert environment.contains("MEDPTQ_CLAIM")
    assert environment.value("MEDPTQ_CLAIM") == "1"
    assert environment.value("MEDPTQ_NOT_THERE", "") == ""
    environment.remove("MEDPTQ_CLAIM")
    assert not environment.contains("MEDPTQ_CLAIM")
    assert "PATH" in slicer.app.startupEnvironment().keys()  # noqa: SIM118


def sizes_have_methods() -> None:
    size = qt.QSize(3, 4)
    assert size.width() == 3
    assert refused(assign(size, "width", 5))
    assert qt.QWidget().sizeHint.width() is not None
