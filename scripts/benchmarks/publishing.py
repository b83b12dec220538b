"""What every benchmark's result carries, and where it is written."""

from __future__ import annotations

import datetime
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.networks.nets import UNet

import medptq
from medptq.engines.machine import describe_machine
from medptq.engines.selection import usable_engines

RESULTS = Path(__file__).parent / "results"


def circumstances() -> dict[str, Any]:
    """Return date, command, machine and versions."""
    machine = describe_machine()
    gpus = "".join(f", {gpu.name}" for gpu in machine.gpus)
    versions = {name: engine.availability().version for name, engine in usable_engines().items()}
    return {
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb:.0f} GB{gpus}, "
        f"{platform.system()}, Python {platform.python_version()}",
        "versions": {"medptq": medptq.__version__, **versions},
    }


def footer(report: dict[str, Any]) -> str:
    """Return the circumstances as the last lines of a Markdown table."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return f"\n{report['machine']}; {versions}. {report['date']}, `{report['command']}`.\n"


def publish(name: str, report: dict[str, Any], table: str) -> None:
    """Write the JSON and the Markdown table under results/, dated, and print the table."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{report['date']}"
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)


def monai_unet(classes: int) -> UNet:
    """Return MONAI's residual U-Net with seeded random weights."""
    import torch

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


def write_ct(path: Path, size: tuple[int, int, int], seed: int = 0) -> None:
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
    image.SetSpacing((0.8, 0.8, 1.0))
    sitk.WriteImage(image, str(path))


def write_card(path: Path, classes: int, patch: int, overlap: float) -> None:
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
            "patch_size": [patch] * 3,
            "axis_order": "KJI",
            "overlap": overlap,
        },
        "preprocessing": [{"step": "scale_range", "from": [-175, 250], "to": [0, 1], "clip": True}],
        "labels": [
            {"value": n, "name": f"Structure {n}", "color": [(97 * n) % 256, (57 * n) % 256, 128]}
            for n in range(1, classes)
        ],
        "source": "made by this benchmark",
        "licence": "Apache-2.0",
        "citation": "none",
    }
    path.write_text(json.dumps(card), encoding="utf-8")
