"""What made a segmentation and how long it took, kept on its node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from medptq.evaluate import formats

if TYPE_CHECKING:
    from slicer import vtkMRMLSegmentationNode

_ATTRIBUTE = "MedPTQ.Run"
_ENGINES = {"openvino": "OpenVINO", "pytorch": "PyTorch", "tensorrt": "TensorRT"}
_STAGES = {
    "prepare": "get ready",
    "transfer": "to and from the scene",
    "load": "read",
    "preprocess": "preprocess",
    "inference": "network",
    "postprocess": "postprocess",
}
_SHORTEST_SECONDS = 0.05  # that is worth a word


@dataclass(frozen=True)
class SegmentationRun:
    """How one segmentation came about. It is saved with the scene, and names no patient.

    Attributes:
        model: The model's id.
        engine: What ran it, ``"openvino"``.
        precision: What it ran at, ``"int8"``.
        seconds: Of each stage: ``transfer`` to the worker's files and back, ``load``,
            ``preprocess``, ``inference`` and ``postprocess`` in the worker, and ``prepare``, what
            was to be started, downloaded and built before.
        total: From the start to the segmentation in the scene, in s.
    """

    model: str
    engine: str
    precision: str
    seconds: Mapping[str, float]
    total: float

    def longerBy(self, seconds: float) -> SegmentationRun:
        """Return the run with what it took to put the result into the scene."""
        stages = {**self.seconds, "transfer": self.seconds["transfer"] + seconds}
        return replace(self, seconds=stages, total=self.total + seconds)

    @property
    def engineTitle(self) -> str:
        """Engine and precision, to show."""
        return f"{_ENGINES.get(self.engine, self.engine)} {self.precision.upper()}"

    @property
    def sentence(self) -> str:
        """The whole in a line, to show."""
        parts = [
            f"{words} {formats.seconds(self.seconds[stage])}"
            for stage, words in _STAGES.items()
            if self.seconds.get(stage, 0.0) >= _SHORTEST_SECONDS
        ]
        what = f"Segmented in {formats.seconds(self.total)} with {self.engineTitle}"
        return f"{what}: {', '.join(parts)}." if parts else f"{what}."


def setRun(segmentationNode: vtkMRMLSegmentationNode, run: SegmentationRun) -> None:
    """Keep on a segmentation what made it."""
    segmentationNode.SetAttribute(_ATTRIBUTE, json.dumps(asdict(run)))


def runOf(segmentationNode: vtkMRMLSegmentationNode) -> SegmentationRun | None:
    """Return what made a segmentation, or None if it was not made here."""
    text = segmentationNode.GetAttribute(_ATTRIBUTE)
    if not text:
        return None
    try:
        values: dict[str, Any] = json.loads(text)
        return SegmentationRun(**values)
    except (ValueError, TypeError):  # of a scene that another version saved
        return None
