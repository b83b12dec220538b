"""The widgets of the comparison's views: what cannot be done through their nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from slicer import (
        vtkMRMLCameraNode,
        vtkMRMLPlotViewNode,
        vtkMRMLSegmentationNode,
        vtkMRMLSliceNode,
        vtkMRMLTableViewNode,
        vtkMRMLViewNode,
    )

_SPHERE_SHOWN = 0.8  # of the sphere around the segmentation, whose corners are empty


def fitSlices(sliceNodes: Iterable[vtkMRMLSliceNode]) -> None:
    """Fit the volume into slice views."""
    import slicer

    layoutManager = slicer.app.layoutManager()
    for sliceNode in sliceNodes:
        widget = layoutManager.sliceWidget(sliceNode.GetLayoutName())
        widget.sliceLogic().FitSliceToBackground()


def centre3D(viewNode: vtkMRMLViewNode, segmentationNode: vtkMRMLSegmentationNode) -> None:
    """Turn a 3D view's camera to a segmentation, which then fills the view."""
    import slicer

    camera = _cameraOf(viewNode)
    direction = np.subtract(camera.GetPosition(), camera.GetFocalPoint())
    direction /= np.linalg.norm(direction)
    # This moves the box around the scene too, which is why it is called.
    slicer.app.layoutManager().viewWidget(viewNode).threeDView().resetFocalPoint()
    bounds = [0.0] * 6
    segmentationNode.GetRASBounds(bounds)
    low, high = np.array(bounds[::2]), np.array(bounds[1::2])
    if (low < high).all():
        # Slicer's own resetCamera leaves room for a box around the scene, and for its letters.
        halfAngle = np.radians(camera.GetCamera().GetViewAngle()) / 2
        distance = _SPHERE_SHOWN * np.linalg.norm(high - low) / 2 / np.sin(halfAngle)
        centre = (low + high) / 2
        camera.SetFocalPoint(*centre)
        camera.SetPosition(*(centre + distance * direction))
        camera.ResetClippingRange()


def hideBottomNumbers(viewNode: vtkMRMLPlotViewNode) -> Callable[[], None]:
    """Hide the numbers below a plot, and return a function that shows them again.

    Below bars, they mean nothing, and charts have no setting for them.
    """
    import slicer
    import vtk

    chart = slicer.app.layoutManager().viewWidget(viewNode).plotView().chart()
    axis = chart.GetAxis(vtk.vtkAxis.BOTTOM)
    axis.SetLabelsVisible(False)
    axis.SetTicksVisible(False)

    def putBack() -> None:
        axis.SetLabelsVisible(True)
        axis.SetTicksVisible(True)

    return putBack


def onRowChosen(
    viewNode: vtkMRMLTableViewNode, chosen: Callable[[int], None]
) -> Callable[[], None]:
    """Call a function with the row that the user selects in a table view, until told to stop.

    Returns:
        A function that stops it.
    """
    import slicer

    view = slicer.app.layoutManager().viewWidget(viewNode).tableView()

    def onSelection() -> None:
        indexes = view.selectionModel().selectedIndexes  # a property, in PythonQt
        if indexes:
            chosen(view.sortFilterProxyModel().mapToSource(indexes[0]).row())

    view.connect("selectionChanged()", onSelection)
    return lambda: view.disconnect("selectionChanged()", onSelection)


def cameraKeeper(viewNode: vtkMRMLViewNode) -> Callable[[], None]:
    """Return a function that puts a 3D view's camera back to where it is now."""
    camera = _cameraOf(viewNode)
    kept = camera.GetPosition(), camera.GetFocalPoint(), camera.GetViewUp()

    def putBack() -> None:
        camera.SetPosition(*kept[0])
        camera.SetFocalPoint(*kept[1])
        camera.SetViewUp(*kept[2])

    return putBack


def _cameraOf(viewNode: vtkMRMLViewNode) -> vtkMRMLCameraNode:
    import slicer

    return slicer.modules.cameras.logic().GetViewActiveCameraNode(viewNode)
