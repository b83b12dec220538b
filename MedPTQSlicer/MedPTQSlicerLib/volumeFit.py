"""Whether a volume is of the kind that a model was made for, in sentences for the user."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from medptq.models.card import Card
from medptq.scans.geometry import closest_axes
from MedPTQSlicerLib.geometry import ijkToRas

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode

_DIRECTIONS = ("from left to right", "from front to back", "from head to foot")
_PATIENT_AXIS = {letter: axis for axis, pair in enumerate(("RL", "AP", "SI")) for letter in pair}

# Voxels this many times as large as those that the model works on lose what it was trained to see.
_COARSE = 2.0
# A model without a voxel size of its own needs a volume of at least this size in each direction.
_SLAB_MM = 50.0

_SPACING_STEPS = {"spacing", "spacing_nnunet"}

# Quantities that Slicer's DICOM reader gives to volumes (DICOM PS3.16).
_MODALITY_OF_QUANTITY = {"112031": "CT", "110852": "MR"}


def fitWarnings(volumeNode: vtkMRMLScalarVolumeNode, card: Card) -> list[str]:
    """Say what of a volume does not fit a model.

    They are warnings: the model can be run all the same, and may find nothing of use. What cannot
    be run at all is refused by :func:`MedPTQSlicerLib.volumeToScan.writeScanSteps`.

    Args:
        volumeNode: The volume.
        card: The model's card.

    Returns:
        Whole sentences; none if all fits, as far as that is known, or if the volume is empty.
    """
    image = volumeNode.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return []
    return [
        *_channelWarnings(card),
        *_modalityWarnings(volumeNode, card),
        *_sizeWarnings(volumeNode, card),
    ]


def modalityOf(volumeNode: vtkMRMLScalarVolumeNode) -> str | None:
    """Return a volume's DICOM modality, such as ``"CT"``, or None where it is not known.

    It is known of volumes that were loaded from DICOM: from their series in the subject hierarchy,
    or from the quantity that their voxels measure.
    """
    import slicer

    scene = volumeNode.GetScene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy else 0
    if item:
        name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
        modality: str = hierarchy.GetItemAttribute(item, name)
        if modality:
            return modality
    quantity = volumeNode.GetVoxelValueQuantity()
    return _MODALITY_OF_QUANTITY.get(quantity.GetCodeValue()) if quantity else None


def _channelWarnings(card: Card) -> list[str]:
    channels = card.get("input", {}).get("channels", 1)
    if channels == 1:
        return []
    return [f"{_title(card)} takes {channels} images at once, and this is one."]


def _modalityWarnings(volumeNode: vtkMRMLScalarVolumeNode, card: Card) -> list[str]:
    # People write "T1w MR", "MRI" or "PET/CT", and DICOM MR, CT and PT.
    words = card["modality"].upper().replace("PET", "PT")
    wanted = set(re.findall(r"\b(MR|CT|PT|US)(?=I?\b)", words))
    found = modalityOf(volumeNode)
    if found is not None and wanted and found.upper() not in wanted:
        return [f"{_title(card)} is made for {card['modality']}, and this volume is {found}."]
    lowest = volumeNode.GetImageData().GetScalarRange()[0]
    if wanted == {"CT"} and lowest >= 0:
        return [
            f"{_title(card)} is made for CT in Hounsfield units, and this volume has none: no voxel"
            f" is below {lowest:g}, where air would be at -1000."
        ]
    return []


def _sizeWarnings(volumeNode: vtkMRMLScalarVolumeNode, card: Card) -> list[str]:
    matrix = ijkToRas(volumeNode)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    extent = spacing * volumeNode.GetImageData().GetDimensions()
    steps = {step["step"] for step in card.get("preprocessing", ())}
    modelSpacing = _modelSpacing(card)
    if modelSpacing is None and steps & _SPACING_STEPS:
        return []  # which of its sizes is held against which of the volume's is not known
    sentences, tooShort = [], []
    for axis, (patientAxis, _) in enumerate(closest_axes(matrix)):
        direction = _DIRECTIONS[patientAxis]
        if modelSpacing is None:
            needed = _SLAB_MM
        else:
            voxel, field = modelSpacing[patientAxis]
            needed = field / 2
            if spacing[axis] > _COARSE * voxel:
                sentences.append(
                    f"Its voxels measure {spacing[axis]:.3g} mm {direction}, and"
                    f" {_title(card)} works on {voxel:.3g} mm: small structures may be missed."
                )
        if extent[axis] < needed:
            tooShort.append(f"{extent[axis]:.3g} mm {direction}")
    if tooShort:
        inView = f"the {card['region'].lower()}" if card.get("region") else "what it looks for"
        sentences.append(
            f"It covers only {_listed(tooShort)}: {_title(card)} needs {inView} in view, with what"
            " surrounds it."
        )
    return sentences


def _listed(parts: list[str]) -> str:
    return " and ".join([part for part in (", ".join(parts[:-1]), parts[-1]) if part])


def _modelSpacing(card: Card) -> list[tuple[float, float]] | None:
    """Return, along R, A and S, the model's voxel size and the size of its patch, in mm.

    None if it resizes every scan to its patch, does not say how its axes lie in the patient, or is
    an archive of the catalogue that was not opened yet.
    """
    letters, voxels = "", dict[str, float]()
    for step in card.get("preprocessing", ()):
        if step["step"] == "orient":
            isReversed = card["input"].get("axis_order", "IJK") == "KJI"
            letters = step["to"][::-1] if isReversed else step["to"]
            voxels = {}
        elif step["step"] == "transpose" and letters:
            letters = "".join(letters[axis] for axis in step["order"])
        elif step["step"] in _SPACING_STEPS and letters:
            voxels = dict(zip(letters, step["mm"], strict=True))
    if not voxels:
        return None
    sizes = [(0.0, 0.0)] * 3
    for letter, length in zip(letters, card["input"]["patch_size"], strict=True):
        sizes[_PATIENT_AXIS[letter]] = (voxels[letter], voxels[letter] * length)
    return sizes


def _title(card: Card) -> str:
    title: str = card.get("title", card["id"])
    return title
