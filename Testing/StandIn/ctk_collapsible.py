"""The two widgets of CTK that show and hide what is in them."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from StandIn.widgets import StandInWidget, stored


class _Collapsible(StandInWidget):
    """Hides the widgets in it while it is collapsed, as CTK does: from when it is first shown."""

    _forcing = False

    def _showChildren(self) -> None:
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                self._showChild(child)

    def _showChild(self, child: QtWidgets.QWidget) -> None:
        created = QtCore.Qt.WidgetAttribute.WA_WState_Created
        if not self.testAttribute(created):
            return
        wanted = child.property("visibilityToParent") is not False
        visible = wanted and not self.collapsed
        self._forcing = True
        if child.testAttribute(created) or not visible:
            child.setVisible(visible)
        if wanted:
            child.setAttribute(QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)
        self._forcing = False

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        child = event.child()
        if event.added() and isinstance(child, QtWidgets.QWidget):
            explicit = QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide
            if child.testAttribute(explicit) and child.isHidden():
                child.setProperty("visibilityToParent", False)
            child.installEventFilter(self)
            self._showChild(child)
        super().childEvent(event)

    def setVisible(self, visible: bool) -> None:
        self._forcing = True
        super().setVisible(visible)
        self._forcing = False
        self._showChildren()

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:
        if not self._forcing and isinstance(child, QtWidgets.QWidget):
            if event.type() == QtCore.QEvent.Type.ShowToParent:
                child.setProperty("visibilityToParent", True)
                self._showChild(child)
            elif event.type() == QtCore.QEvent.Type.HideToParent:
                child.setProperty("visibilityToParent", False)
        return False


class ctkCollapsibleButton(_Collapsible, QtWidgets.QAbstractButton):
    """A heading that shows or hides the widgets in it."""

    SIGNALS = ("contentsCollapsed(bool)",)
    CONTAINER = True
    collapsed = stored(bool, False)
    collapsedHeight = stored(int, 14)
    flat = stored(bool, False)

    def __init__(self, *args: Any) -> None:
        text = args[0] if args and isinstance(args[0], str) else ""
        super().__init__(*args[bool(text) :])
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, self._heading().height(), 0, 0)
        minimum = QtWidgets.QSizePolicy.Policy.Minimum
        self.setSizePolicy(minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.toggled.connect(lambda checked: self.setCollapsed(not checked))

    def _collapsedChanged(self) -> None:
        self.setChecked(not self.collapsed)
        self._showChildren()
        limit = self.sizeHint().height() if self.collapsed else 16777215
        self.setMaximumHeight(limit)
        self.updateGeometry()
        self._emit("contentsCollapsed(bool)", self.collapsed)

    def _heading(self) -> QtCore.QSize:
        metrics = self.fontMetrics()
        text = metrics.size(QtCore.Qt.TextFlag.TextShowMnemonic, self.text() or "XXXX")
        return QtCore.QSize(text.width() + 2 * metrics.height(), metrics.height() + 8)

    def minimumSizeHint(self) -> QtCore.QSize:
        size = self._heading()
        return size if self.collapsed else size.expandedTo(super().minimumSizeHint())

    def sizeHint(self) -> QtCore.QSize:
        size = self._heading()
        if self.collapsed:
            return size + QtCore.QSize(0, self.collapsedHeight)
        return size.expandedTo(QtWidgets.QWidget.sizeHint(self))

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() <= self._heading().height()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect.setHeight(self._heading().height())
        style = self.style()
        style.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        height = option.rect.height()
        arrow.rect = QtCore.QRect(height // 4, height // 4, height // 2, height // 2)
        element = QtWidgets.QStyle.PrimitiveElement
        shape = element.PE_IndicatorArrowRight if self.collapsed else element.PE_IndicatorArrowDown
        style.drawPrimitive(shape, arrow, painter, self)
        left = QtCore.Qt.AlignmentFlag.AlignLeft | QtCore.Qt.AlignmentFlag.AlignVCenter
        flags = left | QtCore.Qt.TextFlag.TextShowMnemonic
        rect = option.rect.adjusted(height, 0, 0, 0)
        style.drawItemText(
            painter, rect, flags, option.palette, self.isEnabled(), self.text(),
            QtGui.QPalette.ColorRole.ButtonText,
        )  # fmt: skip


class ctkCollapsibleGroupBox(_Collapsible, QtWidgets.QGroupBox):
    """A group box that shows or hides the widgets in it: it is collapsed while not checked."""

    CONTAINER = True
    collapsedHeight = stored(int, 14)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._expand)

    def _expand(self, expanded: bool) -> None:
        self._showChildren()
        self.setMaximumHeight(16777215 if expanded else self.fontMetrics().height() + 12)

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = QtCore.Property(bool, lambda self: not self.isChecked(), setCollapsed)
