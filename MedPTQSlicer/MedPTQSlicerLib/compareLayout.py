"""The comparison's layout, which takes the place of the user's until it is left."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slicer import (
        vtkMRMLAbstractViewNode,
        vtkMRMLLayoutNode,
        vtkMRMLPlotViewNode,
        vtkMRMLScene,
        vtkMRMLSliceCompositeNode,
        vtkMRMLSliceNode,
        vtkMRMLTableViewNode,
        vtkMRMLViewNode,
    )


class Arrangement(IntEnum):
    """The layouts, by the numbers that Slicer knows them by; other extensions have others."""

    SIDE_BY_SIDE = 3208
    ONE_VIEW = 3209


FP32_VIEW = "MedPTQ_FP32"
INT8_VIEW = "MedPTQ_INT8"
_THREE_D_VIEW, _TABLE_VIEW, _PLOT_VIEW = "1", "TableView1", "PlotView1"

# A group of their own: they follow each other, and the user's slice views stay where they are.
_VIEW_GROUP = 3208

_SLICE_VIEW = """
<item><view class="vtkMRMLSliceNode" singletontag="{tag}">
 <property name="orientation" action="default">Axial</property>
 <property name="viewgroup" action="default">{group}</property>
</view></item>
"""
_LAYOUT = """
<layout type="vertical" split="true">
 <item splitSize="620"><layout type="horizontal">{slices}</layout></item>
 <item splitSize="380"><layout type="horizontal" split="true">
  <item splitSize="220">
   <view class="vtkMRMLViewNode" singletontag="1">
    <property name="viewlabel" action="default">1</property>
   </view>
  </item>
  <item splitSize="500"><view class="vtkMRMLTableViewNode" singletontag="TableView1"/></item>
  <item splitSize="280"><view class="vtkMRMLPlotViewNode" singletontag="PlotView1"/></item>
 </layout></item>
</layout>
"""
_SLICES_IN = {
    Arrangement.SIDE_BY_SIDE: (FP32_VIEW, INT8_VIEW),
    Arrangement.ONE_VIEW: (FP32_VIEW,),
}


class CompareLayout:
    """Puts the comparison's layout on the screen, and brings the user's back.

    Without views, as in Slicer without its main window, nothing can be shown:
    :func:`hasViews` tells.

    Args:
        scene: The scene that the views are in.
        left: Called when the user has chosen another layout; that one then stays.
    """

    def __init__(self, scene: vtkMRMLScene, left: Callable[[], None]) -> None:
        self._scene = scene
        self._left = left
        self._previous: int | None = None
        self._observation: tuple[vtkMRMLLayoutNode, int] | None = None

    @property
    def isShown(self) -> bool:
        """Whether the comparison's layout has taken the place of the user's."""
        return self._previous is not None

    def show(self, arrangement: Arrangement) -> None:
        """Show the comparison's layout, or change to its other arrangement.

        Raises:
            RuntimeError: There are no views.
        """
        layoutNode = _layoutNode(self._scene)
        if layoutNode is None:
            raise RuntimeError("Slicer has no views")
        for each in Arrangement:
            _register(layoutNode, each)
        if self._previous is None:
            self._previous = _leavable(layoutNode)
            # Where the module is missing, a scene with this layout would open without any views.
            layoutNode.SetSaveWithScene(False)
        self._forget()
        layoutNode.RemoveAllMaximizedViewNodes()
        layoutNode.SetViewArrangement(int(arrangement))
        tag = layoutNode.AddObserver("ModifiedEvent", self._onLayoutModified)
        self._observation = (layoutNode, tag)
        self._prepareSlices()

    def leave(self) -> None:
        """Bring the previous layout back, unless the user has chosen another one."""
        if self._previous is None:
            return
        self._forget()
        previous, self._previous = self._previous, None
        layoutNode = _layoutNode(self._scene)
        if layoutNode is not None:
            layoutNode.SetSaveWithScene(True)
            if layoutNode.GetViewArrangement() in list(Arrangement):
                layoutNode.RemoveAllMaximizedViewNodes()
                layoutNode.SetViewArrangement(previous)

    def sliceNodes(self) -> list[vtkMRMLSliceNode]:
        """Return FP32's and INT8's slice view. The first is the one view of ``ONE_VIEW``."""
        tags = (FP32_VIEW, INT8_VIEW)
        nodes = [self._scene.GetSingletonNode(tag, "vtkMRMLSliceNode") for tag in tags]
        return [node for node in nodes if node is not None]

    def compositeNodes(self) -> list[vtkMRMLSliceCompositeNode]:
        """Return what says which volumes the slice views show."""
        import slicer

        nodes = map(slicer.vtkMRMLSliceLogic.GetSliceCompositeNode, self.sliceNodes())
        return [node for node in nodes if node is not None]

    def threeDNode(self) -> vtkMRMLViewNode:
        """Return the 3D view."""
        return self._viewNode(_THREE_D_VIEW, "vtkMRMLViewNode")

    def tableNode(self) -> vtkMRMLTableViewNode:
        """Return the table view."""
        return self._viewNode(_TABLE_VIEW, "vtkMRMLTableViewNode")

    def plotNode(self) -> vtkMRMLPlotViewNode:
        """Return the plot view."""
        return self._viewNode(_PLOT_VIEW, "vtkMRMLPlotViewNode")

    def _viewNode(self, tag: str, className: str) -> vtkMRMLAbstractViewNode:
        return self._scene.GetSingletonNode(tag, className)

    def _prepareSlices(self) -> None:
        """Link the slice views, and keep them out of the scene's file."""
        for node in (*self.sliceNodes(), *self.compositeNodes()):
            node.SetSaveWithScene(False)
        for compositeNode in self.compositeNodes():
            compositeNode.SetLinkedControl(True)
            compositeNode.SetHotLinkedControl(True)

    def _onLayoutModified(self, layoutNode: vtkMRMLLayoutNode, _event: str) -> None:
        import slicer

        # Slicer hides all views for a moment as it closes a scene; and until 5.6 a double click
        # on a view made it a layout of its own.
        passing = (layoutNode.SlicerLayoutNone, slicer.vtkMRMLLayoutNode.SlicerLayoutMaximizedView)
        if layoutNode.GetViewArrangement() not in (*Arrangement, *passing):
            self._left()

    def _forget(self) -> None:
        if self._observation is not None:
            layoutNode, tag = self._observation
            layoutNode.RemoveObserver(tag)
            self._observation = None


def hasViews(scene: vtkMRMLScene) -> bool:
    """Tell whether there are views to show something in: not so without a main window."""
    return _layoutNode(scene) is not None


def _layoutNode(scene: vtkMRMLScene) -> vtkMRMLLayoutNode | None:
    return scene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def _leavable(layoutNode: vtkMRMLLayoutNode) -> int:
    """Return the layout that is shown, or Slicer's own first one where it is the comparison's."""
    arrangement: int = layoutNode.GetViewArrangement()
    isTheComparisons = arrangement in list(Arrangement)
    return layoutNode.SlicerLayoutFourUpView if isTheComparisons else arrangement


def _register(layoutNode: vtkMRMLLayoutNode, arrangement: Arrangement) -> None:
    slices = "".join(
        _SLICE_VIEW.format(tag=tag, group=_VIEW_GROUP) for tag in _SLICES_IN[arrangement]
    )
    description = _LAYOUT.format(slices=slices)
    # Adding does nothing where there is one, such as that of a version before the module's reload.
    if layoutNode.IsLayoutDescription(int(arrangement)):
        layoutNode.SetLayoutDescription(int(arrangement), description)
    else:
        layoutNode.AddLayoutDescription(int(arrangement), description)
