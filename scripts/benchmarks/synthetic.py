"""The network, the scan and the card that benchmarks make for themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

if TYPE_CHECKING:
    from monai.networks.nets import UNet


def monai_unet(classes: int) -> UNet:
    """Return MONAI's residual U-Net with seeded random weights."""
    import torch
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    return UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
        norm="batch",
    ).eval()


def write_ct(
    path: Path,
    size: tuple[int, int, int],
    seed: int = 0,
    spacing: tuple[float, float, float] = (0.8, 0.8, 1.0),
) -> None:
    """Write a body with organs in it and noise, in Hounsfield units, int16."""
    random = np.random.default_rng(seed)
    i, j, k = size
    volume = np.empty((k, j, i), np.int16)
    across = np.linspace(-1, 1, j, dtype=np.float32)[:, None]
    along = np.linspace(-1, 1, i, dtype=np.float32)[None]
    organs = random.uniform(-0.5, 0.5, (24, 3))
    radii, levels = random.uniform(0.1, 0.3, 24), random.uniform(-80, 250, 24)
    for index, height in enumerate(np.linspace(-1, 1, k, dtype=np.float32)):
        body = (across / 0.7) ** 2 + (along / 0.9) ** 2 < 1
        plane = np.where(body, np.float32(20), np.float32(-1000))
        for (z, y, x), radius, level in zip(organs, radii, levels, strict=True):
            plane[(height - z) ** 2 + (across - y) ** 2 + (along - x) ** 2 < radius**2] = level
        volume[index] = plane + random.standard_normal((j, i), np.float32) * np.float32(20)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def write_card(
    path: Path,
    classes: int,
    patch: int | tuple[int, int, int],
    overlap: float,
    axis_order: str = "KJI",
    first_steps: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the card of a benchmark's network: Hounsfield units scaled to 0 to 1."""
    card = {
        "schema": 1,
        "id": "benchmark",
        "title": "Benchmark",
        "task": "Benchmark",
        "modality": "CT",
        "region": "Abdomen",
        "input": {
            "channels": 1,
            "patch_size": [patch] * 3 if isinstance(patch, int) else patch,
            "axis_order": axis_order,
            "overlap": overlap,
        },
        "preprocessing": [
            *first_steps,
            {"step": "scale_range", "from": [-175, 250], "to": [0, 1], "clip": True},
        ],
        "labels": [
            {"value": n, "name": f"Structure {n}", "color": [(97 * n) % 256, (57 * n) % 256, 128]}
            for n in range(1, classes)
        ],
        "source": "made by this benchmark",
        "licence": "Apache-2.0",
        "citation": "none",
    }
    path.write_text(json.dumps(card), encoding="utf-8")
