"""What is inside of 3D, plot and table views: as much as can be without drawing."""

from __future__ import annotations

from typing import Any

import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from StandIn.widgets import StandInWidget


class qMRMLThreeDView(StandInWidget, QtWidgets.QWidget):
    """A 3D view's camera turns to nothing, as nothing is drawn."""

    SLOTS = ("resetFocalPoint()", "resetCamera()")

    def resetFocalPoint(self) -> None:
        """Do nothing."""

    def resetCamera(self) -> None:
        """Do nothing."""


class qMRMLPlotView(StandInWidget, QtWidgets.QWidget):
    """A plot view, with VTK's own chart in it."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._chart = vtk.vtkChartXY()

    def chart(self) -> Any:
        return self._chart


class qMRMLTableView(StandInWidget, QtWidgets.QTableView):
    """Shows the texts of a table view's table, and tells when the selection changes."""

    SIGNALS = ("selectionChanged()",)

    def __init__(self, view_node: Any) -> None:
        super().__init__()
        self._view_node = view_node
        self._model = QtGui.QStandardItemModel(self)
        self._sorted = QtCore.QSortFilterProxyModel(self)
        self._sorted.setSourceModel(self._model)
        self.setModel(self._sorted)
        self._tag = view_node.AddObserver("ModifiedEvent", self._fill)
        self._fill()

    def sortFilterProxyModel(self) -> Any:
        return self._sorted

    def mrmlTableNode(self) -> Any:
        return self._view_node.GetTableNode()

    def selectionChanged(self, selected: Any, deselected: Any) -> None:
        super().selectionChanged(selected, deselected)
        self._emit("selectionChanged()")

    def _fill(self, *_: Any) -> None:
        table = self._view_node.GetTableNode()
        self._model.clear()
        for row in range(table.GetNumberOfRows() if table else 0):
            columns = range(table.GetNumberOfColumns())
            self._model.appendRow([_item(table.GetCellText(row, column)) for column in columns])


def _item(text: str) -> QtGui.QStandardItem:
    return QtGui.QStandardItem(text)
