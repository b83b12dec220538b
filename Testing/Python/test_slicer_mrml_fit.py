"""The warnings for volumes that do not fit a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medptq.models.card import labels_of
from MedPTQSlicerLib.volumeFit import fitWarnings, modalityOf
from slicer_scenes import SlicerScene, affine, slicer, tilted

SPLEEN = {
    "id": "spleen",
    "title": "Spleen",
    "modality": "CT",
    "region": "Abdomen",
    "input": {"patch_size": [96, 96, 80]},
    "preprocessing": [
        {"step": "orient", "to": "RAS"},
        {"step": "spacing", "mm": [1.5, 1.5, 2.0]},
    ],
    "labels": [
        {"value": 2, "name": "Spleen", "color": [157, 108, 162]},
        {
            "value": 1,
            "name": "Liver",
            "color": [221, 130, 101],
            "snomed": {"code": "10200004", "meaning": "Liver"},
        },
    ],
}
BRAIN = {
    "id": "brain",
    "modality": "MR T1w",
    "region": "Head",
    "input": {"patch_size": [64, 64, 64]},
    "preprocessing": [{"step": "resize", "size": [64, 64, 64]}],
    "labels": [],
}


@pytest.fixture
def scene() -> SlicerScene:
    return SlicerScene()


def _ct(scene: SlicerScene, spacing: tuple[float, ...], shape: tuple[int, ...]) -> Any:
    voxels = np.zeros(shape, np.int16)
    voxels[0, 0, 0] = -1000
    return scene.volume(voxels, affine(np.diag(spacing)))


def _from_dicom(scene: SlicerScene, volume: Any, modality: str) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene.scene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), volume)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", modality)


def test_a_volume_of_the_right_kind_is_not_warned_about(scene: SlicerScene) -> None:
    volume = _ct(scene, (1.0, 1.0, 2.5), (100, 200, 200))
    assert fitWarnings(volume, SPLEEN) == []
    _from_dicom(scene, volume, "CT")
    assert fitWarnings(volume, SPLEEN) == []


def test_the_modality_is_known_from_dicom(scene: SlicerScene) -> None:
    volume = _ct(scene, (1.0, 1.0, 2.5), (100, 200, 200))
    assert modalityOf(volume) is None
    _from_dicom(scene, volume, "PT")
    assert modalityOf(volume) == "PT"
    assert fitWarnings(volume, SPLEEN) == ["Spleen is made for CT, and this volume is PT."]


@pytest.mark.parametrize(
    ("wanted", "found", "fits"),
    [
        *(("MRI", "MR", True), ("T2-MR", "MR", True), ("T1w MR", "MR", True)),
        *(("PET/CT", "CT", True), ("PET/CT", "PT", True), ("any", "US", True)),
        *(("MRI", "CT", False), ("PET/CT", "MR", False)),
    ],
)
def test_the_modality_may_be_written_in_several_ways(
    scene: SlicerScene, wanted: str, found: str, fits: bool
) -> None:
    volume = _ct(scene, (1.0, 1.0, 2.5), (100, 200, 200))
    _from_dicom(scene, volume, found)
    assert (fitWarnings(volume, {**SPLEEN, "modality": wanted}) == []) == fits


@pytest.mark.parametrize(("code", "modality"), [("112031", "CT"), ("110852", "MR"), ("1", None)])
def test_the_modality_is_known_from_what_the_voxels_measure(
    scene: SlicerScene, code: str, modality: str | None
) -> None:
    volume = _ct(scene, (1.0, 1.0, 2.5), (100, 200, 200))
    quantity = slicer.vtkCodedEntry()
    quantity.SetValueSchemeMeaning(code, "DCM", "something")
    volume.SetVoxelValueQuantity(quantity)
    assert modalityOf(volume) == modality
    warned = any("this volume is MR" in sentence for sentence in fitWarnings(volume, SPLEEN))
    assert warned == (modality == "MR")


def test_ct_must_be_in_hounsfield_units(scene: SlicerScene) -> None:
    volume = scene.volume(np.full((100, 200, 200), 24, np.int16))
    [sentence] = fitWarnings(volume, SPLEEN)
    assert "no voxel is below 24" in sentence


def test_thick_slices_are_named_by_their_direction_in_the_patient(scene: SlicerScene) -> None:
    voxels = np.full((100, 200, 200), -1000, np.int16)
    # A coronal acquisition: K runs from front to back, in steps of 6 mm.
    coronal = affine(np.array([[-0.8, 0, 0], [0, 0, -6.0], [0, -0.8, 0]]))
    [sentence] = fitWarnings(scene.volume(voxels, coronal), SPLEEN)
    assert sentence.startswith(
        "Its voxels measure 6 mm from front to back, and Spleen works on 1.5"
    )


def test_the_models_spacing_is_held_against_the_same_direction(scene: SlicerScene) -> None:
    volume = _ct(scene, (1.0, 1.0, 3.9), (100, 200, 200))  # not above twice 2 mm
    assert fitWarnings(volume, SPLEEN) == []
    reversed_axes = {**SPLEEN, "input": {"patch_size": [96, 96, 80], "axis_order": "KJI"}}
    # The same card along K, J, I asks for 1.5 mm from head to foot.
    [sentence] = fitWarnings(volume, reversed_axes)
    assert "from head to foot" in sentence


def test_the_spacing_of_nnunet_is_of_the_networks_axes(scene: SlicerScene) -> None:
    steps = [
        {"step": "orient", "to": "RAS"},
        {"step": "transpose", "order": [1, 0, 2]},
        {"step": "spacing_nnunet", "mm": [2.0, 1.0, 1.0]},
    ]
    shape = {"patch_size": [28, 40, 40], "axis_order": "KJI"}  # of A, S and R
    card = {**SPLEEN, "input": shape, "preprocessing": steps}
    assert fitWarnings(_ct(scene, (1.0, 3.9, 1.0), (35, 13, 36)), card) == []
    [sentence] = fitWarnings(_ct(scene, (1.0, 1.0, 3.0), (12, 50, 36)), card)
    assert sentence.startswith("Its voxels measure 3 mm from head to foot, and Spleen works on 1 ")
    [sentence] = fitWarnings(_ct(scene, (1.0, 1.0, 1.0), (35, 20, 36)), card)
    assert sentence.startswith("It covers only 20 mm from front to back: ")
    unknown = {**card, "preprocessing": steps[1:]}
    assert fitWarnings(_ct(scene, (1.0, 1.0, 3.0), (12, 20, 36)), unknown) == []


def test_a_slab_is_too_little_to_see(scene: SlicerScene) -> None:
    [sentence] = fitWarnings(_ct(scene, (1.0, 1.0, 2.0), (30, 200, 200)), SPLEEN)
    assert sentence == (
        "It covers only 60 mm from head to foot: Spleen needs the abdomen in view, with what"
        " surrounds it."
    )
    sentences = fitWarnings(scene.volume(np.zeros((12, 200, 200), np.int16), tilted()), BRAIN)
    assert [sentence[:35] for sentence in sentences] == ["It covers only 37.2 mm from head to"]
    [sentence] = fitWarnings(_ct(scene, (1.0, 1.0, 2.0), (30, 40, 50)), SPLEEN)
    assert sentence.startswith(
        "It covers only 50 mm from left to right, 40 mm from front to back and 60 mm from head"
    )


def test_a_model_of_several_images_needs_more_than_one_volume(scene: SlicerScene) -> None:
    card = {**SPLEEN, "input": {"patch_size": [96, 96, 80], "channels": 4}}
    volume = _ct(scene, (1.0, 1.0, 2.5), (100, 200, 200))
    assert fitWarnings(volume, card) == ["Spleen takes 4 images at once, and this is one."]


def test_an_empty_volume_is_left_to_be_refused(scene: SlicerScene) -> None:
    assert fitWarnings(scene.add("vtkMRMLScalarVolumeNode"), SPLEEN) == []


def test_the_labels_of_a_card() -> None:
    spleen, liver = labels_of(SPLEEN)
    assert (spleen.value, spleen.name, spleen.color, spleen.coding) == (
        *(2, "Spleen", (157, 108, 162)),
        None,
    )
    assert liver.coding is not None
    assert (liver.coding.scheme, liver.coding.code) == ("SCT", "10200004")
