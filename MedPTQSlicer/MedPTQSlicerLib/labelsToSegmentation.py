"""From a label map to a segmentation in the scene."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medptq.errors import OutputError, ScanError
from medptq.models.segmentation_model import Label
from MedPTQSlicerLib.geometry import ijkToRas
from MedPTQSlicerLib.terminology import terminologyOf

if TYPE_CHECKING:
    from slicer import vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

_UNNAMED_COLOR = (128, 128, 128)
_ID_PREFIX = "Label_"
_LONGEST_NAME = 64  # characters


def addSegmentation(
    name: str,
    labelMap: NDArray[np.integer[Any]],
    labels: Sequence[Label],
    volumeNode: vtkMRMLScalarVolumeNode,
    algorithm: str,
) -> vtkMRMLSegmentationNode:
    """Add a segmentation to the volume's scene; otherwise as :func:`updateSegmentation`.

    Args:
        name: Its name; a number is appended if a node has it already.
        labelMap: See :func:`updateSegmentation`.
        labels: Likewise.
        volumeNode: Likewise.
        algorithm: Likewise.

    Returns:
        The segmentation, shown in all views.

    Raises:
        ScanError: See :func:`updateSegmentation`; nothing is left in the scene.
        OutputError: Likewise.
    """
    scene = volumeNode.GetScene()
    segmentationNode = scene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", scene.GenerateUniqueName(name)
    )
    segmentationNode.CreateDefaultDisplayNodes()
    try:
        updateSegmentation(segmentationNode, labelMap, labels, volumeNode, algorithm)
    except Exception:
        scene.RemoveNode(segmentationNode.GetDisplayNode())
        scene.RemoveNode(segmentationNode)
        raise
    return segmentationNode


def updateSegmentation(
    segmentationNode: vtkMRMLSegmentationNode,
    labelMap: NDArray[np.integer[Any]],
    labels: Sequence[Label],
    volumeNode: vtkMRMLScalarVolumeNode,
    algorithm: str,
) -> None:
    """Fill a segmentation with a label map, one segment a structure; what was in it is replaced.

    The segments carry name, colour, SNOMED CT terminology and what made them, so that the
    segmentation can be exported as DICOM SEG. It follows the volume: it has its geometry, is under
    the same transform, and in the same study of the subject hierarchy.

    Args:
        segmentationNode: The segmentation, in a scene.
        labelMap: Label of every voxel of the volume, [K, J, I]; 0 is the background. A value that
            ``labels`` does not name becomes a grey segment, so that nothing that was found is
            hidden.
        labels: The structures. One that was not found becomes an empty segment.
        volumeNode: The volume that was segmented.
        algorithm: What made the label map, such as ``"deepbet, OpenVINO INT8"``.

    Raises:
        ScanError: ``changed`` - the volume does not have the label map's voxels, or no longer.
        OutputError: ``segmentation`` - Slicer could not import the label map; the segmentation is
            as it was.
    """
    import slicer

    image = volumeNode.GetImageData()
    size = (0, 0, 0) if image is None else image.GetDimensions()
    if labelMap.shape != size[::-1]:
        raise ScanError(
            "changed",
            f"The segmentation of {volumeNode.GetName()} was not loaded",
            why="the volume was changed in the meantime: it now has {} x {} x {} voxels".format(
                *size
            )
            + ", and the segmentation {} x {} x {}".format(*labelMap.shape[::-1]),
            todo="Segment it again",
        )
    with slicer.util.NodeModify(segmentationNode), _unlessItFails(segmentationNode):
        found = _valuesIn(labelMap)
        # Both are moved under the volume's transform at the end; until then neither has one.
        segmentationNode.SetAndObserveTransformNodeID(None)
        segmentation = segmentationNode.GetSegmentation()
        segmentation.RemoveAllSegments()
        segmentationNode.SetSourceRepresentationToBinaryLabelmap()
        for label in (*labels, *_unnamed(found, labels)):
            _addSegment(segmentationNode, label, algorithm)
        if found and not _import(segmentationNode, labelMap, found, volumeNode):
            raise OutputError(
                "segmentation",
                f"The segmentation of {volumeNode.GetName()} was not loaded",
                why="Slicer could not import the label map",
                todo="Look into Slicer's error log, and free some memory",
            )
        segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    _placeInStudy(segmentationNode, volumeNode)


@contextlib.contextmanager
def _unlessItFails(segmentationNode: vtkMRMLSegmentationNode) -> Iterator[None]:
    """Bring back what was in a segmentation if a block fails: it may be a person's own work."""
    import slicer

    segmentation = segmentationNode.GetSegmentation()
    transformId = segmentationNode.GetTransformNodeID()
    before = slicer.vtkSegmentation()
    before.DeepCopy(segmentation)
    try:
        yield
    except BaseException:
        segmentation.DeepCopy(before)
        segmentationNode.SetAndObserveTransformNodeID(transformId)
        raise


def segmentIdOf(value: int) -> str:
    """Return the ID of the segment that holds the voxels of this label."""
    return f"{_ID_PREFIX}{value}"


def valueOf(segmentId: str) -> int:
    """Return the label whose voxels the segment of this ID holds, see :func:`segmentIdOf`."""
    return int(segmentId.removeprefix(_ID_PREFIX))


def _addSegment(segmentationNode: vtkMRMLSegmentationNode, label: Label, algorithm: str) -> None:
    segmentation = segmentationNode.GetSegmentation()
    color = [part / 255 for part in label.color]
    segment = segmentation.GetSegment(
        segmentation.AddEmptySegment(segmentIdOf(label.value), label.name, color)
    )
    segment.SetTerminology(terminologyOf(label.coding))
    # Without these, DICOM SEG would say that it was drawn by hand.
    segment.SetTag("DICOM.SegmentAlgorithmType", "AUTOMATIC")
    segment.SetTag("DICOM.SegmentAlgorithmName", _asDicomName(algorithm))


def _asDicomName(text: str) -> str:
    """Return a text as DICOM's LO: short, on one line, and without what separates values."""
    characters = (part if part.isprintable() and part not in "\\|" else " " for part in text)
    return "".join(characters)[:_LONGEST_NAME]


def _import(
    segmentationNode: vtkMRMLSegmentationNode,
    labelMap: NDArray[np.integer[Any]],
    found: Sequence[int],
    volumeNode: vtkMRMLScalarVolumeNode,
) -> bool:
    import slicer
    import vtk

    # The item with index n says which segment takes the label n + 1. A segment that was not found
    # is not named here: in the labelmap that the others share, it would not count as empty.
    ids = vtk.vtkStringArray()
    for value in range(1, max(found) + 1):
        ids.InsertNextValue(segmentIdOf(value) if value in found else "")
    imported: bool = slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(
        _labelMapNode(labelMap, volumeNode), segmentationNode, ids
    )
    return imported


def _labelMapNode(
    labelMap: NDArray[np.integer[Any]], volumeNode: vtkMRMLScalarVolumeNode
) -> vtkMRMLLabelMapVolumeNode:
    """Return a label map that is in no scene, so that no view draws it and no one can pick it."""
    import slicer

    node = slicer.vtkMRMLLabelMapVolumeNode()
    smallest = np.uint8 if labelMap.max() <= np.iinfo(np.uint8).max else np.uint16
    slicer.util.updateVolumeFromArray(node, labelMap.astype(smallest, copy=False))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRas(volumeNode)))
    return node


def _valuesIn(labelMap: NDArray[np.integer[Any]]) -> list[int]:
    """Return the labels that are there, in ascending order and without the background."""
    isThere = np.zeros(int(labelMap.max()) + 1, dtype=bool)
    for plane in labelMap:
        # Each label begins somewhere, so it is enough to look where the value changes.
        voxels = plane.ravel()
        isThere[voxels[0]] = True
        isThere[voxels[1:][voxels[1:] != voxels[:-1]]] = True
    return [int(value) for value in np.flatnonzero(isThere) if value]


def _unnamed(found: Sequence[int], labels: Sequence[Label]) -> list[Label]:
    named = {label.value for label in labels}
    return [Label(value, f"Label {value}", _UNNAMED_COLOR) for value in found if value not in named]


def _placeInStudy(
    segmentationNode: vtkMRMLSegmentationNode, volumeNode: vtkMRMLScalarVolumeNode
) -> None:
    """Move the segmentation into the volume's study, or beside it where there is no study."""
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volumeNode.GetScene())
    volumeItem = hierarchy.GetItemByDataNode(volumeNode) if hierarchy else 0
    segmentationItem = hierarchy.GetItemByDataNode(segmentationNode) if hierarchy else 0
    if volumeItem and segmentationItem:
        study = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()
        parent = hierarchy.GetItemAncestorAtLevel(volumeItem, study)
        hierarchy.SetItemParent(segmentationItem, parent or hierarchy.GetItemParent(volumeItem))
