"""MONAI bundles, written and run with MONAI's own tools."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from scipy import ndimage

import medptq
from medptq.errors import ModelError

UNET: dict[str, Any] = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [6, 8, 12],
    "strides": [2, 2],
    "num_res_units": 1,
    "norm": "batch",
}
LOAD: list[dict[str, Any]] = [
    {"_target_": "LoadImaged", "keys": "@image_key", "reader": "$monai.data.NibabelReader"},
    {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
    {"_target_": "EnsureTyped", "keys": "@image_key"},
]
ORIENT: dict[str, Any] = {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"}
SPACING: dict[str, Any] = {
    "_target_": "Spacingd",
    "keys": "@image_key",
    "pixdim": [1.5, 1.5, 2.0],
    "mode": "bilinear",
}
SCALE: dict[str, Any] = {
    "_target_": "ScaleIntensityRanged",
    "keys": "@image_key",
    "a_min": -100,
    "a_max": 300,
    "b_min": 0,
    "b_max": 1,
    "clip": True,
}
SOFTMAX: dict[str, Any] = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
ARGMAX: dict[str, Any] = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
INFERER: dict[str, Any] = {
    "_target_": "SlidingWindowInferer",
    "roi_size": [24, 24, 24],
    "sw_batch_size": 2,
    "overlap": 0.25,
}


def invert(*, nearest: bool) -> dict[str, Any]:
    """Return the transform that brings outputs back to the scan's grid."""
    return {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": "@image_key",
        "nearest_interp": nearest,
        "to_tensor": True,
    }


def inference(
    *,
    network: dict[str, Any] = UNET,
    steps: list[dict[str, Any]] | None = None,
    inferer: dict[str, Any] = INFERER,
    after: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the content of inference.json, in the way of MONAI's Model Zoo."""
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "image_key": "image",
        "dataset_dir": "/data",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [*LOAD, *([ORIENT, SPACING, SCALE] if steps is None else steps)],
        },
        "inferer": inferer,
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [SOFTMAX, invert(nearest=False), ARGMAX] if after is None else after,
        },
    }


def metadata(classes: int = 3) -> dict[str, Any]:
    """Return the content of metadata.json."""
    names = {str(n): f"structure {n}" if n else "background" for n in range(classes)}
    return {
        "version": "0.1.0",
        "monai_version": "1.5.0",
        "name": "Small CT segmentation",
        "task": "Finds small things",
        "authors": "A test",
        "copyright": "Copyright (c) A test",
        "intended_use": "None",
        "references": ["A. Test, Testing, 2026", "B. Test, More testing, 2026"],
        "network_data_format": {
            "inputs": {"image": {"type": "image", "modality": "CT", "num_channels": 1}},
            "outputs": {"pred": {"num_channels": classes, "channel_def": names}},
        },
    }


def write_bundle(
    folder: Path, settings: dict[str, Any] | None = None, about: dict[str, Any] | None = None
) -> Path:
    """Write a bundle with random weights that find all of its classes; return its folder."""
    settings = inference() if settings is None else settings
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    ConfigParser.export_config_file(settings, str(folder / "configs" / "inference.json"), indent=2)
    about = metadata(settings["network_def"]["out_channels"]) if about is None else about
    (folder / "configs" / "metadata.json").write_text(json.dumps(about), encoding="utf-8")
    torch.save(built(settings).state_dict(), folder / "models" / "model.pt")
    return folder


def transform(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{name}d", "keys": "image", **arguments}


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata()))
    (folder / "configs" / "inference.json").write_text(json.dumps(settings))
    (folder / "models" / "model.pt").touch()


def refusal(settings: dict[str, Any], folder: Path) -> str:
    """Return why a bundle with these settings is refused, before its weights are looked at."""
    write_settings(folder, settings)
    with pytest.raises(ModelError) as caught:
        medptq.load_model(str(folder))
    assert caught.value.code == "model.bundle"
    return caught.value.why


def built(settings: dict[str, Any]) -> torch.nn.Module:
    """Build a configuration's network with MONAI, with random weights that find all classes.

    Each class is given about the same share of a scan, by the last layer's bias.
    """
    torch.manual_seed(0)
    network: torch.nn.Module = ConfigParser(copy.deepcopy(settings)).get_parsed_content(
        "network_def"
    )
    network.eval()
    image = smooth((1, 1, *settings["inferer"].get("roi_size", (24, 24, 24))), 0.3).clip(0, 1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        outputs = network(torch.from_numpy(image))
        means, scale = outputs.mean(dim=(0, 2, 3, 4)), 4 / outputs.std()
        layers = [
            m for m in network.modules() if isinstance(getattr(m, "bias", None), torch.Tensor)
        ]
        last = [layer for layer in layers if layer.bias.shape == means.shape][-1]
        last.bias.sub_(means).mul_(scale)
        last.weight.mul_(scale)
    return network


def smooth(shape: tuple[int, ...], offset: float = 0.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return blobs, float32, most of it from 0 to 1."""
    noise = np.random.default_rng(len(shape)).normal(size=shape)
    sigma = [0.0] * (len(shape) - 3) + [2.5] * 3
    blobs = ndimage.gaussian_filter(noise, sigma)
    return (offset + 0.25 * blobs / blobs.std()).astype(np.float32)


def write_scan(
    path: Path,
    shape: tuple[int, int, int] = (50, 46, 30),
    spacing: tuple[float, float, float] = (1.1, 1.3, 2.7),
    degrees: float = 12.0,
    flip: tuple[int, int, int] = (-1, 1, 1),
    axes: tuple[int, int, int] = (0, 1, 2),
) -> Path:
    """Write a scan whose axes run obliquely to the patient's, some of them backwards."""
    turn = np.deg2rad(degrees)
    rotation = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.eye(3)[:, list(axes)] @ np.diag(np.multiply(spacing, flip))
    affine[:3, 3] = (-31.0, 12.0, 77.0)
    array = 400 * smooth(shape, 0.3) - 100
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def segment_with_monai(bundle: Path, scan: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the label map [K, J, I] that MONAI makes of a scan with a bundle."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser["device"] = "cpu"
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        network = parser.get_parsed_content("network_def").eval()
        weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
        network.load_state_dict(weights.get("model", weights))
        data = parser.get_parsed_content("preprocessing")({"image": str(scan)})
        inferer = parser.get_parsed_content("inferer")
        data["pred"] = inferer(data["image"][None], network)[0]
        found = parser.get_parsed_content("postprocessing")(data)["pred"]
    return found[0].numpy().astype(np.uint8).transpose(2, 1, 0)


def dice(found: np.ndarray, expected: np.ndarray) -> list[float]:
    """Return the Dice coefficient of each label that either has, background left out."""
    values = set(np.unique(found)) | set(np.unique(expected))
    return [
        2
        * np.sum((found == value) & (expected == value))
        / (np.sum(found == value) + np.sum(expected == value))
        for value in sorted(values - {0})
    ]
