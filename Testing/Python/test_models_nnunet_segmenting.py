"""Model folders of nnU-Net: what they find, against nnU-Net's own arithmetic, written out here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy import ndimage

import medptq
from medptq.engines.protocol import Session
from medptq.inference.segmenting import segment_scan
from medptq.models.nnunet_folder import read_nnunet_folder
from medptq.progress import Reporter
from medptq.scans.scan import Scan
from nnunet_folders import (
    CONFIGURATION,
    network_before_2_2,
    residual_network,
    write_model_folder,
)


class ModuleSession(Session):
    """A network of PyTorch as it is, without an export in between."""

    def __init__(self, network: torch.nn.Module, shape: tuple[int, int, int, int, int]) -> None:
        self.network, self.input_shape, self.device = network, shape, torch.device("cpu")

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.network(batch)

    def layer_precisions(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


def a_scan(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], channels: int = 1
) -> Scan:
    """Return a scan with an empty margin and with structures of several voxels in it."""
    random = np.random.default_rng(3)
    array = np.zeros((channels, *shape), np.float32)
    inner = tuple(slice(2, length - 1) for length in shape)
    for channel in array:
        noise = ndimage.gaussian_filter(random.normal(size=shape), 1.5)
        channel[inner] = (60 + 400 * noise)[inner]
        channel[4:8, 5:10, 5:9] = 0  # a hole, which is no background
        channel[:7, -9:, -7:] = 0  # a corner, which is
    return Scan(array, np.diag([*spacing[::-1], 1.0]), "scan")


def ours(folder: Path, scan: Scan) -> NDArray[Any]:
    built = read_nnunet_folder(folder, Reporter())
    shape = (2, built.model.channels, *built.model.patch_size)
    session = ModuleSession(built.build(), shape)
    return segment_scan(built.model, session, scan, reporter=Reporter()).labels


def nnunets(folder: Path, scan: Scan) -> NDArray[Any]:
    """Segment as nnunetv2 2.8 does."""
    plans = json.loads((folder / "plans.json").read_text())
    settings = plans["configurations"][CONFIGURATION]
    order = plans["transpose_forward"]
    data = scan.array.transpose(0, *(1 + n for n in order)).copy()
    old = [scan.spacing[n] for n in order]
    before = data.shape[1:]
    mask = ndimage.binary_fill_holes((data != 0).any(axis=0))
    box = ndimage.find_objects(mask.astype(int))[0]
    data, mask = data[(slice(None), *box)], mask[box]
    for channel, image in enumerate(data):
        normalize(image, mask, channel, plans, settings)
    cropped, new = data.shape[1:], settings["spacing"]
    size = [round(a / b * n) for a, b, n in zip(old, new, cropped, strict=True)]
    data = np.stack([resize(image, size, old, new, 3) for image in data]).astype(np.float32)
    built = read_nnunet_folder(folder, Reporter()).build()
    logits = slide(built, data, settings["patch_size"])
    logits = np.stack([resize(image, cropped, new, old, 1) for image in logits])
    labels = np.zeros(before, np.uint8)
    labels[box] = logits.argmax(axis=0)
    return labels.transpose(np.argsort(order))


def normalize(image, mask, channel, plans, settings) -> None:
    scheme = settings["normalization_schemes"][channel]
    if scheme == "CTNormalization":
        known = plans["foreground_intensity_properties_per_channel"][str(channel)]
        np.clip(image, known["percentile_00_5"], known["percentile_99_5"], out=image)
        image -= known["mean"]
        image /= known["std"]
    elif scheme == "RescaleTo01Normalization":
        image -= image.min()
        image /= image.max()
    elif scheme == "ZScoreNormalization":
        where = mask if settings["use_mask_for_norm"][channel] else np.ones_like(mask)
        image[where] = (image[where] - image[where].mean()) / image[where].std()


def resize(image, size, spacing, new_spacing, order):
    """Resample as resample_data_or_seg_to_shape does, which takes it from scikit-image."""
    if list(image.shape) == list(size):
        return image

    def whole(part, shape):
        factors = np.divide(shape, part.shape)
        found = ndimage.zoom(
            part.astype(float), factors, order=order, mode="nearest", grid_mode=True
        )
        return np.clip(found, part.min(), part.max())

    for candidate in (spacing, new_spacing):
        if max(candidate) / min(candidate) > 3:
            (axis,) = np.flatnonzero(np.array(candidate) == max(candidate))
            break
    else:
        return whole(image, size)
    flat = [n for i, n in enumerate(size) if i != axis]
    planes = np.stack([whole(plane, flat) for plane in np.moveaxis(image, axis, 0)])
    places = len(planes) / size[axis] * (np.arange(size[axis]) + 0.5) - 0.5
    grid = np.meshgrid(places, *map(np.arange, flat), indexing="ij")
    return np.moveaxis(ndimage.map_coordinates(planes, grid, order=0, mode="nearest"), 0, axis)


def slide(network, data, patch):
    missing = [max(p - n, 0) for p, n in zip(patch, data.shape[1:], strict=True)]
    padding = [(0, 0), *((more // 2, more - more // 2) for more in missing)]
    padded = torch.from_numpy(np.pad(data, padding))
    weights = np.zeros(patch)
    weights[tuple(n // 2 for n in patch)] = 1
    weights = ndimage.gaussian_filter(weights, [n / 8 for n in patch], mode="constant")
    weights = torch.from_numpy(np.maximum(weights / weights.max(), 1e-8)).float()
    starts = []
    for length, size in zip(padded.shape[1:], patch, strict=True):
        count = int(np.ceil((length - size) / (size * 0.5))) + 1
        step = (length - size) / (count - 1) if count > 1 else 0
        starts.append([int(np.round(step * n)) for n in range(count)])
    total = torch.zeros((3, *padded.shape[1:]))
    weight = torch.zeros(padded.shape[1:])
    with torch.inference_mode():
        for d in starts[0]:
            for h in starts[1]:
                for w in starts[2]:
                    at = slice(d, d + patch[0]), slice(h, h + patch[1]), slice(w, w + patch[2])
                    total[(slice(None), *at)] += network(padded[(None, slice(None), *at)])[0] * (
                        weights
                    )
                    weight[at] += weights
    inner = (slice(low, low + n) for (low, _), n in zip(padding[1:], data.shape[1:], strict=True))
    return (total / weight)[(slice(None), *inner)].numpy()


def require_same(folder: Path, scan: Scan) -> None:
    expected, found = nnunets(folder, scan), ours(folder, scan)
    assert len(np.unique(expected)) > 1
    assert np.count_nonzero(expected != found) <= 1e-3 * expected.size


CT = {"normalization_schemes": ["CTNormalization"]}
MASKED = {"use_mask_for_norm": [True]}


@pytest.mark.parametrize(
    ("spacing", "of_scan"),
    [
        ([1.5, 1.5, 1.5], (1.5, 1.5, 1.5)),  # nothing is resampled
        ([1.5, 1.5, 1.5], (1.1, 2.3, 1.7)),
        ([4.0, 1.0, 1.2], (5.0, 0.9, 1.3)),  # the nearest plane, both ways
        ([1.0, 1.0, 1.0], (4.0, 1.1, 0.9)),  # likewise, as the scan's planes lie far apart
        ([1.0, 3.9, 1.0], (1.2, 1.1, 0.9)),  # likewise, as the network's do
    ],
)
def test_resampled_as_nnunet_does(tmp_path, spacing, of_scan):
    folder = write_model_folder(tmp_path, spacing=spacing, configuration=CT)
    require_same(folder, a_scan((21, 24, 19), of_scan))


@pytest.mark.parametrize("settings", [{}, CT, MASKED], ids=["z-score", "CT", "masked"])
def test_normalized_as_nnunet_does(tmp_path, settings):
    folder = write_model_folder(tmp_path, configuration=settings)
    require_same(folder, a_scan((14, 22, 17), (1.5, 1.5, 1.5)))


def test_each_channel_is_normalized_in_its_own_way(tmp_path):
    schemes = ["CTNormalization", "ZScoreNormalization", "NoNormalization"]
    schemes += ["RescaleTo01Normalization", "ZScoreNormalization"]
    folder = write_model_folder(
        tmp_path,
        channels={"0": "CT", "1": "T1", "2": "ADC", "3": "T2", "4": "FLAIR"},
        configuration={
            "normalization_schemes": schemes,
            "use_mask_for_norm": [False, True, False, False, False],
        },
    )
    require_same(folder, a_scan((13, 20, 17), (1.5, 1.5, 1.5), channels=5))


@pytest.mark.parametrize("order", [[0, 2, 1], [1, 2, 0], [2, 0, 1]])
def test_axes_are_transposed_as_the_plans_say(tmp_path, order):
    folder = write_model_folder(
        tmp_path, spacing=[1.0, 2.0, 1.5], configuration=CT, plans={"transpose_forward": order}
    )
    require_same(folder, a_scan((15, 22, 19), (1.3, 1.8, 1.1)))


def test_a_scan_smaller_than_a_patch_is_padded_as_by_nnunet(tmp_path):
    folder = write_model_folder(tmp_path, configuration=CT)
    require_same(folder, a_scan((9, 11, 9), (1.5, 1.5, 1.5)))


@pytest.mark.parametrize("network", [residual_network, network_before_2_2])
def test_networks_of_both_kinds_and_of_both_formats(tmp_path, network):
    folder = write_model_folder(tmp_path, network=network())
    require_same(folder, a_scan((13, 20, 17), (1.5, 1.5, 1.5)))


def test_the_whole_way_from_the_folder_and_from_the_library(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    folder = write_model_folder(tmp_path / "weights", configuration=CT)
    scan = a_scan((13, 20, 17), (1.5, 1.5, 1.5))
    image = sitk.GetImageFromArray(scan.array[0])
    image.SetSpacing((1.5, 1.5, 1.5))
    sitk.WriteImage(image, tmp_path / "scan.nii.gz")
    expected = nnunets(folder, scan)

    imported = medptq.import_model(folder)

    for network in (folder, imported.id):
        [found] = medptq.segment(
            network, tmp_path / "scan.nii.gz", engine="pytorch", precision="fp32"
        )
        assert np.count_nonzero(found.segmentation.labels != expected) <= 1e-3 * expected.size
