"""FP32 and INT8 on one volume: both segmentations, what was measured, and the report."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medptq.errors import OutputError
from medptq.models.card import Card, labels_of
from medptq.scans.scan import LabelArray
from MedPTQSlicerLib.geometry import ijkToWorld
from MedPTQSlicerLib.jobFolder import JobFolder
from MedPTQSlicerLib.labelMapFile import readLabelMapSteps
from MedPTQSlicerLib.labelsToSegmentation import addSegmentation
from MedPTQSlicerLib.nrrd import writeNrrdSteps
from MedPTQSlicerLib.referenceLabels import referenceLabels
from MedPTQSlicerLib.sceneWatch import requireInScene
from MedPTQSlicerLib.segmenting import titleOf
from MedPTQSlicerLib.volumeToScan import writeScanSteps

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

    from MedPTQSlicerLib.jobs import Steps
    from MedPTQSlicerLib.workerClient import WorkerClient

REPORT_FILES = ("report.html", "report.json", "report.csv", "structures.csv", "overlay.png")


@dataclass(frozen=True)
class ComparisonResult:
    """A comparison of FP32 and INT8 on one volume.

    Attributes:
        report: The content of report.json.
        card: The model's card.
        volumeNode: The volume.
        fp32Segmentation: What FP32 has found.
        int8Segmentation: What INT8 has found.
        fp32Labels: Its label map on the volume's grid, [K, J, I].
        int8Labels: Likewise.
        folder: Where the report's files lie, until :meth:`close`.
    """

    report: Mapping[str, Any]
    card: Card
    volumeNode: vtkMRMLScalarVolumeNode
    fp32Segmentation: vtkMRMLSegmentationNode
    int8Segmentation: vtkMRMLSegmentationNode
    fp32Labels: LabelArray = field(repr=False)
    int8Labels: LabelArray = field(repr=False)
    folder: JobFolder

    def close(self) -> None:
        """Remove the report's files; the segmentations stay in the scene."""
        self.folder.close()


def compareSteps(
    client: WorkerClient,
    card: Card,
    model: str,
    volumeNode: vtkMRMLScalarVolumeNode,
    referenceNode: vtkMRMLSegmentationNode | None,
) -> Steps[ComparisonResult]:
    """Run FP32 and INT8 on a volume, measure both, and add both segmentations.

    Args:
        client: The worker's.
        card: The model's.
        model: The model's id; it must have an INT8 twin.
        volumeNode: The volume; nothing is added if it leaves the scene in the meantime.
        referenceNode: A segmentation of the same structures, by name, to hold both against.

    Raises:
        ScanError: See :func:`MedPTQSlicerLib.volumeToScan.writeScanSteps` and
            :func:`MedPTQSlicerLib.referenceLabels.referenceLabels`.
    """
    with contextlib.ExitStack() as onFailure:
        folder = JobFolder()
        onFailure.callback(folder.close)
        files, output = {"scan": folder.path / "scan.nrrd"}, folder.path / "report"
        yield "Handing over the volume"
        yield from writeScanSteps(volumeNode, files["scan"])
        if referenceNode is not None:
            files["reference"] = folder.path / "reference.nrrd"
            reference = referenceLabels(referenceNode, volumeNode, labels_of(card))
            yield from writeNrrdSteps(reference, ijkToWorld(volumeNode), files["reference"])
        report: Mapping[str, Any] = yield client.request(
            "compare", model=model, output=output, **files
        )
        for file in files.values():
            file.unlink(missing_ok=True)
        yield "Loading the segmentations"
        fp32 = yield from readLabelMapSteps(output / "fp32.nii.gz")
        int8 = yield from readLabelMapSteps(output / "int8.nii.gz")
        fp32Node = _addResult(volumeNode, card, fp32, "FP32")
        onFailure.callback(_removeFromScene, fp32Node)
        yield None
        int8Node = _addResult(volumeNode, card, int8, "INT8")
        onFailure.pop_all()
        return ComparisonResult(report, card, volumeNode, fp32Node, int8Node, fp32, int8, folder)


def saveReport(result: ComparisonResult, folder: Path, *, overwrite: bool = False) -> Path:
    """Copy a comparison's report into a folder.

    Args:
        result: The comparison.
        folder: The folder; it is made if it is not there.
        overwrite: Whether to replace a report that lies there already.

    Returns:
        The report to open, ``report.html``.

    Raises:
        OutputError: ``exists`` - a report lies there already; ``unwritable`` - it cannot be
            written.
    """
    taken = [name for name in REPORT_FILES if (folder / name).exists()]
    if taken and not overwrite:
        raise OutputError(
            "exists",
            "The report was not saved",
            why=f"{folder / taken[0]} is there already",
            todo="Choose another folder, or replace it",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in REPORT_FILES:
            shutil.copyfile(result.folder.path / "report" / name, folder / name)
    except OSError as error:
        raise OutputError(
            "unwritable",
            "The report was not saved",
            why=f"{folder}: {error.strerror or error}",
            todo="Choose a folder that you may write to",
        ) from error
    return folder / REPORT_FILES[0]


def _addResult(
    volumeNode: vtkMRMLScalarVolumeNode,
    card: Card,
    labelMap: LabelArray,
    precision: str,
) -> vtkMRMLSegmentationNode:
    requireInScene(volumeNode)
    name = f"{volumeNode.GetName()} - {titleOf(card)} {precision}"
    algorithm = f"{titleOf(card)}, {precision}"
    return addSegmentation(name, labelMap, labels_of(card), volumeNode, algorithm)


def _removeFromScene(node: vtkMRMLSegmentationNode) -> None:
    scene = node.GetScene()
    if scene is not None:
        scene.RemoveNode(node.GetDisplayNode())
        scene.RemoveNode(node)
