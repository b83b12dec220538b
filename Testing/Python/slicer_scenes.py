"""Real MRML scenes with volumes in them, as in Slicer, but without its application."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

slicer: Any = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk: Any = pytest.importorskip("vtk", reason="slicer-core is not installed")

T = TypeVar("T")


def result_of(steps: Generator[None, None, T]) -> T:
    """Do all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


def right_angled(spacing: Sequence[float], flips: Sequence[int], turns: Sequence[float]) -> Any:
    """Return a 3x3 matrix with these voxel sizes, signs of the axes and turns about R, A and S."""
    rotation = np.eye(3)
    for axis, angle in enumerate(turns):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[u, u] = turn[v, v] = np.cos(angle)
        turn[u, v], turn[v, u] = -np.sin(angle), np.sin(angle)
        rotation = turn @ rotation
    return rotation * np.array(spacing) * np.array(flips)


def affine(linear: NDArray[np.float64], origin: Sequence[float] = (0, 0, 0)) -> Any:
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = origin
    return matrix


def tilted(origin: Sequence[float] = (91.23456789012345, -73.1, 1 / 3)) -> Any:
    """Return an oblique, flipped, anisotropic IJK-to-RAS matrix."""
    return affine(right_angled((0.7, 1.2, 3.1), (-1, 1, 1), (0.3, -0.2, 0.5)), origin)


def segments(segmentation: Any) -> dict[str, Any]:
    """Return a segmentation's segments by their IDs."""
    inner = segmentation.GetSegmentation()
    return {
        inner.GetNthSegmentID(index): inner.GetNthSegment(index)
        for index in range(inner.GetNumberOfSegments())
    }


def forget_conversion_rules() -> None:
    """Forget the rules by which segmentations are converted; each Segmentations logic brings all.

    Slicer makes one logic, and the tests one for each scene. A segmentation takes ever longer to
    copy, with the square of the number of rules.
    """
    factory = slicer.vtkSegmentationConverterFactory.GetInstance()
    for rule in factory.GetConverterRules():
        factory.UnregisterConverterRule(rule)


class SlicerScene:
    """A scene with what Slicer's modules register in it."""

    def __init__(self) -> None:
        self.scene = slicer.vtkMRMLScene()
        forget_conversion_rules()
        # Slicer's Segmentations module makes this when it starts; with it, segments can be made.
        self.segmentations = slicer.vtkSlicerSegmentationsModuleLogic()
        self.segmentations.SetMRMLScene(self.scene)

    def add(self, class_name: str, name: str = "node") -> Any:
        return self.scene.AddNewNodeByClass(class_name, name)

    def volume(
        self,
        array: NDArray[Any],
        ijk_to_ras: NDArray[np.float64] | None = None,
        class_name: str = "vtkMRMLScalarVolumeNode",
        name: str = "T1 of Jane Doe",
    ) -> Any:
        node = self.add(class_name, name)
        slicer.util.updateVolumeFromArray(node, array)
        matrix = np.eye(4) if ijk_to_ras is None else ijk_to_ras
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
        return node

    def under_transform(self, node: Any, to_parent: NDArray[np.float64]) -> Any:
        """Put a node under a new linear transform."""
        transform = self.add("vtkMRMLLinearTransformNode", "Registration")
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(to_parent))
        node.SetAndObserveTransformNodeID(transform.GetID())
        return transform

    def bend(self, node: Any) -> Any:
        """Put a node under a new transform that is not linear."""
        points = vtk.vtkPoints(), vtk.vtkPoints()
        for corner in np.ndindex(2, 2, 2):
            source = 40.0 * np.array(corner)
            points[0].InsertNextPoint(source)
            points[1].InsertNextPoint(source + [0, 3.0 * corner[0] * corner[1], 0])
        spline = vtk.vtkThinPlateSplineTransform()
        spline.SetSourceLandmarks(points[0])
        spline.SetTargetLandmarks(points[1])
        spline.SetBasisToR()
        transform = self.add("vtkMRMLTransformNode", "Warp")
        transform.SetAndObserveTransformToParent(spline)
        node.SetAndObserveTransformNodeID(transform.GetID())
        return transform

    def segment_array(self, segmentation: Any, segment_id: str, volume: Any) -> NDArray[Any]:
        """Return a segment's voxels on a volume's grid, as slicer.util does in the application."""
        ids = vtk.vtkStringArray()
        ids.InsertNextValue(segment_id)
        labels = self.add("vtkMRMLLabelMapVolumeNode")
        assert self.segmentations.ExportSegmentsToLabelmapNode(segmentation, ids, labels, volume)
        array: NDArray[Any] = slicer.util.arrayFromVolume(labels).copy()
        self.scene.RemoveNode(labels)
        return array

    def saved_and_restored(self, folder: Path) -> SlicerScene:
        """Return this scene after it went through an .mrb file."""
        file = folder / "scene.mrb"
        assert self.scene.WriteToMRB(str(file), None)
        restored = SlicerScene()
        cache = slicer.vtkCacheManager()
        cache.SetRemoteCacheDirectory(str(folder))
        files = slicer.vtkDataIOManager()
        files.SetCacheManager(cache)
        restored.scene.SetDataIOManager(files)
        assert restored.scene.ReadFromMRB(str(file))
        return restored

    def named(self, class_name: str, name: str) -> Any:
        node = self.scene.GetFirstNode(name, class_name)
        assert node is not None, f"no {class_name} is named {name}"
        return node
