"""Widgets of the module ``ctk``: CTK's names and signatures, little behind them."""

from __future__ import annotations

import enum
import fnmatch
import re
from typing import Any

from PySide6 import QtCore, QtWidgets

from StandIn import dialogs
from StandIn.widgets import StandInWidget, stored, unscoped


@unscoped
class ctkPathLineEdit(StandInWidget, QtWidgets.QWidget):
    """A line for a path, with a button to browse."""

    SIGNALS = ("currentPathChanged(QString)", "validInputChanged(bool)")
    SLOTS = ("setCurrentPath(QString)", "browse()", "addCurrentPathToHistory()")

    class Filter(enum.IntFlag):
        Dirs = 0x001
        Files = 0x002
        Drives = 0x004
        AllEntries = 0x007
        NoSymLinks = 0x008
        Readable = 0x010
        Writable = 0x020
        Executable = 0x040
        Modified = 0x080
        Hidden = 0x100
        System = 0x200
        AllDirs = 0x400
        CaseSensitive = 0x800
        NoDot = 0x2000
        NoDotDot = 0x4000
        NoDotAndDotDot = 0x1000

    class Option(enum.IntFlag):
        ShowDirsOnly = 0x01
        DontResolveSymlinks = 0x02
        DontConfirmOverwrite = 0x04
        DontUseSheet = 0x08
        DontUseNativeDialog = 0x10
        ReadOnly = 0x20
        HideNameFilterDetails = 0x40

    class SizeAdjustPolicy(enum.IntEnum):
        AdjustToContents = 0
        AdjustToContentsOnFirstShow = 1
        AdjustToMinimumContentsLength = 2

    label = stored(str, "")
    filters = stored(int, 0x007, Filter)
    options = stored(int, 0, Option)
    settingKey = stored(str, "")
    showBrowseButton = stored(bool, True)
    showHistoryButton = stored(bool, True)
    sizeAdjustPolicy = stored(int, 2)
    minimumContentsLength = stored(int, 0)
    nameFilters = stored("QStringList", [])

    def __init__(self, *args: Any) -> None:
        super().__init__(*[arg for arg in args if isinstance(arg, QtWidgets.QWidget)])
        self._valid = False
        self._combo = QtWidgets.QComboBox(self)
        self._combo.setEditable(True)
        expanding = QtWidgets.QSizePolicy.Policy.Expanding
        self._combo.setSizePolicy(expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._button = QtWidgets.QToolButton(self)
        self._button.setText("...")
        self._button.clicked.connect(self.browse)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        layout.addWidget(self._button)
        self._combo.editTextChanged.connect(self._edited)

    def _edited(self, text: str) -> None:
        # As in CTK: the path need not exist, and an empty one is not told as a change of it.
        valid = bool(text) and self._accepts(text)
        changed, self._valid = valid != self._valid, valid
        if valid:
            self._emit("currentPathChanged(QString)", text)
        if changed:
            self._emit("validInputChanged(bool)", valid)

    def _accepts(self, text: str) -> bool:
        patterns = " ".join(re.findall(r"\(([^)]*)\)", " ".join(self.nameFilters))).split()
        return not patterns or any(fnmatch.fnmatch(text, pattern) for pattern in patterns)

    def _showBrowseButtonChanged(self) -> None:
        self._button.setVisible(self.showBrowseButton)

    def _getCurrentPath(self) -> str:
        return self._combo.currentText()

    def setCurrentPath(self, path: str) -> None:
        self._combo.setEditText(path)

    currentPath = QtCore.Property(str, _getCurrentPath, setCurrentPath)

    def comboBox(self) -> QtWidgets.QComboBox:
        return self._combo

    def browse(self) -> None:
        kind = "getExistingDirectory"
        if self.filters & self.Filter.Files:
            kind = "getOpenFileName"
            if self.filters & self.Filter.Writable:
                kind = "getSaveFileName"
        path = dialogs.current.ask(dialogs.Dialog(f"QFileDialog.{kind}", title=self.label))
        if path:
            self.setCurrentPath(path)

    def addCurrentPathToHistory(self) -> None:
        if self.currentPath:
            self._combo.insertItem(0, self.currentPath)


class ctkSearchBox(StandInWidget, QtWidgets.QLineEdit):
    """A line to search with."""

    showSearchIcon = stored(bool, False)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.setPlaceholderText("Search...")


class ctkMessageBox(StandInWidget, QtWidgets.QMessageBox):
    """A message box that can be told not to come again."""

    dontShowAgain = stored(bool, False)
    dontShowAgainSettingsKey = stored(str, "")
    dontShowAgainVisible = stored(bool, False)


@unscoped
class ctkComboBox(StandInWidget, QtWidgets.QComboBox):
    """A combo box with a text for when nothing is chosen."""

    class ScrollEffect(enum.IntEnum):
        NeverScroll = 0
        AlwaysScroll = 1
        ScrollWithFocus = 2
        ScrollWithNoVScrollBar = 3

    defaultText = stored(str, "")
    scrollWheelEffect = stored(int, 1)

    def _defaultTextChanged(self) -> None:
        self.setPlaceholderText(self.defaultText)


class _of_spin_box(QtCore.Property):
    """A Q_PROPERTY that is the one of the spin box inside."""

    def __init__(self, kind: Any) -> None:
        super().__init__(kind, self._get, self._set)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._setter = name, f"set{name[0].upper()}{name[1:]}"
        setattr(owner, self._setter, lambda this, value: self._set(this, value))

    def _get(self, this: Any) -> Any:
        return getattr(this._spin, self._name)()

    def _set(self, this: Any, value: Any) -> None:
        getattr(this._spin, self._setter)(value)


class ctkDoubleSpinBox(StandInWidget, QtWidgets.QWidget):
    """A spin box of numbers."""

    SIGNALS = (
        *("valueChanged(double)", "valueChanged(QString)", "editingFinished()"),
        "decimalsChanged(int)",
    )
    SLOTS = ("setValue(double)", "setDecimals(int)", "setReadOnly(bool)", "stepUp()", "stepDown()")
    value = _of_spin_box(float)
    minimum = _of_spin_box(float)
    maximum = _of_spin_box(float)
    singleStep = _of_spin_box(float)
    decimals = _of_spin_box(int)
    prefix = _of_spin_box(str)
    suffix = _of_spin_box(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._spin = QtWidgets.QDoubleSpinBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._spin)
        self._spin.valueChanged.connect(lambda value: self._emit("valueChanged(double)", value))
        self._spin.textChanged.connect(lambda text: self._emit("valueChanged(QString)", text))
        self._spin.editingFinished.connect(lambda: self._emit("editingFinished()"))

    def setRange(self, minimum: float, maximum: float) -> None:
        self._spin.setRange(minimum, maximum)

    def text(self) -> str:
        return self._spin.text()


class ctkSliderWidget(StandInWidget, QtWidgets.QWidget):
    """A slider and a spin box for one number."""

    SIGNALS = ("valueChanged(double)", "valueIsChanging(double)", "decimalsChanged(int)")
    SLOTS = ("setValue(double)", "setDecimals(int)", "setSpinBoxVisible(bool)", "reset()")
    tracking = stored(bool, True)
    pageStep = stored(float, 10.0)
    value = _of_spin_box(float)
    minimum = _of_spin_box(float)
    maximum = _of_spin_box(float)
    singleStep = _of_spin_box(float)
    decimals = _of_spin_box(int)
    prefix = _of_spin_box(str)
    suffix = _of_spin_box(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, 1000)
        self._spin = QtWidgets.QDoubleSpinBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin)
        self._spin.valueChanged.connect(self._changed)
        self._slider.sliderMoved.connect(self._moved)

    def _changed(self, value: float) -> None:
        span = self._spin.maximum() - self._spin.minimum()
        self._slider.setValue(round(1000 * (value - self._spin.minimum()) / (span or 1)))
        self._emit("valueIsChanging(double)", value)
        self._emit("valueChanged(double)", value)

    def _moved(self, place: int) -> None:
        span = self._spin.maximum() - self._spin.minimum()
        self._spin.setValue(self._spin.minimum() + span * place / 1000)

    def setRange(self, minimum: float, maximum: float) -> None:
        self._spin.setRange(minimum, maximum)
