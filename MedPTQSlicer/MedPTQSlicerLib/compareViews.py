"""A comparison of FP32 and INT8 in the views, from showing it to leaving it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from medptq.errors import OutputError, ScanError
from MedPTQSlicerLib import compareSegmentations, compareWidgets
from MedPTQSlicerLib.compareLayout import CompareLayout, hasViews
from MedPTQSlicerLib.compareModes import ALONE, FP32_COLOR, INT8_COLOR, Drawn, Shown
from MedPTQSlicerLib.compareSurfaces import hasSurfaces, removeSurfaces, surfaceSteps
from MedPTQSlicerLib.comparisonTables import ComparisonNodes
from MedPTQSlicerLib.disagreement import DISAGREEMENT_LABELS, disagreementMap
from MedPTQSlicerLib.geometry import centreOf, worldPosition
from MedPTQSlicerLib.labelsToSegmentation import updateSegmentation

if TYPE_CHECKING:
    from slicer import (
        vtkMRMLScene,
        vtkMRMLSegmentationDisplayNode,
        vtkSegmentation,
    )

    from MedPTQSlicerLib.comparing import ComparisonResult

_DIFFERENCES = "Where FP32 and INT8 differ"


class CompareViews:
    """Shows one comparison, until it is left or one of its nodes goes.

    In slice views, FP32 and INT8 are side by side, over one another, or only what differs. The 3D
    view shows INT8, or what differs inside of FP32's surface.

    Args:
        scene: The scene.
        comparison: What is compared.
        tables: Its tables and charts, in the scene.
        closed: Called when the views were left without :meth:`leave`, with the reason as a
            sentence, or ``""`` if it was the user who chose another layout.
        rowChosen: Called with the row of the structures' table that the user selects.
    """

    def __init__(
        self,
        scene: vtkMRMLScene,
        comparison: ComparisonResult,
        tables: ComparisonNodes,
        closed: Callable[[str], None],
        rowChosen: Callable[[int], None],
    ) -> None:
        self._scene = scene
        self._comparison = comparison
        self._tables = tables
        self._closed = closed
        self._rowChosen = rowChosen
        self._layout = CompareLayout(scene, lambda: self._close(""))
        self._shown: Shown | None = None
        self._displays: dict[Drawn, vtkMRMLSegmentationDisplayNode] = {}
        self._surfaced: list[vtkSegmentation] = []
        self._observations: list[int] = []
        self._putBack: list[Callable[[], None]] = []
        self._isCentred = False

    @property
    def isShown(self) -> bool:
        """Whether the comparison is in the views."""
        return self._layout.isShown

    def show(self, shown: Shown) -> None:
        """Show the comparison, or show it in another way.

        Raises:
            OutputError: ``no-views`` - there are none, as Slicer runs without its main window.
            ScanError: ``deleted`` - the volume or a segmentation is no longer in the scene;
                ``changed`` - the volume has other voxels now.
        """
        self._require()
        try:
            self._showNow(shown)
        except Exception:
            self.leave()  # half of it would be worse than nothing
            raise

    def _showNow(self, shown: Shown) -> None:
        isFirst = not self.isShown
        self._shown = shown
        self._layout.show(shown.value.arrangement)
        if isFirst:
            self._displays = {
                "fp32": compareSegmentations.displayOf(self._comparison.fp32Segmentation),
                "int8": compareSegmentations.displayOf(self._comparison.int8Segmentation),
            }
            compareSegmentations.hideAll(self._scene)
            self._observe()
            self._showTables()
        for compositeNode in self._layout.compositeNodes():
            compositeNode.SetBackgroundVolumeID(self._comparison.volumeNode.GetID())
            compositeNode.SetForegroundVolumeID(None)
            compositeNode.SetLabelVolumeID(None)
        if shown is Shown.DISAGREEMENT and "differences" not in self._displays:
            self._displays["differences"] = self._addDifferences()
        self._draw(shown)
        if isFirst:
            self.fit()

    def showAlone(self, precision: Literal["fp32", "int8"]) -> None:
        """Show ``"fp32"`` or ``"int8"`` alone in the one view, as when the two blink.

        Call :meth:`show` to go back.
        """
        sliceNodes, threeD = self._layout.sliceNodes(), self._layout.threeDNode()
        for name, displayNode in self._displays.items():
            if name == precision:
                compareSegmentations.draw(displayNode, [sliceNodes[0], threeD], ALONE)
            else:
                displayNode.SetVisibility(False)
        isFp32 = precision == "fp32"
        sliceNodes[0].SetLayoutLabel(precision.upper())
        sliceNodes[0].SetLayoutColor(*(FP32_COLOR if isFp32 else INT8_COLOR))

    def showChart(self, index: int) -> None:
        """Show one of :attr:`ComparisonNodes.charts`."""
        chart = self._tables.charts[index]
        if self.isShown and self._scene.GetNodeByID(chart.GetID()) is not None:
            self._layout.plotNode().SetPlotChartNodeID(chart.GetID())

    def setVisible(self, segmentId: str, isVisible: bool) -> None:
        """Show or hide one structure in FP32 and in INT8."""
        for name, displayNode in self._displays.items():
            if name != "differences":
                displayNode.SetSegmentVisibility(segmentId, isVisible)

    def fit(self) -> None:
        """Show the whole volume in the slice views.

        Once the views are shown for the first time, do it again when Qt has had its turn: a slice
        view that has just been made then goes to the origin of the world.
        """
        for sliceNode in self._layout.sliceNodes():
            sliceNode.JumpSliceByCentering(*centreOf(self._comparison.volumeNode))
        compareWidgets.fitSlices(self._layout.sliceNodes())

    def goTo(self, kji: tuple[int, int, int], *, isCentred: bool) -> None:
        """Move the slice views to a voxel.

        Args:
            kji: Index of the voxel, (k, j, i).
            isCentred: Whether to bring it into the middle; if not, only its slice is shown.
        """
        position = worldPosition(self._comparison.volumeNode, kji)
        for sliceNode in self._layout.sliceNodes():
            if isCentred:
                sliceNode.JumpSliceByCentering(*position)
            else:
                sliceNode.JumpSliceByOffsetting(*position)

    def surfaceSteps(self) -> Iterator[None]:
        """Make the surfaces that the 3D view lacks, pausing after each structure.

        Go on only as long as the views are shown in the same way.
        """
        for name in () if self._shown is None else self._shown.value.surfaces:
            node = name in self._displays and self._displays[name].GetDisplayableNode()
            segmentation = node.GetSegmentation() if node else None
            if segmentation is not None and not hasSurfaces(segmentation):
                self._surfaced.append(segmentation)
                yield from surfaceSteps(segmentation)
        if not self._isCentred:
            self._isCentred = True
            compareWidgets.centre3D(self._layout.threeDNode(), self._comparison.fp32Segmentation)

    def leave(self) -> None:
        """Bring back the layout and all else that was shown before."""
        if not self.isShown:
            return
        for segmentation in self._surfaced:
            removeSurfaces(segmentation)
        compareSegmentations.restore(self._scene)
        self._letGo()

    def _letGo(self) -> None:
        """Leave the views as they were, whatever becomes of the scene's data."""
        for putBack in self._putBack:
            putBack()
        for tag in self._observations:
            self._scene.RemoveObserver(tag)
        self._layout.leave()
        self._shown, self._isCentred = None, False
        self._displays, self._surfaced = {}, []
        self._observations, self._putBack = [], []

    def _close(self, reason: str) -> None:
        self.leave()
        self._closed(reason)

    def _require(self) -> None:
        """Make sure that there is something to show, and something to show it in."""
        if not hasViews(self._scene):
            raise OutputError(
                "no-views",
                "The comparison was not shown",
                why="Slicer runs without its main window",
                todo="Save the report, or start Slicer with its window",
            )
        missing = self._missing()
        if missing:
            raise ScanError(
                "deleted",
                "The comparison cannot be shown",
                why=f"{missing} is no longer in the scene",
                todo="Compare again",
            )

    def _missing(self) -> str:
        """Return which of the comparison's nodes is not in the scene; ``""`` if all are."""
        nodes = {
            "the volume": self._comparison.volumeNode,
            "the FP32 segmentation": self._comparison.fp32Segmentation,
            "the INT8 segmentation": self._comparison.int8Segmentation,
        }
        return next((what for what, node in nodes.items() if node.GetScene() is None), "")

    def _draw(self, shown: Shown) -> None:
        """Draw each segmentation where it belongs."""
        sliceNodes = self._layout.sliceNodes()
        first, last = sliceNodes[0], sliceNodes[-1]
        views = {"first": first, "last": last, "3D": self._layout.threeDNode()}
        for name, displayNode in self._displays.items():
            if name in shown.value.drawn:
                where, style = shown.value.drawn[name]
                compareSegmentations.draw(displayNode, [views[view] for view in where], style)
            else:
                displayNode.SetVisibility(False)
        first.SetLayoutLabel(shown.value.label)
        first.SetLayoutColor(*shown.value.color)
        if last is not first:
            last.SetLayoutLabel("INT8")
            last.SetLayoutColor(*INT8_COLOR)
            # The user may have turned the other one while it was alone.
            last.GetSliceToRAS().DeepCopy(first.GetSliceToRAS())
            last.UpdateMatrices()

    def _addDifferences(self) -> vtkMRMLSegmentationDisplayNode:
        compared = self._comparison
        labelMap = disagreementMap(compared.fp32Labels, compared.int8Labels)
        node = compareSegmentations.addSegmentation(self._scene, _DIFFERENCES)
        updateSegmentation(node, labelMap, DISAGREEMENT_LABELS, compared.volumeNode, "comparison")
        return compareSegmentations.displayOf(node)

    def _showTables(self) -> None:
        """Show the table, and keep what was in the table and the plot view before."""
        tableNode, plotNode = self._layout.tableNode(), self._layout.plotNode()
        table, chart = tableNode.GetTableNodeID(), plotNode.GetPlotChartNodeID()
        self._putBack += [
            lambda: tableNode.SetTableNodeID(table),
            lambda: plotNode.SetPlotChartNodeID(chart),
            compareWidgets.hideBottomNumbers(plotNode),
            compareWidgets.cameraKeeper(self._layout.threeDNode()),
        ]
        tableNode.SetTableNodeID(self._tables.classTable.GetID())
        self._putBack.insert(0, compareWidgets.onRowChosen(tableNode, self._rowChosen))
        self.showChart(0)

    def _observe(self) -> None:
        import slicer

        events = slicer.vtkMRMLScene
        handlers = {
            events.NodeRemovedEvent: self._onNodeRemoved,
            events.StartCloseEvent: self._onSceneClosing,
        }
        self._observations = [
            self._scene.AddObserver(event, handler) for event, handler in handlers.items()
        ]

    def _onSceneClosing(self, *_: object) -> None:
        # The nodes go anyway; removed one by one now, they would confuse the subject hierarchy.
        self._letGo()
        self._closed("the scene was closed")

    def _onNodeRemoved(self, *_: object) -> None:
        missing = self._missing()
        if missing:
            self._close(f"{missing} was deleted")
        elif any(node.GetScene() is None for node in self._displays.values()):
            # What differs: it is made again when it is wanted.
            found = self._displays.items()
            self._displays = {name: node for name, node in found if node.GetScene() is not None}
