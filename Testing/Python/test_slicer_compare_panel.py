"""The panel's compare section and its layout, as a person uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MedPTQSlicerLib.compareLayout import Arrangement
from slicer_comparison import PanelWithComparison, compared, label_maps  # noqa: F401 - fixtures
from slicer_gui import Gui, QtWidgets

FOUR_UP = 3
FP32, INT8, DIFFERENCES = "Two organs FP32", "Two organs INT8", "Where FP32 and INT8 differ"


def test_one_click_shows_both(compared: PanelWithComparison) -> None:  # noqa: F811
    import slicer

    ui = compared.ui
    assert compared.layout == Arrangement.SIDE_BY_SIDE
    assert [node.GetLayoutLabel() for node in compared.slices()] == ["FP32", "INT8"]
    assert len({node.GetLayoutColor() for node in compared.slices()}) == 2
    assert compared.seen() == {FP32: ["MedPTQ_FP32"], INT8: ["MedPTQ_INT8", "View1"]}
    for name in ("MedPTQ_FP32", "MedPTQ_INT8"):
        composite = slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == compared.volume.GetID()
        assert composite.GetLinkedControl()
    table = slicer.app.layoutManager().tableWidget(0).mrmlTableViewNode().GetTableNode()
    assert table.GetCellText(1, 0) == "Spleen"
    chart = slicer.app.layoutManager().plotWidget(0).mrmlPlotViewNode().GetPlotChartNode()
    assert chart.GetTitle() == "Network, one patch"
    assert ui.compareSummary.text.startswith("OpenVINO INT8, compared with PyTorch FP32: 5.0")
    assert ui.compareWarning.isHidden()
    rows = [ui.compareClasses.topLevelItem(row) for row in range(2)]
    assert [row.text(0) for row in rows] == ["Liver", "Spleen"]
    assert rows[0].text(3) == "0.9933"


def test_it_is_held_against_the_segmentation_that_is_chosen(gui: Gui) -> None:
    import slicer

    panel = PanelWithComparison(gui)
    by_hand = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "By hand")
    panel.state.connectGui(panel.ui)
    panel.compare()
    assert panel.reference is None
    panel.ui.compareReference.setCurrentNode(by_hand)
    panel.compare()
    assert panel.reference is by_hand
    slicer.mrmlScene.RemoveNode(by_hand)
    panel.compare()
    assert panel.reference is None
    panel.section.cleanup()


def test_the_views_begin_at_the_largest_difference(compared: PanelWithComparison) -> None:  # noqa: F811
    assert compared.place == ("1 of 2: FP32 says Liver, INT8 says nothing: 36 voxels, 101 mm³")
    for node in compared.slices():
        assert node.GetSliceOffset() == pytest.approx(_ras(5, 6, 6)[2], abs=5)


def _ras(k: int, j: int, i: int) -> Any:
    return np.array([10 - 0.75 * i, -20 + 0.75 * j, 30 + 5 * k])


def _middle(node: Any) -> Any:
    matrix = node.GetSliceToRAS()
    return np.array([matrix.GetElement(row, 3) for row in range(3)])


def test_next_and_previous_go_from_difference_to_difference(
    compared: PanelWithComparison,  # noqa: F811
) -> None:
    compared.click("compareNext")
    assert compared.place == "2 of 2: FP32 says nothing, INT8 says Spleen: 1 voxel, 2.8 mm³"
    for node in compared.slices():
        np.testing.assert_allclose(_middle(node), _ras(18, 28, 38))
    compared.click("compareNext")
    assert compared.place.startswith("1 of 2: ")
    compared.click("comparePrevious")
    assert compared.place.startswith("2 of 2: ")


def test_a_structure_is_gone_to(compared: PanelWithComparison) -> None:  # noqa: F811
    tree = compared.ui.compareClasses
    tree.setCurrentItem(tree.topLevelItem(1))
    assert compared.place == "Spleen: FP32 says nothing, INT8 says Spleen: 1 voxel, 2.8 mm³"
    np.testing.assert_allclose(_middle(compared.slices()[1]), _ras(18, 28, 38))
    compared.click("compareNext")
    assert compared.place.startswith("1 of 2: ")  # it goes on from there


def test_a_row_of_the_table_does_the_same(compared: PanelWithComparison) -> None:  # noqa: F811
    import slicer

    view = slicer.app.layoutManager().tableWidget(0).tableView()
    view.selectRow(1)
    compared.gui.process(0.02)
    assert compared.place.startswith("Spleen: ")
    compared.click("compareLeaveButton")
    view.selectRow(0)
    compared.gui.process(0.02)
    assert compared.place.startswith("Spleen: ")  # the table is the user's own again


def test_structures_can_be_hidden(compared: PanelWithComparison) -> None:  # noqa: F811
    import qt

    display = compared.result.int8Segmentation.GetDisplayNode()
    compared.ui.compareClasses.topLevelItem(0).setCheckState(0, qt.Qt.Unchecked)
    assert not display.GetSegmentVisibility("Label_1")
    assert display.GetSegmentVisibility("Label_2")
    compared.click("compareLeaveButton")
    assert display.GetSegmentVisibility("Label_1")
    compared.click("compareLeaveButton")
    assert not display.GetSegmentVisibility("Label_1")


def test_both_over_one_another(compared: PanelWithComparison) -> None:  # noqa: F811
    assert not compared.ui.compareBlink.enabled
    compared.click("compareBoth")
    assert compared.layout == Arrangement.ONE_VIEW
    assert compared.seen() == {FP32: ["MedPTQ_FP32"], INT8: ["MedPTQ_FP32", "View1"]}
    drawn = [
        (display.GetVisibility2DFill(), display.GetVisibility2DOutline())
        for display in (
            compared.result.fp32Segmentation.GetDisplayNode(),
            compared.result.int8Segmentation.GetDisplayNode(),
        )
    ]
    assert drawn == [(False, True), (True, False)]
    assert "FP32 (outline) and INT8" in compared.slices()[0].GetLayoutLabel()


def test_only_what_differs(compared: PanelWithComparison) -> None:  # noqa: F811
    assert compared.ui.compareLegend.isHidden()
    compared.click("compareDisagreement")
    assert compared.seen() == {FP32: ["View1"], DIFFERENCES: ["MedPTQ_FP32", "View1"]}
    assert not compared.ui.compareLegend.isHidden()
    compared.click("compareSideBySide")
    assert compared.seen() == {FP32: ["MedPTQ_FP32"], INT8: ["MedPTQ_INT8", "View1"]}
    assert [node.GetLayoutLabel() for node in compared.slices()] == ["FP32", "INT8"]


def test_blinking_shows_one_after_the_other(compared: PanelWithComparison) -> None:  # noqa: F811
    compared.click("compareBoth")
    compared.click("compareBlink")
    for label in ("FP32", "INT8", "FP32"):
        compared.gui.waitUntil(lambda label=label: _alone(compared) == label)
    compared.section.exit()
    assert len(compared.seen()) == 2
    compared.gui.process(0.8)
    assert len(compared.seen()) == 2
    compared.section.enter()
    compared.gui.waitUntil(lambda: _alone(compared) == "INT8")
    compared.click("compareDisagreement")
    compared.gui.process(0.8)
    assert DIFFERENCES in compared.seen()


def _alone(panel: PanelWithComparison) -> str:
    label = str(panel.slices()[0].GetLayoutLabel())
    return label if list(panel.seen()) == [f"Two organs {label}"] else ""


def test_surfaces_come_and_go(compared: PanelWithComparison) -> None:  # noqa: F811
    fp32, int8 = (
        node.GetSegmentation()
        for node in (compared.result.fp32Segmentation, compared.result.int8Segmentation)
    )
    compared.gui.waitUntil(lambda: int8.ContainsRepresentation("Closed surface"))
    assert not fp32.ContainsRepresentation("Closed surface")
    compared.click("compareDisagreement")
    compared.gui.waitUntil(lambda: fp32.ContainsRepresentation("Closed surface"))
    compared.click("compareLeaveButton")
    compared.gui.process(0.05)
    for segmentation in (fp32, int8):
        assert not segmentation.ContainsRepresentation("Closed surface")


def test_charts_are_chosen(compared: PanelWithComparison) -> None:  # noqa: F811
    import slicer

    chart = compared.ui.compareChart
    titles = [chart.itemText(index) for index in range(chart.count)]
    assert titles == ["Network, one patch", "Whole scan", "Size on the disk", "Peak memory"]
    chart.setCurrentIndex(2)
    compared.section._onChart(2)  # the user's choice, which Qt tells apart from a program's
    plot = slicer.app.layoutManager().plotWidget(0).mrmlPlotViewNode()
    assert plot.GetPlotChartNode().GetTitle() == "Size on the disk"
    compared.click("compareLeaveButton")
    assert plot.GetPlotChartNode() is None
    compared.click("compareLeaveButton")
    assert plot.GetPlotChartNode().GetTitle() == "Size on the disk"


def test_leaving_brings_all_back(gui: Gui) -> None:
    import slicer

    panel = PanelWithComparison(gui)
    mine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    mine.CreateDefaultDisplayNodes()
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
    red = slicer.app.layoutManager().sliceWidget("Red")
    offset, links = red.mrmlSliceNode().GetSliceOffset(), red.mrmlSliceCompositeNode()
    panel.compare()
    assert "Mine" not in panel.seen()
    assert panel.ui.compareLeaveButton.text == "Leave comparison"
    panel.click("compareNext")
    panel.click("compareDisagreement")
    panel.click("compareLeaveButton")
    assert panel.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
    assert panel.seen() == {FP32: [], INT8: [], "Mine": []}
    assert red.mrmlSliceNode().GetSliceOffset() == offset
    assert not links.GetLinkedControl()
    assert panel.ui.compareLeaveButton.text == "Show comparison"
    panel.click("compareLeaveButton")
    assert panel.layout == Arrangement.ONE_VIEW
    assert DIFFERENCES in panel.seen()
    panel.section.cleanup()
    assert panel.seen() == {FP32: [], INT8: [], "Mine": []}


def test_a_layout_that_the_user_chooses_leaves_the_comparison(
    compared: PanelWithComparison,  # noqa: F811
) -> None:
    import slicer

    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView)
    assert compared.seen() == {FP32: [], INT8: []}
    assert compared.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView
    assert compared.ui.compareLeaveButton.text == "Show comparison"


@pytest.mark.parametrize("which", ["volumeNode", "fp32Segmentation", "int8Segmentation"])
def test_a_node_that_is_deleted_ends_it(compared: PanelWithComparison, which: str) -> None:  # noqa: F811
    import slicer

    compared.result.volumeNode.SetName("renamed")
    slicer.mrmlScene.RemoveNode(getattr(compared.result, which))
    compared.gui.process(0.05)
    assert compared.layout == FOUR_UP
    assert set(map(tuple, compared.seen().values())) == {()}
    compared.click("compareLeaveButton")
    what = {"volumeNode": "volume", "fp32Segmentation": "FP32", "int8Segmentation": "INT8"}[which]
    shown = slicer.util.childWidgetVariables(compared.ui.compareProgress)
    assert shown.jobWhat.text == "The comparison cannot be shown"
    assert what in shown.jobWhy.text
    assert compared.layout == FOUR_UP


def test_a_scene_that_is_closed_ends_it(compared: PanelWithComparison) -> None:  # noqa: F811
    import slicer

    folder = compared.result.folder.path
    compared.click("compareBoth")
    compared.click("compareBlink")
    compared.section.setParameterNode(None)
    slicer.mrmlScene.Clear(False)
    compared.gui.process(0.5)
    assert compared.layout == FOUR_UP
    compared.section.setParameterNode(None)
    compared.section.enter()
    assert compared.result is None
    assert compared.ui.compareResults.isHidden()
    assert not folder.exists()


def test_a_second_comparison_takes_the_place_of_the_first(compared: PanelWithComparison) -> None:  # noqa: F811
    import slicer

    folder = compared.result.folder.path
    compared.labels = (label_maps()[0], label_maps()[0])
    compared.compare()
    assert compared.layout == Arrangement.SIDE_BY_SIDE
    assert compared.place == "FP32 and INT8 agree on every voxel."
    assert not compared.ui.compareNext.enabled
    assert not folder.exists()
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")) == 4
    tree = compared.ui.compareClasses
    tree.setCurrentItem(tree.topLevelItem(0))
    assert compared.place == "Liver: FP32 and INT8 agree on every voxel."
    compared.click("compareLeaveButton")
    assert compared.layout == FOUR_UP


def test_a_comparison_that_ends_while_another_module_is_open_waits(gui: Gui) -> None:
    panel = PanelWithComparison(gui)
    gui.click(panel.ui.compareButton)
    panel.section.exit()
    gui.waitUntil(lambda: panel.result is not None)
    gui.process(0.05)
    assert panel.layout == FOUR_UP
    [box] = [each for each in QtWidgets.QApplication.topLevelWidgets() if _is_box(each)]
    assert "compared" in box.text()
    box.close()
    panel.section.enter()
    assert panel.layout == Arrangement.SIDE_BY_SIDE
    panel.section.cleanup()


def _is_box(widget: QtWidgets.QWidget) -> bool:
    return isinstance(widget, QtWidgets.QMessageBox) and widget.isVisible()


def test_the_report_is_saved_and_not_over_another(
    compared: PanelWithComparison,  # noqa: F811
    tmp_path: Path,
) -> None:
    import qt

    from MedPTQSlicerLib.comparing import REPORT_FILES

    dialogs = compared.gui.dialogs
    folder = tmp_path / "é report"
    folder.mkdir()
    dialogs.answer("")
    compared.click("compareSaveReport")
    assert not list(folder.iterdir())
    dialogs.answer(str(folder))
    compared.click("compareSaveReport")
    assert {path.name for path in folder.iterdir()} == set(REPORT_FILES)
    (folder / "report.html").write_text("mine")
    dialogs.answer(str(folder), qt.QMessageBox.Cancel)
    compared.click("compareSaveReport")
    assert (folder / "report.html").read_text() == "mine"
    dialogs.answer(str(folder), qt.QMessageBox.Ok)
    compared.click("compareSaveReport")
    assert (folder / "report.html").read_text() == "This is report.html"


def test_without_a_window_the_figures_are_there(gui_without_window: Gui) -> None:
    panel = PanelWithComparison(gui_without_window)
    panel.compare()
    assert panel.ui.compareSummary.text
    assert panel.place.startswith("1 of 2: ")
    import slicer

    shown = slicer.util.childWidgetVariables(panel.ui.compareProgress)
    assert shown.jobCode.text == "output.no-views"
    panel.click("compareNext")
    assert panel.place.startswith("2 of 2: ")
    assert panel.seen() == {FP32: [], INT8: []}
    panel.section.cleanup()
