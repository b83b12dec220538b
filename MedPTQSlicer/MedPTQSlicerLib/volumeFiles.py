"""Volumes from files and segmentations to files, for scripts: with an error that says why not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medptq.artifacts import atomic_file, require_free
from medptq.errors import OutputError
from medptq.scans.refusals import corrupt, missing

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

_SEGMENTATION = ".seg.nrrd"
_LABEL_MAPS = (".nii.gz", ".nii", ".nrrd", ".mha")


def loadVolume(path: Path) -> vtkMRMLScalarVolumeNode:
    """Load a scan as a volume.

    Raises:
        ScanError: ``missing`` - there is no such file; ``corrupt`` - Slicer cannot read it.
    """
    import slicer

    if not path.exists():
        raise missing(path)
    try:
        return slicer.util.loadVolume(str(path))
    except RuntimeError as error:
        raise corrupt(path.name, "Slicer cannot read it as a volume") from error


def checkOutput(path: Path, *, overwrite: bool) -> None:
    """Make sure, before any work is done for it, that a segmentation can be saved.

    Raises:
        OutputError: ``format`` - it has a name of no known format; ``exists`` - something of that
            name is there; or the folder cannot be written to.
    """
    if not path.name.lower().endswith((_SEGMENTATION, *_LABEL_MAPS)):
        raise OutputError(
            "format",
            f"{path} was not written",
            why="its name does not end in a known format",
            todo=f"Name it {', '.join((_SEGMENTATION, *_LABEL_MAPS))}",
        )
    require_free(path, overwrite=overwrite)


def saveSegmentation(
    segmentationNode: vtkMRMLSegmentationNode,
    volumeNode: vtkMRMLScalarVolumeNode,
    path: Path,
    *,
    overwrite: bool,
) -> None:
    """Save a segmentation that was made by this module.

    Args:
        segmentationNode: What :mod:`MedPTQSlicerLib.labelsToSegmentation` made.
        volumeNode: The volume that was segmented.
        path: ``.seg.nrrd`` for the segmentation with its names and colours; otherwise a label map
            on the volume's grid, with the values of the model's card.
        overwrite: Replace a file of that name.

    Raises:
        OutputError: See :func:`checkOutput`; or Slicer could not write it.
    """
    import slicer

    isLabelMap = not path.name.lower().endswith(_SEGMENTATION)
    node = _labelMapOf(segmentationNode, volumeNode) if isLabelMap else segmentationNode
    try:
        with atomic_file(path, overwrite=overwrite) as part:
            if not slicer.util.saveNode(node, os.fspath(part)):
                raise OutputError(
                    "write",
                    f"{path} was not written",
                    why="Slicer could not save it",
                    todo="Look into Slicer's error log, and make sure that the disk has space",
                )
    finally:
        if isLabelMap:
            slicer.mrmlScene.RemoveNode(node)


def _labelMapOf(
    segmentationNode: vtkMRMLSegmentationNode, volumeNode: vtkMRMLScalarVolumeNode
) -> vtkMRMLScalarVolumeNode:
    import slicer

    from MedPTQSlicerLib.geometry import ijkToRas
    from MedPTQSlicerLib.labelsToSegmentation import valueOf

    labels = np.zeros(volumeNode.GetImageData().GetDimensions()[::-1], dtype=np.uint16)
    for segmentId in segmentationNode.GetSegmentation().GetSegmentIDs():
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentId, volumeNode)
        labels[mask != 0] = valueOf(segmentId)
    smallest = np.uint8 if labels.max() <= np.iinfo(np.uint8).max else np.uint16
    return slicer.util.addVolumeFromArray(
        labels.astype(smallest), ijkToRas(volumeNode), "Labels", "vtkMRMLLabelMapVolumeNode"
    )
