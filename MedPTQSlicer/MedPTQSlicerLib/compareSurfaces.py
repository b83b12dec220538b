"""Closed surfaces for the 3D view, made a structure at a time so that Slicer does not freeze."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slicer import vtkSegment, vtkSegmentation
    from vtk import vtkPolyData


def surfaceSteps(segmentation: vtkSegmentation) -> Iterator[None]:
    """Make the closed surfaces of a segmentation, pausing after each structure.

    It does what ``CreateClosedSurfaceRepresentation`` does, with the segmentation's own settings
    for smoothing; that one makes all at once, which takes a second for a head and a minute for
    a hundred structures.

    Args:
        segmentation: The segmentation. Nothing happens if it has surfaces already.
    """
    if hasSurfaces(segmentation):
        return
    surfaces = {}
    for segmentId in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentId)
        if segment is not None:
            surfaces[segmentId] = _surfaceOf(segment, segmentation)
        yield
    # A 3D view goes by the first segment: if that has a surface, it makes those that are missing.
    for segmentId, surface in reversed(surfaces.items()):
        segment = segmentation.GetSegment(segmentId)
        if segment is not None:
            segment.AddRepresentation(_surface(), surface)


def hasSurfaces(segmentation: vtkSegmentation) -> bool:
    """Tell whether 3D views can show a segmentation."""
    contains: bool = segmentation.ContainsRepresentation(_surface())
    return contains


def removeSurfaces(segmentation: vtkSegmentation) -> None:
    """Remove the closed surfaces of a segmentation; 3D views then show nothing of it."""
    segmentation.RemoveRepresentation(_surface())


def _surfaceOf(segment: vtkSegment, segmentation: vtkSegmentation) -> vtkPolyData:
    """Return a segment's surface, made in a segmentation that has this segment alone."""
    import slicer

    source = segmentation.GetSourceRepresentationName()
    copy = slicer.vtkSegment()
    copy.AddRepresentation(source, segment.GetRepresentation(source))
    copy.SetLabelValue(segment.GetLabelValue())
    alone = slicer.vtkSegmentation()
    alone.SetSourceRepresentationName(source)
    alone.CopyConversionParameters(segmentation)
    alone.AddSegment(copy, "alone")
    alone.CreateRepresentation(_surface())
    return copy.GetRepresentation(_surface())


def _surface() -> str:
    import slicer

    name: str = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    return name
