"""Where a volume lies in the patient, with the transforms that it is under."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medptq.errors import ScanError
from medptq.scans import refusals
from medptq.scans.geometry import SHEAR_TOLERANCE, is_sheared, is_singular
from medptq.scans.scan import Affine

if TYPE_CHECKING:
    from slicer import vtkMRMLTransformNode, vtkMRMLVolumeNode

_HARDEN = (
    "Harden the transform (Data module, right-click on the volume's transform), or take the volume"
    " out of it"
)


def ijkToWorld(volumeNode: vtkMRMLVolumeNode) -> Affine:
    """Return the matrix from voxel indices to the world, through all transforms above the volume.

    Args:
        volumeNode: A volume; its own geometry may be oblique, flipped and anisotropic.

    Returns:
        4x4 matrix from (i, j, k, 1) to world coordinates, RAS in mm.

    Raises:
        ScanError: ``transform`` - it is under a transform that bends, scales or mirrors it, so
            that it would be another patient's anatomy to the network; ``sheared`` or ``singular``
            - its voxels are no boxes.
    """
    name = volumeNode.GetName()
    matrix = ijkToRas(volumeNode)
    transformNode = volumeNode.GetParentTransformNode()
    toWorld = np.eye(4) if transformNode is None else _linearToWorld(transformNode, name)
    matrix = toWorld @ matrix
    if is_singular(matrix):
        raise refusals.singular(name, "axes that do not span space")
    if is_sheared(matrix):
        raise refusals.sheared(name)
    if not _isRigid(toWorld):
        why = f"its transform {transformNode.GetName()} does not only move it: it scales or mirrors"
        raise _transformed(name, why)
    return matrix


def ijkToRas(volumeNode: vtkMRMLVolumeNode) -> Affine:
    """Return the volume's own 4x4 matrix from (i, j, k, 1) to RAS in mm, without transforms."""
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    array: Affine = slicer.util.arrayFromVTKMatrix(matrix)
    return array


def worldPosition(
    volumeNode: vtkMRMLVolumeNode, kji: tuple[int, int, int]
) -> tuple[float, float, float]:
    """Return the centre of a voxel in the world (R, A, S in mm), to move slice views there.

    Args:
        volumeNode: The volume; transforms of any kind are followed.
        kji: Index of the voxel, (k, j, i).
    """
    import slicer
    import vtk

    toWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        volumeNode.GetParentTransformNode(), None, toWorld
    )
    r, a, s = toWorld.TransformPoint((ijkToRas(volumeNode) @ [*kji[::-1], 1.0])[:3].tolist())
    return r, a, s


def centreOf(volumeNode: vtkMRMLVolumeNode) -> tuple[float, float, float]:
    """Return the middle of a volume in the world (R, A, S in mm)."""
    bounds = [0.0] * 6
    volumeNode.GetRASBounds(bounds)
    r, a, s = ((low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True))
    return r, a, s


def _linearToWorld(transformNode: vtkMRMLTransformNode, name: str) -> Affine:
    import slicer
    import vtk

    if not transformNode.IsTransformToWorldLinear():
        raise _transformed(name, f"its transform {transformNode.GetName()} bends it")
    matrix = vtk.vtkMatrix4x4()
    transformNode.GetMatrixTransformToWorld(matrix)
    array: Affine = slicer.util.arrayFromVTKMatrix(matrix)
    return array


def _isRigid(toWorld: Affine) -> bool:
    rotation = toWorld[:3, :3]
    isOrthonormal = bool(np.abs(rotation.T @ rotation - np.eye(3)).max() <= SHEAR_TOLERANCE)
    return isOrthonormal and bool(np.linalg.det(rotation) > 0)


def _transformed(name: str, why: str) -> ScanError:
    return ScanError("transform", f"{name} cannot be used", why=why, todo=_HARDEN)
