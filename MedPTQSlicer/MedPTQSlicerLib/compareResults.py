"""What the panel lists of a comparison: its structures, and the places that differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medptq.evaluate import formats
from medptq.models.card import labels_of
from medptq.models.segmentation_model import Label
from MedPTQSlicerLib.compareText import LEGEND, labelNames, placeText, summaryText, warningText
from MedPTQSlicerLib.comparisonFigures import ClassFigures, classFigures
from MedPTQSlicerLib.disagreement import (
    MOST_DISAGREEMENTS,
    Disagreement,
    findDisagreements,
)
from MedPTQSlicerLib.labelsToSegmentation import segmentIdOf

if TYPE_CHECKING:
    import qt

    from MedPTQSlicerLib.comparing import ComparisonResult

_MOST_ROWS = 8


class CompareResults:
    """Fills the summary, the list of structures, and the row with *Previous* and *Next*.

    Args:
        ui: The panel's widgets.
        goTo: Called with the voxel (k, j, i) of a place to show, and whether to bring it into the
            middle of the views rather than only its slice into view.
        setVisible: Called with a segment's ID, and whether the user wants to see it.
    """

    def __init__(
        self,
        ui: Any,
        goTo: Callable[[tuple[int, int, int], bool], None],
        setVisible: Callable[[str, bool], None],
    ) -> None:
        self._ui = ui
        self._goTo = goTo
        self._setVisible = setVisible
        self._result: ComparisonResult | None = None
        self._classes: Sequence[ClassFigures] = ()
        self._names: Mapping[int, str] = {}
        self._places: Sequence[Disagreement] = ()
        self._index = 0
        self._isFilling = False
        ui.compareLegend.setText(LEGEND)
        self._layOutColumns()
        ui.compareClasses.connect("itemSelectionChanged()", self._onSelected)
        ui.compareClasses.connect("itemChanged(QTreeWidgetItem*,int)", self._onChanged)
        ui.comparePrevious.connect("clicked(bool)", lambda *_: self._step(-1))
        ui.compareNext.connect("clicked(bool)", lambda *_: self._step(1))

    def fill(self, result: ComparisonResult) -> None:
        """List what was compared."""
        self._result = result
        self._classes = classFigures(result.report)
        labels = labels_of(result.card)
        self._names = labelNames(labels)
        self._places = findDisagreements(result.fp32Labels, result.int8Labels)
        self._index = 0
        self._ui.compareSummary.setText(summaryText(result.report))
        warning = warningText(result.report)
        self._ui.compareWarning.setText(warning)
        self._ui.compareWarning.setVisible(bool(warning))
        self._fillClasses(labels)
        for button in (self._ui.comparePrevious, self._ui.compareNext):
            button.setEnabled(len(self._places) > 1)
        self._showPlaceText()

    def clear(self) -> None:
        """Forget what was compared."""
        self._isFilling = True
        self._ui.compareClasses.clear()
        self._isFilling = False
        self._result = None
        self._classes, self._places = (), ()

    def showAgain(self) -> None:
        """Go to the place that was shown last, at first the largest, and hide what is hidden."""
        if self._places:
            self._goTo(self._places[self._index].centre, False)
        for row in range(self._ui.compareClasses.topLevelItemCount):
            self._onChanged(self._ui.compareClasses.topLevelItem(row), 0)

    def chooseRow(self, row: int) -> None:
        """Choose a structure by its row in the structures' table."""
        item = self._ui.compareClasses.topLevelItem(row)
        if item is not None:
            self._ui.compareClasses.clearSelection()  # or nothing changes at a second click
            self._ui.compareClasses.setCurrentItem(item)

    def _layOutColumns(self) -> None:
        import qt

        header = self._ui.compareClasses.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2, 3):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)

    def _fillClasses(self, labels: Sequence[Label]) -> None:
        import qt

        tree = self._ui.compareClasses
        colors = {label.value: label.color for label in labels}
        self._isFilling = True
        tree.clear()
        for figures in self._classes:
            item = qt.QTreeWidgetItem(tree)
            item.setText(0, figures.name)
            color = colors.get(self._valueOf(figures.name) or 0)
            if color is not None:
                item.setData(0, qt.Qt.DecorationRole, qt.QColor(*color))
            item.setText(1, formats.millilitres(figures.fp32Ml))
            item.setText(2, formats.millilitres(figures.int8Ml))
            item.setText(3, formats.share(figures.dice))
            for column in (1, 2, 3):
                item.setTextAlignment(column, qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            isVisible = self._isVisible(figures)
            item.setCheckState(0, qt.Qt.Checked if isVisible else qt.Qt.Unchecked)
            item.setToolTip(0, "Unchecked, it is hidden in the comparison")
        tree.setFixedHeight(_heightOf(tree, len(self._classes)))
        self._isFilling = False

    def _isVisible(self, figures: ClassFigures) -> bool:
        value = self._valueOf(figures.name)
        if value is None or self._result is None:
            return True
        displayNode = self._result.fp32Segmentation.GetDisplayNode()
        return displayNode is None or bool(displayNode.GetSegmentVisibility(segmentIdOf(value)))

    def _onChanged(self, item: qt.QTreeWidgetItem, column: int) -> None:
        import qt

        value = self._valueOf(item.text(0))
        if not self._isFilling and column == 0 and value is not None:
            self._setVisible(segmentIdOf(value), item.checkState(0) == qt.Qt.Checked)

    def _onSelected(self) -> None:
        items = self._ui.compareClasses.selectedItems()
        if items and not self._isFilling:
            self._goToClass(self._classes[self._ui.compareClasses.indexOfTopLevelItem(items[0])])

    def _goToClass(self, figures: ClassFigures) -> None:
        result, centre = self._result, figures.largestCentre
        if result is None:
            return
        if centre is None:
            isFound = figures.fp32Ml is not None or figures.int8Ml is not None
            what = "FP32 and INT8 agree on every voxel" if isFound else "neither has found it"
            self._ui.comparePlace.setText(f"{figures.name}: {what}.")
            return
        place = Disagreement(
            voxels=round((figures.largestMm3 or 0) / math.prod(result.report["scan_spacing"])),
            centre=centre,
            fp32=int(result.fp32Labels[centre]),
            int8=int(result.int8Labels[centre]),
        )
        same = [index for index, each in enumerate(self._places) if each.centre == centre]
        self._index = same[0] if same else self._index
        text = placeText(place, self._names, result.report)
        self._ui.comparePlace.setText(f"{figures.name}: {text}")
        self._goTo(centre, True)

    def _step(self, by: int) -> None:
        if self._places:
            self._index = (self._index + by) % len(self._places)
            self._showPlaceText()
            self._goTo(self._places[self._index].centre, True)

    def _showPlaceText(self) -> None:
        if self._result is None or not self._places:
            self._ui.comparePlace.setText("FP32 and INT8 agree on every voxel.")
            return
        text = placeText(self._places[self._index], self._names, self._result.report)
        count = len(self._places)
        of = f"the {count} largest" if count == MOST_DISAGREEMENTS else str(count)
        self._ui.comparePlace.setText(f"{self._index + 1} of {of}: {text}")

    def _valueOf(self, name: str) -> int | None:
        """Return the label of a structure of the report, which calls those without a name by it."""
        found = [value for value, each in self._names.items() if each == name]
        return found[0] if found else int(name) if name.isdecimal() else None


def _heightOf(tree: qt.QTreeWidget, rows: int) -> int:
    """Return the height that a list needs for its rows, at most as many as fit beside the rest."""
    row: int = max(tree.sizeHintForRow(0), 1)
    around = int(tree.header().height + 2 * tree.frameWidth)
    return around + min(max(rows, 1), _MOST_ROWS) * row
