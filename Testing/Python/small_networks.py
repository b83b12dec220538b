"""Every network that can be built by name, as small as its code paths allow."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

ONE, TWO, FLAT = (1, 1, 1), (2, 2, 2), (1, 2, 2)
CUBE, PLANE = (3, 3, 3), (1, 3, 3)

SMALL: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "unet": ({"base_features": 4}, (16, 16, 16)),
    "nnunet": (
        {
            "features_per_stage": (4, 8, 10),
            "kernel_sizes": (PLANE, CUBE, CUBE),
            "strides": (ONE, FLAT, TWO),
            "n_conv_per_stage": (2, 3, 2),
            "n_conv_per_stage_decoder": (2, 1),
        },
        (8, 16, 16),
    ),
    "nnunet-resenc": (
        {
            "features_per_stage": (4, 8, 8),
            "kernel_sizes": (PLANE, CUBE, CUBE),
            "strides": (ONE, FLAT, TWO),
            "n_blocks_per_stage": (1, 2, 2),
            "n_conv_per_stage_decoder": (1, 2),
        },
        (8, 16, 16),
    ),
    "segresnet": (
        {"init_filters": 8, "blocks_down": (1, 1, 1), "blocks_up": (1, 1)},
        (16, 16, 16),
    ),
    "vista3d": ({"encoder_embed_dim": 8, "class_indices": (3, 1, 25)}, (32, 16, 16)),
    "transunet": (
        {
            "image_size": (16, 16, 32),
            "base_channels": 4,
            "embed_dim": 24,
            "mlp_dim": 48,
            "num_heads": 3,
            "num_layers": 2,
        },
        (16, 16, 32),
    ),
    "swinunetr-t": ({"window_size": 4}, (64, 32, 32)),
    "unest": (
        {
            "image_size": 64,
            "feature_size": 1,
            "depths": (1, 1, 2),
            "num_heads": (1, 2, 4),
            "embed_dim": (8, 16, 32),
        },
        (64, 64, 64),
    ),
    "unetr": (
        {
            "img_size": (16, 16, 32),
            "feature_size": 4,
            "hidden_size": 24,
            "mlp_dim": 48,
            "num_heads": 3,
        },
        (16, 16, 32),
    ),
    "stunet-b": ({"width": 4, "depth": 2, "strides": (FLAT, TWO, TWO, ONE, ONE)}, (8, 16, 16)),
    "medformer": (
        {
            "base_channels": 4,
            "stage_channels": (8, 16, 24, 32, 24, 16, 8, 4),
            "conv_num": (2, 1, 0, 0, 1, 0, 1, 2),
            "trans_num": (0, 1, 1, 1, 2, 1, 0, 0),
            "num_heads": (1, 2, 3, 4, 3, 2, 1, 1),
            "map_size": (2, 3, 2),
            "fusion_dim": 16,
            "fusion_heads": 4,
            "fusion_depth": 1,
        },
        (8, 16, 32),
    ),
    "meshnet": ({"features": 4, "dilations": (1, 2, 4, 1)}, (16, 16, 16)),
    "monai-unet": ({"level_channels": (4, 8, 8), "strides": (2, 2)}, (16, 16, 16)),
    "monai-basicunet": ({"features": (4, 4, 4, 8, 8, 4)}, (32, 16, 16)),
    "monai-dynunet": (
        {"filters": (4, 8, 8), "kernel_size": (CUBE,) * 3, "strides": (ONE, TWO, TWO)},
        (16, 16, 16),
    ),
    "monai-segresnetds": ({"init_filters": 8, "blocks_down": (1, 1, 1)}, (16, 16, 16)),
    "monai-vnet": ({}, (16, 16, 16)),
}
"""Options and patch size; sizes of a family that only differ in width are there once."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread: such small networks are no work to share, only to wait for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fill(network: nn.Module) -> None:
    """Give each weight values that depend on its name alone: on its place among all names."""
    state = network.state_dict()
    for place, name in enumerate(sorted(state)):
        tensor = state[name]
        if not tensor.is_floating_point():
            continue
        waves = torch.sin(torch.arange(tensor.numel()) * 0.37 + place).reshape(tensor.shape)
        if tensor.ndim > 1:
            tensor.copy_(waves * (2.0 / tensor[0].numel()) ** 0.5)
        elif name.endswith(("weight", "running_var")):
            tensor.copy_(1 + 0.3 * waves)
        else:
            tensor.copy_(0.1 * waves)


def image(shape: tuple[int, ...]) -> Tensor:
    """Return waves of several lengths, in two images of a batch that differ."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count) ** 1.5 * 0.013).reshape(shape)


def sampled(output: Tensor) -> list[float]:
    """Return six of the output's values, evenly spread."""
    flat = output.flatten()
    return [round(float(value), 5) for value in flat[:: flat.numel() // 5 - 1][:6]]


def names_digest(network: nn.Module) -> str:
    """Return a digest of the names and shapes of a network's weights."""
    state = network.state_dict()
    lines = [f"{name} {tuple(state[name].shape)}" for name in sorted(state)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
