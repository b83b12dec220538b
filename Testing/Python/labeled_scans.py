"""A small data set: scans with label maps, and a network that finds what is in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

SHAPE = (20, 18, 22)


def write_pair(folder: Path, name: str, seed: int, labels: tuple[int, int] = (1, 2)) -> None:
    """Write a noisy scan with two blocks of other brightness, and the label map of the blocks."""
    random = np.random.default_rng(seed)
    truth = np.zeros(SHAPE, dtype=np.uint8)
    k, j, i = (int(n) for n in random.integers(3, 6, 3))
    truth[k : k + 10, j : j + 9, i : i + 11] = labels[0]
    truth[k : k + 5, j : j + 6, i : i + 6] = labels[1]
    image = random.normal(10, 4, SHAPE) + 40.0 * (truth == labels[0]) + 80.0 * (truth == labels[1])
    for part, array in (("images", image.astype(np.float32)), ("labels", truth)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        written = sitk.GetImageFromArray(array)
        written.SetSpacing((1.0, 1.5, 2.0))
        written.SetOrigin((-12.0, 30.0, 7.0))
        sitk.WriteImage(written, str(folder / part / f"{name}.nii.gz"))


def write_channels(path: Path) -> None:
    """Make a scan one of two channels: itself, and its negative."""
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.JoinSeries([image, -image]), str(path))


def write_data_set(folder: Path, **fields: Any) -> Path:
    """Write six pairs and their description; return the description's path."""
    names = [f"scan{number}" for number in range(6)]
    for number, name in enumerate(names):
        write_pair(folder, name, number)
    (folder / "split.json").write_text(json.dumps({"train": names[:3], "test": names[3:]}))
    return describe(folder, **fields)


def describe(folder: Path, **fields: Any) -> Path:
    """Write the description of a data set; a field of None is left out."""
    content = {
        "name": "blocks",
        "image": "images/{}.nii.gz",
        "label": "labels/{}.nii.gz",
        "split": "split.json",
        **fields,
    }
    path = folder / "blocks.json"
    path.write_text(json.dumps({name: x for name, x in content.items() if x is not None}))
    return path
