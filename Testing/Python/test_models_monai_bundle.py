"""MONAI bundles: what is read of them, and that they find what they find in MONAI."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

import medptq
from medptq.errors import ModelError
from medptq.models.library import network_folder
from medptq.models.monai_bundle import read_monai_bundle
from medptq.progress import Reporter
from monai_bundles import (
    ARGMAX,
    INFERER,
    ORIENT,
    SCALE,
    SOFTMAX,
    SPACING,
    UNET,
    built,
    dice,
    inference,
    invert,
    refusal,
    segment_with_monai,
    transform,
    write_bundle,
    write_scan,
    write_settings,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

GAUSSIAN = {**INFERER, "mode": "gaussian", "overlap": 0.5}
CROP = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}
ZSCORE = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True}
LARGEST = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1, 2]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One for all, as most bundles here differ in how they use the same network."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def places(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(cache))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(tmp_path / "library"))


def labels_of(network: Any, scan: Path) -> np.ndarray:
    [done] = medptq.segment(network, scan, engine="pytorch")
    return done.segmentation.labels


PIPELINES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "probabilities back to an oblique scan": ({}, {}),
    "permuted axes, where MONAI keeps the middle": (
        {},
        {"axes": (2, 0, 1), "flip": (1, -1, -1), "spacing": (0.8, 2.3, 0.9)},
    ),
    "square to the patient": ({}, {"degrees": 0.0, "flip": (-1, 1, -1)}),
    "thick slices": ({}, {"shape": (64, 60, 20), "spacing": (0.7, 0.9, 5.0), "degrees": -31.0}),
    "labels, the nearest": ({"after": [SOFTMAX, ARGMAX, invert(nearest=True)]}, {}),
    "outputs": ({"after": [invert(nearest=False), ARGMAX]}, {}),
    "Gaussian windows": ({"inferer": GAUSSIAN}, {}),
    "no resampling": ({"steps": [ORIENT, SCALE]}, {"flip": (1, -1, -1)}),
    "cropped to the foreground": ({"steps": [ORIENT, SPACING, SCALE, CROP]}, {}),
    "smaller than a window, mean not at zero": (
        {
            "steps": [ORIENT, SPACING, ZSCORE],
            "inferer": {**INFERER, "roi_size": [48, 40, 24]},
        },
        {},
    ),
    "padded": (
        {
            "steps": [ORIENT, SPACING, ZSCORE, transform("SpatialPad", spatial_size=[40, 36, 20])],
            "inferer": {**INFERER, "roi_size": [40, 36, 24]},
        },
        {"shape": (36, 30, 20)},
    ),
    "from percentile to percentile": (
        {
            "steps": [
                ORIENT,
                transform(
                    "ScaleIntensityRangePercentiles",
                    lower=1,
                    upper=98,
                    b_min=-1,
                    b_max=1,
                    clip=True,
                ),
                SPACING,
            ]
        },
        {},
    ),
    "from the lowest to the highest": (
        {"steps": [ORIENT, SPACING, transform("ScaleIntensity")]},
        {},
    ),
    "stretched, and taken whole": (
        {
            "steps": [
                ORIENT,
                transform("Resize", spatial_size=[32, 40, 24], mode="trilinear"),
                SCALE,
            ],
            "inferer": {"_target_": "SimpleInferer"},
        },
        {},
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_the_labels_are_those_of_monai(tmp_path, name):
    settings, scan = PIPELINES[name]
    bundle = write_bundle(tmp_path / "bundle", inference(**settings))
    path = write_scan(tmp_path / "scan.nii.gz", **scan)

    expected = segment_with_monai(bundle, path)
    found = labels_of(str(bundle), path)

    assert set(np.unique(expected)) == {0, 1, 2}
    assert min(dice(found, expected)) >= 0.999


def test_only_the_largest_parts_are_kept_by_corners(tmp_path):
    # As MONAI does it with scikit-image, which is not installed everywhere.
    path = write_scan(tmp_path / "scan.nii.gz", (64, 60, 40))
    whole = labels_of(str(write_bundle(tmp_path / "one")), path)
    after = [SOFTMAX, invert(nearest=False), ARGMAX, LARGEST]
    found = labels_of(str(write_bundle(tmp_path / "two", inference(after=after))), path)

    expected = np.zeros_like(whole)
    for value in (1, 2):
        parts, count = ndimage.label(whole == value, np.ones((3, 3, 3)))
        assert count > 1
        expected[parts == 1 + np.bincount(parts.ravel())[1:].argmax()] = value
    assert (found == expected).all()


NETWORKS: dict[str, dict[str, Any]] = {
    "UNet of its defaults": {"norm": None},
    "UNet with affine norm": {"norm": ["INSTANCE", {"affine": True}], "strides": [[2, 2, 1], 2]},
    "BasicUNet": {
        "_target_": "monai.networks.nets.BasicUNet",
        "features": [8, 8, 8, 8, 8, 8],
        "norm": "instance",
    },
    "DynUNet": {
        "_target_": "DynUNet",
        "kernel_size": [3, [3, 3, 1], 3],
        "strides": [1, 2, [2, 2, 1]],
        "filters": [8, 12, 16],
        "norm_name": "instance",
        "res_block": True,
    },
    "SegResNet": {
        "_target_": "SegResNet",
        "init_filters": 8,
        "blocks_down": [1, 1],
        "blocks_up": [1],
    },
    "SegResNetDS": {
        "_target_": "SegResNetDS",
        "init_filters": 8,
        "blocks_down": [1, 1, 1],
        "norm": "instance",
        "dsdepth": 2,
    },
    "VNet": {"_target_": "VNet"},
    "UNETR": {
        "_target_": "UNETR",
        "img_size": [32, 32, 32],
        "feature_size": 4,
        "hidden_size": 24,
        "mlp_dim": 32,
        "num_heads": 2,
    },
    "SwinUNETR": {
        "_target_": "SwinUNETR",
        "feature_size": 12,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 2, 4],
    },
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_built_from_what_the_bundle_says(tmp_path, name):
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3}
    if name.startswith("UNet"):
        arguments |= UNET
    arguments |= NETWORKS[name]
    network = {key: value for key, value in arguments.items() if value is not None}
    if name == "DynUNet":  # MONAI would evaluate it, and here it is refused
        network["upsample_kernel_size"] = "$@network_def::strides[1:]"
        assert "upsample_kernel_size" in refusal(inference(network=network), tmp_path / "bad")
        network["upsample_kernel_size"] = "$[2, [2, 2, 1]]"
    size = [32, 32, 64] if name == "SwinUNETR" else [32, 32, 32]
    settings = inference(network=network, inferer={**INFERER, "roi_size": size})
    bundle = write_bundle(tmp_path / "bundle", settings)
    image = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        expected = built(settings)(image)
        found = read_monai_bundle(bundle, Reporter()).build()(image)

    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_bundle_is_imported_from_its_folder_or_a_zip(tmp_path):
    bundle = write_bundle(tmp_path / "small_ct_v0.1.0")
    path = write_scan(tmp_path / "scan.nii.gz")
    from_folder = labels_of(str(bundle), path)
    archive = tmp_path / "download.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for file in bundle.rglob("*"):
            opened.write(file, Path("some", "where") / file.relative_to(tmp_path))

    imported = medptq.import_model(archive)
    warnings: list[str] = []
    again = medptq.import_model(bundle, reporter=Reporter(on_warning=warnings.append))
    holder = medptq.import_model(bundle.parent)
    shutil.rmtree(bundle)
    archive.unlink()

    assert imported == again == holder
    assert "in the library already" in warnings[0]
    assert imported.onnx.parent == network_folder("small-ct-segmentation")
    assert (labels_of("small-ct-segmentation", path) == from_folder).all()


def test_a_bundle_is_quantized_and_runs_as_int8(tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    path = write_scan(tmp_path / "scan.nii.gz")

    twin = medptq.quantize(str(bundle), path, tmp_path / "int8", recipe=medptq.Recipe(patches=2))
    found = labels_of(twin, path)

    assert min(dice(found, labels_of(str(bundle), path))) > 0.8


def test_the_metadata_become_the_card(tmp_path):
    model = medptq.load_model(str(write_bundle(tmp_path / "bundle")))

    assert (model.id, model.title) == ("small-ct-segmentation", "Small CT segmentation")
    assert (model.modality, model.task) == ("CT", "Finds small things")
    assert [(label.value, label.name) for label in model.labels] == [
        (1, "structure 1"),
        (2, "structure 2"),
    ]
    assert len({label.color for label in model.labels}) == 2
    assert (model.patch_size, model.overlap, model.channels) == ((24, 24, 24), 0.25, 1)
    assert (model.blending, model.interpolated) == ("constant", "probabilities")
    assert model.provenance.citation == "A. Test, Testing, 2026; B. Test, More testing, 2026"
    assert model.provenance.licence == "Copyright (c) A test; None"
    assert model.provenance.source == "A test; MONAI bundle 0.1.0"


def test_what_the_metadata_do_not_say_is_told(tmp_path):
    (tmp_path / "some bundle (2)").mkdir()
    (tmp_path / "some bundle (2)" / "LICENSE").write_text("\n   Apache License\n Version 2.0")
    bundle = write_bundle(tmp_path / "some bundle (2)", about={"name": 7, "task": ["x", 3]})
    warnings: list[str] = []
    model = medptq.load_model(str(bundle), reporter=Reporter(on_warning=warnings.append))

    assert model.id == "some-bundle-2"
    assert [label.name for label in model.labels] == ["Label 1", "Label 2"]
    assert "do not name each of its 3 outputs" in warnings[0]
    assert model.provenance.licence == "Apache License"


def test_torchscript_stands_in_where_there_are_no_weights(tmp_path):
    settings = inference()
    bundle = write_bundle(tmp_path / "bundle", settings)
    path = write_scan(tmp_path / "scan.nii.gz")
    expected = labels_of(str(bundle), path)
    script = torch.jit.trace(built(settings), torch.zeros(1, 1, 24, 24, 24))
    script.save(bundle / "models" / "model.ts")
    (bundle / "models" / "model.pt").unlink()
    settings["network_def"] = {**UNET, "_target_": "FlexibleUNet"}
    (bundle / "configs" / "inference.json").write_text(json.dumps(settings))

    assert (labels_of(str(bundle), path) == expected).all()


def test_weights_may_lie_in_a_training_s_checkpoint(tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    file = bundle / "models" / "model.pt"
    torch.save({"model": torch.load(file, weights_only=True), "epoch": 3}, file)
    assert medptq.load_model(str(bundle)).classes == 3

    file.unlink()
    with pytest.raises(ModelError, match=r"large_files") as caught:
        medptq.load_model(str(bundle))
    assert caught.value.code == "model.missing"


def test_references_are_followed_and_literals_understood(tmp_path):
    settings = inference(
        network={**UNET, "out_channels": "@classes", "channels": "@network::widths"},
        inferer={**INFERER, "roi_size": "$@patch", "overlap": "$0.5"},
    )
    settings["preprocessing"]["transforms"].insert(
        4, {"_target_": "RandFlipd", "keys": "image", "_disabled_": "True"}
    )
    settings |= {
        "classes": "$3",
        "network": {"widths": ["@six", 8, "$12"]},
        "six": "@nine#0",
        "nine": [6],
        "patch": "$(32, 32, 32)",
        "network_def": settings["network_def"],
    }
    write_settings(tmp_path / "bundle", settings)
    plain = inference()
    torch.save(built(plain).state_dict(), tmp_path / "bundle" / "models" / "model.pt")
    model = medptq.load_model(str(tmp_path / "bundle"))

    assert (model.patch_size, model.overlap, model.classes) == ((32, 32, 32), 0.5, 3)
