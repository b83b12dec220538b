"""How many windows a network runs at once on a GPU."""

from __future__ import annotations

import functools
import math

import torch

from medptq.engines.protocol import Engine
from medptq.models.segmentation_model import SegmentationModel

_FILLS_A_GPU = 1_200_000
"""Voxels that keep a GPU busy, about a window of 96³ and a third. On an H100 four such windows
take 10 to 17 % less time together than one after the other, for four times the memory; smaller ones
gain more, as starting their short operations takes as long as the work."""

_CHANNELS = 320
"""What a network holds at a time, in channels of FP32 at full resolution: ten times the 32 of a
usual first level, as was measured of U-Net, nnU-Net and SegResNet."""

_SHARE = 1 / 4
"""The share of the free memory that windows may take; the volume's blended outputs need theirs."""


def windows_at_once(model: SegmentationModel, engine: Engine) -> int:
    """Return how many windows to run at once: 1, 2 or 4; always 1 on a CPU.

    As many as it takes to keep the GPU busy, if its free memory holds them.

    Args:
        model: The network's card.
        engine: What runs it.
    """
    if not engine.availability().on_gpu:
        return 1
    return _decide_once(math.prod(model.patch_size), model.classes)


@functools.cache
def _decide_once(voxels: int, classes: int) -> int:
    """Decide for windows of so many voxels, once in a process.

    What its own sessions hold later on must not lead to another number, which would be built anew.
    """
    needed = 4 * voxels * (_CHANNELS + 3 * classes)
    room = _SHARE * free_gpu_memory()
    fitting = (
        count for count in (4, 2) if count * voxels <= _FILLS_A_GPU and count * needed <= room
    )
    return next(fitting, 1)


def free_gpu_memory() -> int:
    """Return the bytes of the GPU's memory that nobody holds; 0 where there is no GPU."""
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
