"""Connections, timers and processes in PythonQt."""

from __future__ import annotations

import qt

from StandIn.claims.checking import refused, spin


def signals_are_connected_by_their_signature() -> None:
    button, heard = qt.QPushButton(), []
    assert not refused(lambda: button.connect("clicked(bool)", heard.append))
    assert not refused(lambda: button.connect("clicked()", lambda: heard.append("clicked")))
    button.click()
    assert heard == [False, "clicked"]
    assert refused(lambda: button.connect("clicked(int)", heard.append))
    assert refused(lambda: button.connect("click()", heard.append))
    assert refused(lambda: button.connect("clickd(bool)", heard.append))
    assert refused(lambda: button.connect("clicked", heard.append))


def slots_get_no_more_arguments_than_they_take() -> None:
    box, heard = qt.QSpinBox(), []

    def none() -> None:
        heard.append("none")

    def one(value: int) -> None:
        heard.append(value)

    def optional(value: int = 5) -> None:
        heard.append(("optional", value))

    def some(*values: int) -> None:
        heard.append(values)

    for slot in (none, one, optional, some):
        box.connect("valueChanged(int)", slot)
    box.value = 2
    assert heard == ["none", 2, ("optional", 2), (2,)]


def slots_are_disconnected() -> None:
    class Listener:
        def __init__(self) -> None:
            self.heard = 0

        def hear(self) -> None:
            self.heard += 1

    button, listener = qt.QPushButton(), Listener()
    button.connect("clicked()", listener.hear)
    button.click()
    assert button.disconnect("clicked()", listener.hear)
    button.click()
    assert listener.heard == 1
    assert not button.disconnect("clicked()", listener.hear)


def signals_are_also_attributes() -> None:
    button, heard = qt.QPushButton(), []
    button.clicked.connect(heard.append)
    button.click()
    assert heard == [False]
    button.clicked.disconnect(heard.append)
    button.click()
    assert heard == [False]


def blocked_signals_are_not_heard() -> None:
    box, heard = qt.QSpinBox(), []
    box.connect("valueChanged(int)", heard.append)
    assert box.blockSignals(True) is False
    box.value = 3
    box.blockSignals(False)
    assert heard == []


def overloads_of_combo_boxes() -> None:
    combo, heard = qt.QComboBox(), []
    combo.connect("currentIndexChanged(int)", heard.append)
    combo.connect("currentTextChanged(QString)", heard.append)
    combo.addItems(["a", "b"])
    combo.currentIndex = 1
    assert set(heard) == {0, 1, "a", "b"}


def trees_tell_their_items() -> None:
    tree, heard = qt.QTreeWidget(), []
    item = qt.QTreeWidgetItem(["a"])
    tree.addTopLevelItem(item)
    signal = "currentItemChanged(QTreeWidgetItem*,QTreeWidgetItem*)"
    assert not refused(lambda: tree.connect(signal, lambda current, _: heard.append(current)))
    tree.setCurrentItem(item)
    assert heard[-1].text(0) == "a"
    assert not refused(lambda: tree.connect("itemSelectionChanged()", print))
    assert refused(lambda: tree.connect("currentItemChanged()", print))


def headings_tell_which_was_clicked_and_in_which_order_it_is() -> None:
    tree, heard = qt.QTreeWidget(), []
    tree.setColumnCount(3)
    header = tree.header()
    header.setSectionsClickable(True)
    header.setSortIndicatorShown(True)
    header.setSortIndicator(-1, qt.Qt.AscendingOrder)
    assert header.sortIndicatorSection() == -1
    header.setSortIndicator(2, qt.Qt.DescendingOrder)
    assert header.sortIndicatorSection() == 2
    assert header.sortIndicatorOrder() == qt.Qt.DescendingOrder
    assert not refused(lambda: header.connect("sectionClicked(int)", heard.append))
    header.sectionClicked(2)
    assert heard == [2]


def timers_fire() -> None:
    heard: list[str] = []
    qt.QTimer.singleShot(0, lambda: heard.append("once"))
    timer = qt.QTimer()
    timer.setInterval(1)
    timer.setSingleShot(True)
    timer.connect("timeout()", lambda: heard.append("timer"))
    timer.start()
    assert timer.isActive()
    spin(lambda: len(heard) == 2)
    assert sorted(heard) == ["once", "timer"]
    assert timer.interval == 1
    assert timer.active is False


def signals_of_processes() -> None:
    process, heard = qt.QProcess(), []
    for signal in (
        *("readyReadStandardOutput()", "readyReadStandardError()", "started()"),
        *("finished(int,QProcess::ExitStatus)", "errorOccurred(QProcess::ProcessError)"),
    ):
        assert not refused(
            lambda signal=signal: process.connect(signal, lambda *args: heard.append(args))
        ), signal
    process.start("no-such-program-anywhere", [])
    spin(lambda: bool(heard))
    assert heard[-1][0] == qt.QProcess.FailedToStart
    assert refused(lambda: process.connect("finished()", print))
