"""The panel's list of models: searched by words, sorted by its headings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from MedPTQSlicerLib import modelDetails
from MedPTQSlicerLib.modelState import ModelState

if TYPE_CHECKING:
    import ctk
    import qt

_FEWEST_ROWS, _MOST_ROWS = 3, 8  # that are seen at once
_WIDEST_COLUMNS = (240, 170)  # in pixels: the model and its state
_WIDEST_COLUMN = 150  # of the others
_HEADING_HEIGHT, _ROW_HEIGHT = 46, 18  # in pixels; with the scroll bar
_ID_ROLE = 256  # Qt::UserRole


class ModelList:
    """Lists models, and tells which one the user chooses.

    Args:
        tree: The list; it has the columns of :func:`MedPTQSlicerLib.modelDetails.columns`.
        search: Where the user types what to look for.
        chosen: Called with the id of the model that the user chooses.
    """

    def __init__(
        self, tree: qt.QTreeWidget, search: ctk.ctkSearchBox, chosen: Callable[[str], None]
    ) -> None:
        import qt

        self._tree = tree
        self._search = search
        self._chosen = chosen
        self._models: Sequence[ModelState] = ()
        self._items: dict[str, qt.QTreeWidgetItem] = {}
        self._chosenId: str | None = None
        self._isFilling = False
        header = tree.header()
        header.setSectionsClickable(True)
        header.setSortIndicatorShown(True)
        header.setSortIndicator(-1, qt.Qt.AscendingOrder)  # until a heading is clicked
        header.connect("sectionClicked(int)", self._onHeading)
        search.connect("textChanged(QString)", self._onSearch)
        tree.connect("itemSelectionChanged()", self._onSelected)

    def show(self, models: Sequence[ModelState], chosenId: str | None) -> None:
        """List models, if they are others, and mark the one that is chosen.

        Args:
            models: The models.
            chosenId: The id of one of them, or None.
        """
        self._chosenId = chosenId
        if models is not self._models:
            self._models = models
            self._fill()
            self._layOut()
        self._mark()

    def _fill(self) -> None:
        import qt

        self._isFilling = True
        self._tree.clear()
        self._items = {}
        for model in self._sorted():
            item = qt.QTreeWidgetItem()
            for column, text in enumerate(modelDetails.columns(model)):
                item.setText(column, text)
                item.setToolTip(column, modelDetails.tip(model, text))
            for column in (modelDetails.CLASSES, modelDetails.SIZE):
                item.setTextAlignment(column, qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            item.setData(0, _ID_ROLE, model.id)
            self._tree.addTopLevelItem(item)
            self._items[model.id] = item
        self._isFilling = False
        self._onSearch()

    def _sorted(self) -> Sequence[ModelState]:
        """Return the models by the heading that was clicked last, else as they were given.

        Qt itself would sort numbers as the texts that they are shown as.
        """
        import qt

        header = self._tree.header()
        column = header.sortIndicatorSection()
        if column < 0:
            return self._models
        isDescending = header.sortIndicatorOrder() == qt.Qt.DescendingOrder
        return sorted(
            self._models,
            key=lambda model: modelDetails.sortKey(model, column),
            reverse=isDescending,
        )

    def _layOut(self) -> None:
        """Make each column as wide, and the list as high, as what is in it, within reason."""
        tree = self._tree
        for column in range(tree.columnCount):
            isWide = column < len(_WIDEST_COLUMNS)
            widest = _WIDEST_COLUMNS[column] if isWide else _WIDEST_COLUMN
            tree.resizeColumnToContents(column)
            tree.setColumnWidth(column, min(tree.columnWidth(column), widest))
        rows = min(max(len(self._models), _FEWEST_ROWS), _MOST_ROWS)
        # Not fixed: Qt may keep a height for the section that is too small for the text below the
        # list, and the two would lie over each other.
        tree.setMaximumHeight(_HEADING_HEIGHT + rows * _ROW_HEIGHT)

    def _mark(self) -> None:
        self._isFilling = True
        if self._chosenId is not None:
            self._tree.setCurrentItem(self._items[self._chosenId])
        else:
            self._tree.clearSelection()
        self._isFilling = False

    def _onHeading(self, *_: object) -> None:
        self._fill()
        self._mark()

    def _onSearch(self, *_: object) -> None:
        words = self._search.text.lower().split()
        for model in self._models:
            text = modelDetails.searchText(model)
            self._items[model.id].setHidden(not all(word in text for word in words))

    def _onSelected(self) -> None:
        items = self._tree.selectedItems()
        if items and not self._isFilling:
            self._chosen(items[0].data(0, _ID_ROLE))
