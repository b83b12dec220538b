"""The way of a volume through the worker, and back as a segmentation in the scene."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from medptq.models.card import Card, labels_of
from medptq.scans.scan import LabelArray
from MedPTQSlicerLib.jobFolder import jobFolder
from MedPTQSlicerLib.labelMapFile import readLabelMapSteps
from MedPTQSlicerLib.labelsToSegmentation import addSegmentation, updateSegmentation
from MedPTQSlicerLib.sceneWatch import requireInScene
from MedPTQSlicerLib.segmentationRun import SegmentationRun, setRun
from MedPTQSlicerLib.volumeToScan import writeScanSteps

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

    from MedPTQSlicerLib.jobs import Steps
    from MedPTQSlicerLib.workerClient import WorkerClient

Precision: TypeAlias = Literal["best", "int8", "fp32", "both"]

_TO_RUN: Mapping[Precision, tuple[str | None, ...]] = {
    "best": (None,),  # the worker chooses
    "int8": ("int8",),
    "fp32": ("fp32",),
    "both": ("fp32", "int8"),
}


def segmentSteps(
    client: WorkerClient,
    card: Card,
    network: str,
    volumeNode: vtkMRMLScalarVolumeNode,
    precision: Precision,
    segmentationNode: vtkMRMLSegmentationNode | None,
    show3D: bool,
) -> Steps[list[vtkMRMLSegmentationNode]]:
    """Segment a volume; nothing is added to the scene before all is done.

    Args:
        client: The worker's.
        card: The model's.
        network: The model's id, or a path that the worker can load.
        volumeNode: The volume; nothing is added if it leaves the scene in the meantime.
        precision: What to run at.
        segmentationNode: Takes the result instead of a new one, where there is one result only.
        show3D: Whether to make closed surfaces too.

    Returns:
        The segmentations; for ``"both"``, FP32's first.
    """
    found: list[tuple[SegmentationRun, LabelArray]] = []
    with jobFolder() as folder:
        started = time.monotonic()
        scan = folder / "scan.nrrd"
        yield "Handing over the volume"
        yield from writeScanSteps(volumeNode, scan)
        transfer = time.monotonic() - started
        for number, which in enumerate(_TO_RUN[precision]):
            labels = folder / f"labels{number}.nrrd"
            answer = yield client.request(
                "segment", network=network, scan=str(scan), output=str(labels), precision=which
            )
            answered = time.monotonic()
            yield "Loading the segmentation"
            labelMap = yield from readLabelMapSteps(labels)
            transfer += time.monotonic() - answered
            found.append((_runOf(card, answer, transfer, started), labelMap))
            started, transfer = time.monotonic(), 0.0
    requireInScene(volumeNode)
    nodes = []
    for run, labelMap in found:
        started = time.monotonic()
        node = segmentationNode if len(found) == 1 else None
        node = _place(node, card, run, volumeNode, labelMap)
        if show3D:
            node.CreateClosedSurfaceRepresentation()
        setRun(node, run.longerBy(time.monotonic() - started))
        nodes.append(node)
    return nodes


def titleOf(card: Card) -> str:
    """Return the model's name to show."""
    return str(card.get("title", card["id"]))


def _place(
    node: vtkMRMLSegmentationNode | None,
    card: Card,
    run: SegmentationRun,
    volumeNode: vtkMRMLScalarVolumeNode,
    labelMap: LabelArray,
) -> vtkMRMLSegmentationNode:
    """Fill the segmentation, or a new one if there is none or it is no longer in the scene."""
    algorithm = f"{titleOf(card)}, {run.engineTitle}"
    if node is None or node.GetScene() is None:
        name = f"{volumeNode.GetName()} - {titleOf(card)} {run.precision.upper()}"
        return addSegmentation(name, labelMap, labels_of(card), volumeNode, algorithm)
    updateSegmentation(node, labelMap, labels_of(card), volumeNode, algorithm)
    return node


def _runOf(
    card: Card, answer: Mapping[str, Any], transfer: float, started: float
) -> SegmentationRun:
    total = time.monotonic() - started
    [scan] = answer["scans"]
    seconds = {name: value for name, value in scan["volume_seconds"].items() if name != "total"}
    seconds["transfer"] = transfer
    seconds["prepare"] = max(0.0, total - sum(seconds.values()))
    return SegmentationRun(card["id"], answer["engine"], answer["precision"], seconds, total)
