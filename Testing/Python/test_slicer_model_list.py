"""The panel's list of models: its headings, and what the mouse is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medptq.evaluate import formats
from slicer_panel import (  # noqa: F401 - fixtures
    Panel,
    data,
    libraries,
    panel,
    slicer_worker,
)

MODEL, STATE, CLASSES, SIZE = 0, 1, 4, 5
UNITS = {"kB": 1e-3, "MB": 1.0, "GB": 1e3}


@pytest.fixture
def listed(panel: Panel, tmp_path: Path) -> Panel:  # noqa: F811
    """The panel as it is seen once the models are listed."""
    panel.choose_model("deepbet")
    panel.picture(tmp_path / "panel.png")
    return panel


def column(panel: Panel, number: int) -> list[str]:  # noqa: F811
    """Return what one of the columns shows, from top to bottom."""
    tree = panel.ui.modelList
    items = [tree.topLevelItem(index) for index in range(tree.topLevelItemCount)]
    return [item.text(number) for item in items if not item.isHidden()]


def click_heading(panel: Panel, number: int) -> None:  # noqa: F811
    from PySide6 import QtCore, QtTest

    from StandIn import pythonqt

    tree = pythonqt.unwrap(panel.ui.modelList)
    header, bar = tree.header(), tree.horizontalScrollBar()
    bar.setValue(bar.maximum() if number > STATE else 0)
    panel.gui.process()
    place = QtCore.QPoint(header.sectionViewportPosition(number) + 20, 5)
    left, none = QtCore.Qt.MouseButton.LeftButton, QtCore.Qt.KeyboardModifier.NoModifier
    QtTest.QTest.mouseClick(header.viewport(), left, none, place)
    panel.gui.process()


def megabytes(text: str) -> float:
    number, _, unit = text.partition(" ")
    return -1 if text == formats.NONE else float(number) * UNITS[unit]


def test_sizes_are_sorted_as_numbers(listed: Panel) -> None:
    shown = column(listed, SIZE)
    assert {formats.NONE, "10 MB"} < set(shown)
    assert any(text.endswith("kB") for text in shown)
    click_heading(listed, SIZE)
    assert column(listed, SIZE) == sorted(shown, key=megabytes)
    click_heading(listed, SIZE)
    assert column(listed, SIZE) == sorted(shown, key=megabytes, reverse=True)


def test_classes_are_sorted_as_numbers(listed: Panel) -> None:
    shown = column(listed, CLASSES)
    assert sorted(shown) != sorted(shown, key=int)  # else this would prove nothing
    click_heading(listed, CLASSES)
    assert column(listed, CLASSES) == sorted(shown, key=int)


def test_texts_are_sorted_without_regard_to_their_case(listed: Panel) -> None:
    shown = column(listed, MODEL)
    assert shown != sorted(shown, key=str.casefold) != sorted(shown)
    click_heading(listed, MODEL)
    assert column(listed, MODEL) == sorted(shown, key=str.casefold)


def test_sorting_changes_neither_the_choice_nor_what_was_looked_for(listed: Panel) -> None:
    listed.ui.modelSearch.text = "brain"
    found = column(listed, MODEL)
    assert 1 < len(found) < len(listed.ui.modelList.findItems("", _contains()))
    click_heading(listed, MODEL)
    click_heading(listed, MODEL)
    assert column(listed, MODEL) == sorted(found, key=str.casefold, reverse=True)
    assert [item.text(MODEL) for item in listed.ui.modelList.selectedItems()] == ["deepbet"]
    assert listed.state.modelId == "deepbet"


def test_a_new_list_is_sorted_like_the_one_before(listed: Panel) -> None:
    from MedPTQSlicerLib.background import background

    click_heading(listed, CLASSES)
    before = column(listed, MODEL)
    listed.widget.exit()
    listed.widget.enter()  # it is listed anew
    assert background().jobs
    listed.until(lambda: not background().jobs)
    assert column(listed, MODEL) == before


def test_what_is_cut_off_is_in_the_tooltip(listed: Panel) -> None:
    tree = listed.ui.modelList
    for index in range(tree.topLevelItemCount):
        item = tree.topLevelItem(index)
        for number in range(tree.columnCount):
            assert item.toolTip(number).startswith(item.text(number))
        is_untried = "untried" in item.text(STATE)
        assert ("Not tried by us: " in item.toolTip(STATE)) == is_untried


def test_name_and_state_are_seen_in_a_panel_of_the_usual_width(listed: Panel) -> None:
    tree = listed.ui.modelList
    for number in (MODEL, STATE):
        given = tree.columnWidth(number)
        tree.resizeColumnToContents(number)
        assert tree.columnWidth(number) == given  # nothing is cut off
    seen = tree.width - tree.verticalScrollBar().width - 2 * tree.frameWidth
    margin = 3  # to the right of the text
    assert tree.columnWidth(MODEL) + tree.columnWidth(STATE) - margin <= seen


def _contains() -> Any:
    import qt

    return qt.Qt.MatchContains
