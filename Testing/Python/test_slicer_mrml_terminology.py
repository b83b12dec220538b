"""Slicer understands what segments are said to be, in SNOMED CT."""

from __future__ import annotations

import numpy as np
import pytest

from medptq.models.segmentation_model import Coding, Label
from MedPTQSlicerLib.labelsToSegmentation import addSegmentation
from MedPTQSlicerLib.terminology import terminologyOf
from slicer_scenes import SlicerScene, segments, slicer, tilted


@pytest.fixture
def scene() -> SlicerScene:
    return SlicerScene()


@pytest.mark.parametrize(
    ("coding", "category", "kind"),
    [
        (Coding("10200004", "Liver"), "123037004", "10200004"),
        (Coding("86049000", "Neoplasm, Primary"), "49755003", "86049000"),
        (Coding("71616004", "Muscle"), "85756007", "71616004"),
        (Coding("70150004", "Bile"), "91720002", "70150004"),
        (None, "85756007", "85756007"),
    ],
)
def test_slicer_understands_the_terminology(
    scene: SlicerScene, coding: Coding | None, category: str, kind: str
) -> None:
    labels = (Label(1, "Structure", (1, 2, 3), coding),)
    nothing = np.zeros((4, 5, 6), np.uint8)
    volume = scene.volume(nothing.astype(np.int16), tilted())
    segmentation = addSegmentation("S", nothing, labels, volume, "a test")
    stored = segments(segmentation)["Label_1"].GetTerminology()
    entry = slicer.vtkSlicerTerminologyEntry()
    assert slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(stored, entry)
    assert entry.GetTerminologyContextName() == "Segmentation category and type - DICOM master list"
    assert entry.GetCategoryObject().GetCodeValue() == category
    assert entry.GetTypeObject().GetCodingSchemeDesignator() == "SCT"
    assert entry.GetTypeObject().GetCodeValue() == kind
    assert entry.GetTypeObject().GetCodeMeaning() == (coding.meaning if coding else "Tissue")


LEFT = Coding("7771000", "Left")


@pytest.mark.parametrize(
    "coding",
    [
        Coding("64033007", "Kidney", modifier=LEFT),
        Coding("367643001", "Cyst", region=Coding("64033007", "Kidney", modifier=LEFT)),
        Coding("59820001", "Blood vessel", region=Coding("10200004", "Liver")),
        Coding("10200004", "Liver"),
    ],
    ids=lambda coding: coding.meaning,
)
def test_slicer_understands_sides_and_regions(coding: Coding) -> None:
    entry = slicer.vtkSlicerTerminologyEntry()
    stored = terminologyOf(coding)
    assert slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(stored, entry)

    def read(concept: object) -> tuple[str, str] | None:
        code = concept.GetCodeValue()
        return (code, concept.GetCodeMeaning()) if code else None

    def said(wanted: Coding | None) -> tuple[str, str] | None:
        return (wanted.code, wanted.meaning) if wanted else None

    region = coding.region
    assert read(entry.GetTypeObject()) == said(coding)
    assert read(entry.GetTypeModifierObject()) == said(coding.modifier)
    assert entry.GetRegionContextName() == "Anatomic codes - DICOM master list"
    assert read(entry.GetRegionObject()) == said(region)
    assert read(entry.GetRegionModifierObject()) == said(region.modifier if region else None)


def test_separators_in_a_meaning_do_not_break_the_entry() -> None:
    entry = slicer.vtkSlicerTerminologyEntry()
    stored = terminologyOf(Coding("10200004", "Li~v^er|x"))
    assert slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(stored, entry)
    assert entry.GetTypeObject().GetCodeMeaning() == "Li v er x"
    assert entry.GetTypeObject().GetCodeValue() == "10200004"
