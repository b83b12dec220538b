"""What the program knows of a segmentation network: its graph and its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

Step: TypeAlias = Mapping[str, Any]
Blending: TypeAlias = Literal["gaussian", "constant", "nnunet"]
Interpolated: TypeAlias = Literal["outputs", "probabilities", "labels"]


@dataclass(frozen=True)
class Coding:
    """A concept of a coding scheme, as DICOM writes it.

    Attributes:
        code: Its identifier in the scheme.
        meaning: What it is called there.
        scheme: The scheme's designator.
        modifier: What narrows it down, such as its side.
        region: Where it lies, if it is no part of the anatomy itself (a cyst, a vessel).
    """

    code: str
    meaning: str
    scheme: str = "SCT"
    modifier: Coding | None = None
    region: Coding | None = None


@dataclass(frozen=True)
class Label:
    """One structure that a network finds.

    Attributes:
        value: Its number in the label map, which is also its channel in the network's output.
        name: Its name, for a person to read.
        color: Red, green, blue, from 0 to 255.
        coding: Its SNOMED CT code, where there is one.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    coding: Coding | None = None


@dataclass(frozen=True)
class Provenance:
    """Where a network comes from and on what terms."""

    source: str
    licence: str
    citation: str


@dataclass(frozen=True)
class SegmentationModel:
    """A network that is ready to be run, calibrated and quantized.

    Attributes:
        id: Short name, letters, digits, ``-`` and ``_``.
        title: Name for a person to read.
        task: What it does, in a few words.
        modality: ``"CT"`` or ``"MR"``; with the sequence where it matters (``"MR T1w"``).
        region: Part of the body that must be in view.
        onnx: The network's FP32 graph; one input [N, C, D, H, W], one output
            [N, classes, D, H, W]; N may be symbolic.
        patch_size: Voxels (D, H, W) that the network takes at once.
        axis_order: ``"IJK"`` if the network's D runs along the image's I axis (MONAI, NiBabel),
            ``"KJI"`` if along its K axis (SimpleITK, nnU-Net).
        channels: Image channels it takes.
        overlap: Share of the patch, from 0 to below 1, by which sliding windows overlap.
        labels: The structures it finds, background (0) left out.
        preprocessing: Steps from the scan to the network's input, in order, each a mapping with
            ``"step"``; ``medptq.scans.preprocessing`` documents them.
        postprocessing: Steps on the label map, in order, likewise.
        provenance: Source, licence, citation.
        blending: How much the voxels of sliding windows count where windows overlap: those in the
            middle the most, or all the same; or windows and weights are nnU-Net's.
        interpolated: What is interpolated on the way back to the scan: the network's outputs,
            their softmax, or nothing: each voxel gets the label of the nearest one.
    """

    id: str
    title: str
    task: str
    modality: str
    region: str
    onnx: Path
    patch_size: tuple[int, int, int]
    axis_order: Literal["IJK", "KJI"]
    channels: int
    overlap: float
    labels: tuple[Label, ...]
    preprocessing: tuple[Step, ...]
    postprocessing: tuple[Step, ...]
    provenance: Provenance
    blending: Blending = "gaussian"
    interpolated: Interpolated = "outputs"

    @property
    def classes(self) -> int:
        """Channels of the network's output, background among them."""
        return 1 + max(label.value for label in self.labels)
