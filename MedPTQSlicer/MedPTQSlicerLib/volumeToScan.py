"""From a volume in the scene to the file that the worker reads."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from medptq.errors import ScanError
from MedPTQSlicerLib.geometry import ijkToWorld
from MedPTQSlicerLib.nrrd import writeNrrdSteps

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode


def writeScanSteps(volumeNode: vtkMRMLScalarVolumeNode, path: Path) -> Generator[None, None, None]:
    """Write a volume for the worker: its voxels as they are, lying where it lies in the world.

    The file goes to a job's own folder, is read once and thrown away. Neither its name nor its
    header names the volume or the patient.

    Args:
        volumeNode: The volume; a rigid transform that it is under is carried into the file. It is
            looked at before the first slab, and may be renamed, moved or deleted afterwards.
        path: The file to write, ``.nrrd``.

    Yields:
        None between the slabs, a few milliseconds each.

    Raises:
        ScanError: The volume has no voxels (``empty``), is no scan but a label map
            (``label-map``), has several components (``channels``), or was ``changed`` while it was
            written; or ``transform``, ``sheared``, ``singular`` as
            :func:`MedPTQSlicerLib.geometry.ijkToWorld`.
        OutputError: The file cannot be written.

    Example:
        >>> for _ in writeScanSteps(slicer.util.getNode("MRHead"), path):    # doctest: +SKIP
        ...     slicer.app.processEvents()
    """
    import slicer

    image = volumeNode.GetImageData()
    name = volumeNode.GetName()
    if image is None or image.GetNumberOfPoints() == 0:
        raise ScanError(
            "empty",
            f"{name} cannot be used",
            why="it has no voxels",
            todo="Load it again, or choose another volume",
        )
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise ScanError(
            "label-map",
            f"{name} cannot be used",
            why="it is a label map, not a scan",
            todo="Choose the scan that it belongs to",
        )
    components = image.GetNumberOfScalarComponents()
    if components != 1:
        raise ScanError(
            "channels",
            f"{name} cannot be used",
            why=f"each of its voxels has {components} components (a colour, a vector or a time)",
            todo="Choose a volume with one intensity a voxel; the module Vector to Scalar Volume"
            " makes one",
        )
    modified = image.GetMTime()
    voxels = slicer.util.arrayFromVolume(volumeNode)
    with contextlib.closing(writeNrrdSteps(voxels, ijkToWorld(volumeNode), path)) as steps:
        for _ in steps:
            yield
            # The voxels may not even be where they were: the array only looks at VTK's memory.
            if image.GetMTime() != modified:
                raise ScanError(
                    "changed",
                    f"{name} was not read to its end",
                    why="it was changed in the meantime",
                    todo="Try again when nothing else works on it",
                )
