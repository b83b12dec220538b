"""The data sets that train.py trains on: their files, splits and cards, and how they are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medptq.benchmarking.data_set import DataSet, Pair, read_data_set
from medptq.scans.preprocessing import Step, prepare

DATA_SETS = Path(__file__).with_name("data_sets")
AXIS_ORDER = "IJK"
_SPATIAL = ("orient", "spacing")  # the steps that labels go through as well


@dataclass(frozen=True)
class Dataset:
    """What is the same on the cards of all networks of a data set.

    Attributes:
        name: Of its folder, and of its description in ``data_sets/``.
        card: Fields of the card.
        overlap: Of sliding windows, as the card has it.
    """

    name: str
    card: Mapping[str, Any]
    overlap: float = 0.5

    def at(self, folder: Path) -> DataSet:
        """Return its pairs, which lie in ``folder``."""
        return read_data_set(DATA_SETS / f"{self.name}.json", folder)

    def split(self) -> dict[str, Sequence[str]]:
        """Return the names of the pairs for ``train``, ``validation`` and ``test``."""
        return dict(self.at(Path()).split)


def _normalized(mm: float) -> list[dict[str, Any]]:
    return [
        {"step": "orient", "to": "RAS"},
        {"step": "spacing", "mm": [mm, mm, mm]},
        {"step": "clip_percentiles", "low": 0.5, "high": 99.5},
        {"step": "zscore"},
    ]


# Both may be mirrored left to right: neither's labels tell the sides apart.
DATASETS = {
    "hippocampus": Dataset(
        name="hippocampus",
        card={
            "task": "Anterior and posterior hippocampus",
            "modality": "MR T1w",
            "region": "Hippocampus, cropped to a box around one",
            "preprocessing": _normalized(1),
            "labels": "msd-hippocampus",
            "source": "Trained by scripts/train.py on scans of task 4 of the Medical Segmentation "
            "Decathlon (medicaldecathlon.com)",
            "licence": "CC BY-SA 4.0",
            "citation": "Antonelli et al., The Medical Segmentation Decathlon, Nature "
            "Communications 13, 2022; Simpson et al., arXiv:1902.09063",
        },
    ),
    "ixi2mm_dlmuse": Dataset(
        name="ixi2mm_dlmuse",
        card={
            "task": "12 groups of brain regions",
            "modality": "MR T1w",
            "region": "Head",
            "preprocessing": _normalized(2),
            "labels": "dlmuse-12",
            "source": "Trained by scripts/train.py on scans of IXI (brain-development.org) with "
            "labels that the network DLMUSE made (github.com/CBICA/NiChart_Project)",
            "licence": "Images CC BY-SA 3.0 (IXI); labels under the SBIA Agreement 1.1 of NiChart: "
            "for research only, not for clinical use",
            "citation": "IXI data set, brain-development.org; NiChart, "
            "github.com/CBICA/NiChart_Project",
        },
        overlap=0.25,
    ),
}


def read_pairs(dataset: Dataset, folder: Path, names: Sequence[str]) -> list[Pair]:
    """Read pairs of a data set whose files lie in ``folder``."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(dataset.at(folder).read, names))


@dataclass(frozen=True)
class Volumes:
    """Prepared pairs on the device, all centred in arrays of one size.

    Attributes:
        images: float32 [N, 1, D, H, W], at least 0: the network's input less its ``lows``.
        labels: uint8 [N, 1, D, H, W].
        lows: Smallest intensity of each, which surrounds small scans at inference, float32 [N].
    """

    images: Tensor
    labels: Tensor
    lows: Tensor


def prepared_volumes(
    pairs: Sequence[Pair], steps: Sequence[Step], patch: Sequence[int], device: torch.device
) -> Volumes:
    """Prepare pairs as the steps of a card say, and keep them on the device."""
    spatial = [dict(step) for step in steps if step["step"] in _SPATIAL]
    for step in spatial:
        if step["step"] == "spacing":
            step["interpolation"] = "nearest"

    def prepared(pair: Pair) -> tuple[Tensor, Tensor]:
        image = prepare(pair.scan, steps, AXIS_ORDER).array
        map_scan = replace(pair.scan, array=pair.labels[np.newaxis].astype(np.float32))
        labels = prepare(map_scan, spatial, AXIS_ORDER).array.astype(np.uint8)
        return torch.from_numpy(image), torch.from_numpy(labels)

    with ThreadPoolExecutor(8) as pool:
        arrays = list(pool.map(prepared, pairs))
    size = np.max([patch, *(image.shape[1:] for image, _ in arrays)], axis=0)
    images = torch.zeros((len(arrays), 1, *size))
    labels = torch.zeros((len(arrays), 1, *size), dtype=torch.uint8)
    lows = torch.stack([image.min() for image, _ in arrays])
    for n, (image, label_map) in enumerate(arrays):
        # As medptq.scans.patches.pad_to centres a scan in a patch.
        firsts = [(whole - had) // 2 for whole, had in zip(size, image.shape[1:], strict=True)]
        box = tuple(
            slice(first, first + had) for first, had in zip(firsts, image.shape[1:], strict=True)
        )
        images[(n, 0, *box)] = image[0] - lows[n]
        labels[(n, 0, *box)] = label_map[0]
    return Volumes(images.to(device), labels.to(device), lows.to(device))


def draw_batch(volumes: Volumes, patch: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
    """Return augmented patches [count, 1, *patch], and their labels, on the device of both.

    Mirrored along the first axis, turned by up to 15 degrees about each, stretched by up to 20 %;
    then gamma, a smooth bias field, contrast, brightness and noise. PyTorch's own generators
    decide: that of the CPU, and for the noise that of the device.
    """
    images, device = volumes.images, volumes.images.device

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return (low + (high - low) * torch.rand(size)).to(device)

    index = torch.randint(len(images), (count,)).to(device)
    theta = _random_placement(images.shape[2:], patch, count).to(device)
    grid = torch.nn.functional.affine_grid(theta, [count, 1, *patch], align_corners=False)
    found = torch.nn.functional.grid_sample(images[index], grid, align_corners=False)
    labels = torch.nn.functional.grid_sample(
        volumes.labels[index].float(), grid, mode="nearest", align_corners=False
    )
    each = (count, 1, 1, 1, 1)
    top = found.amax((1, 2, 3, 4), keepdim=True).clamp_min(1e-3)
    field = torch.nn.functional.interpolate(
        uniform(-0.2, 0.2, count, 1, 3, 3, 3), list(patch), mode="trilinear", align_corners=True
    )
    found = top * (found / top) ** uniform(-0.4, 0.4, *each).exp() * field.exp()
    found = (found + volumes.lows[index].reshape(each)) * uniform(0.75, 1.25, *each)
    noise = torch.randn_like(found)
    return found + uniform(-0.2, 0.2, *each) + uniform(0, 0.15, *each) * noise, labels


def _random_placement(size: Sequence[int], patch: Sequence[int], count: int) -> Tensor:
    """Return where patches of mirrored, turned and stretched volumes are taken, [count, 3, 4]."""
    x, y, z = (math.pi / 12 * (2 * torch.rand(3, count) - 1)).unbind()
    zero = torch.zeros(count)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(count, 3, 3)
    stretch = (0.18 * (2 * torch.rand(count, 3) - 1)).exp()
    stretch[:, 0] *= torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    matrix = torch.linalg.matrix_exp(skew) * stretch[:, None]
    whole, part = torch.tensor(size), torch.tensor(patch)
    # Anywhere in the volume, and where there is no room, a few voxels off the middle.
    room = ((whole - part) / 2).clamp_min(4)
    offset = (2 * torch.rand(count, 3) - 1) * room * 2 / whole
    # From the patch's coordinates to the volume's: both go from -1 to 1 over the edges.
    matrix = matrix * part / whole[:, None]
    return torch.cat([matrix.flip(1, 2), offset.flip(1)[..., None]], dim=2)
