"""A small real network with its card and scans, for tests of the whole way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from quantization_helpers import export

PATCH = 16


class Brightness(torch.nn.Module):
    """Labels bright voxels 1 and very bright ones 2, after two convolutions that smooth a little.

    Its weights are set by hand, so that what it must find is known.
    """

    def __init__(self) -> None:
        super().__init__()
        self.smooth = torch.nn.Conv3d(1, 4, 3, padding=1)
        self.pick = torch.nn.Conv3d(4, 3, 1)
        with torch.no_grad():
            self.smooth.weight.fill_(0.02 / 27)
            self.smooth.weight[:, :, 1, 1, 1] += 0.98
            self.smooth.bias.copy_(torch.tensor([0.0, -0.3, -0.6, -0.9]))
            self.pick.weight.zero_()
            self.pick.weight[1, 1] = 4.0
            self.pick.weight[2, 2] = 12.0
            self.pick.bias.copy_(torch.tensor([0.1, 0.0, -0.9]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.pick(torch.relu(self.smooth(image)))


def write_network(folder: Path, name: str = "net") -> Path:
    """Write net.onnx and net.json; return the ONNX file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    export(Brightness(), (1, 1, PATCH, PATCH, PATCH), path)
    card = {
        "schema": 1,
        "id": "brightness",
        "title": "Brightness",
        "task": "Finds what is bright",
        "modality": "MR",
        "region": "Anywhere",
        "input": {"channels": 1, "patch_size": [PATCH] * 3, "axis_order": "KJI", "overlap": 0.25},
        "preprocessing": [{"step": "scale_range", "from": [0, 100], "to": [0, 1], "clip": True}],
        "labels": [
            {"value": 1, "name": "Bright", "color": [255, 153, 51]},
            {"value": 2, "name": "Very bright", "color": [51, 153, 255]},
        ],
        "source": "made by a test",
        "licence": "Apache-2.0",
        "citation": "none",
    }
    path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    return path


def write_scan(path: Path, shape: tuple[int, int, int] = (24, 22, 20), seed: int = 0) -> Path:
    """Write a dark scan with a bright and a very bright block in it, and noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    array = random.normal(10, 3, shape)
    k, j, i = (n // 4 for n in shape)
    array[k : 3 * k, j : 3 * j, i : 3 * i] += 40
    array[k : 2 * k, j : 2 * j, i : 2 * i] += 40
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((-12.0, 30.0, 7.0))
    image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path))
    return path
