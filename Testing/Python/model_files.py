"""Small networks, written as the files that a user would load."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medptq.models.card import EXAMPLE
from medptq.models.export import export_onnx
from medptq.progress import Reporter

PATCH = (16, 16, 16)


def network(classes: int = 2, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 4, 3, stride, 1), nn.ReLU(), nn.Conv3d(4, classes, 1))


def save_onnx(module: nn.Module, path: Path, shape: tuple[int, ...] = PATCH) -> Path:
    d, h, w = shape
    export_onnx(module, (1, 1, d, h, w), path, Reporter())
    return path


def save_torchscript(module: nn.Module, path: Path) -> Path:
    torch.jit.trace(module.eval(), torch.zeros(1, 1, *PATCH)).save(path)
    return path


def write_card(path: Path, **changes: Any) -> None:
    card = copy.deepcopy(dict(EXAMPLE)) | {"input": {"patch_size": list(PATCH)}} | changes
    path.write_text(json.dumps(card), encoding="utf-8")
