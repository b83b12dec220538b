"""A segmentation of the user's, as the label map that FP32 and INT8 are held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from medptq.errors import ScanError
from medptq.models.segmentation_model import Label
from medptq.scans.scan import LabelArray
from MedPTQSlicerLib.compareText import labelNames

if TYPE_CHECKING:
    from slicer import (
        vtkMRMLLabelMapVolumeNode,
        vtkMRMLScalarVolumeNode,
        vtkMRMLScene,
        vtkMRMLSegmentationNode,
    )

_MOST_NAMED = 3


def referenceLabels(
    segmentationNode: vtkMRMLSegmentationNode,
    volumeNode: vtkMRMLScalarVolumeNode,
    labels: Sequence[Label],
) -> LabelArray:
    """Return a segmentation as a label map on a volume's own grid, [K, J, I].

    A segment stands for the structure of its name, in upper or lower case. Where model and
    segmentation have one each, they stand for each other, whatever they are called. Segments that
    are no structures of the model are left out, and transforms are taken into account.

    Args:
        segmentationNode: The segmentation.
        volumeNode: The volume, in the same scene.
        labels: The model's structures.

    Raises:
        ScanError: ``reference`` - the segmentation has no segment for one of the structures, is no
            longer in the scene, or cannot be exported.
    """
    import slicer

    scene = segmentationNode.GetScene()
    if scene is None:
        raise _unusable(segmentationNode, "it is no longer in the scene", "Choose another one")
    segments = _segmentsOf(segmentationNode, labels)
    with _temporaryLabelMap(scene) as node:
        # It gives the segments the numbers 1, 2, 3 and so on, in this order.
        isExported = slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode(
            segmentationNode, list(segments.values()), node, volumeNode
        )
        if not isExported:
            raise _unusable(
                segmentationNode, "Slicer could not export it", "Look into Slicer's error log"
            )
        exported = slicer.util.arrayFromVolume(node)
        found: LabelArray = np.array([0, *segments], dtype=np.uint16)[exported]
    return found


def _segmentsOf(
    segmentationNode: vtkMRMLSegmentationNode, labels: Sequence[Label]
) -> dict[int, str]:
    """Return the ID of the segment that stands for each label."""
    segmentation = segmentationNode.GetSegmentation()
    ids = segmentation.GetSegmentIDs()
    if len(ids) == len(labels) == 1:
        return {labels[0].value: ids[0]}
    byName = {segmentation.GetSegment(each).GetName().casefold(): each for each in ids}
    names = labelNames(labels)
    missing = [name for name in names.values() if name.casefold() not in byName]
    if missing:
        more = len(missing) - _MOST_NAMED
        named = ", ".join(missing[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        raise _unusable(
            segmentationNode,
            f"it has no segment for {named}",
            "Name its segments as the model does, and add empty ones for what is not there",
        )
    return {value: byName[name.casefold()] for value, name in names.items()}


@contextmanager
def _temporaryLabelMap(scene: vtkMRMLScene) -> Iterator[vtkMRMLLabelMapVolumeNode]:
    """Give a label map to export to, which must be in a scene, and remove it with all it brings."""
    import slicer

    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.SetHideFromEditors(True)
    scene.AddNode(node)
    try:
        yield node
    finally:
        displayNode = node.GetDisplayNode()
        if displayNode is not None:
            scene.RemoveNode(displayNode.GetColorNode())
            scene.RemoveNode(displayNode)
        scene.RemoveNode(node)


def _unusable(segmentationNode: vtkMRMLSegmentationNode, why: str, todo: str) -> ScanError:
    what = f"{segmentationNode.GetName()} cannot be the reference"
    return ScanError("reference", what, why=why, todo=todo)
