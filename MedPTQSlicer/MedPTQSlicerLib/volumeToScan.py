"""From a volume in the scene to the file that the worker reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medptq.errors import ScanError
from MedPTQSlicerLib.geometry import ijkToWorld
from MedPTQSlicerLib.nrrd import writeNrrd

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode


def writeScan(volumeNode: vtkMRMLScalarVolumeNode, path: Path) -> None:
    """Write a volume for the worker: its voxels as they are, lying where it lies in the world.

    The file goes to a job's own folder, is read once and thrown away. Neither its name nor its
    header names the volume or the patient.

    Args:
        volumeNode: The volume; a rigid transform that it is under is carried into the file.
        path: The file to write, ``.nrrd``.

    Raises:
        ScanError: The volume has no voxels (``empty``), is no scan but a label map
            (``label-map``), or has several components (``channels``); or ``transform``,
            ``sheared``, ``singular`` as :func:`MedPTQSlicerLib.geometry.ijkToWorld`.
        OutputError: The file cannot be written.

    Example:
        >>> writeScan(slicer.util.getNode("MRHead"), Path(folder, "scan.nrrd"))  # doctest: +SKIP
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
    writeNrrd(slicer.util.arrayFromVolume(volumeNode), ijkToWorld(volumeNode), path)
