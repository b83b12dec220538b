"""A small network that was trained, so that there is something for few bits to lose."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, cross_entropy

from medptq.graph.simplify import simplify
from quantization_helpers import export
from small_networks import one_thread

SIZE = 16
CLASSES = 3


class Hybrid(nn.Module):
    """A U-Net with one level, whose bottom is a transformer's block."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.first = self._convolution(1, width)
        self.down = self._convolution(width, 2 * width, stride=2)
        self.deep = self._convolution(2 * width, 2 * width, stride=2)
        self.norm = nn.LayerNorm(2 * width)
        self.expand = nn.Linear(2 * width, 4 * width)
        self.contract = nn.Linear(4 * width, 2 * width)
        self.up = nn.ConvTranspose3d(2 * width, 2 * width, 2, 2)
        self.middle = self._convolution(4 * width, 2 * width)
        self.top = nn.ConvTranspose3d(2 * width, width, 2, 2)
        self.merge = self._convolution(2 * width, width)
        self.head = nn.Conv3d(width, CLASSES, 1)

    @staticmethod
    def _convolution(channels: int, filters: int, stride: int = 1) -> nn.Module:
        return nn.Sequential(
            nn.Conv3d(channels, filters, 3, stride, 1), nn.BatchNorm3d(filters), nn.LeakyReLU(0.01)
        )

    def forward(self, image: Tensor) -> Tensor:
        fine = self.first(image)
        coarse = self.down(fine)
        deep = self.deep(coarse)
        tokens = deep.flatten(2).transpose(1, 2)
        tokens = tokens + self.contract(nn.functional.gelu(self.expand(self.norm(tokens))))
        deep = tokens.transpose(1, 2).reshape(deep.shape)
        coarse = self.middle(torch.cat([coarse, self.up(deep)], 1))
        return self.head(self.merge(torch.cat([fine, self.top(coarse)], 1)))


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy images [count, 1, 16, 16, 16] of smooth blobs, and what class each voxel is."""
    generator = torch.Generator().manual_seed(seed)
    field = torch.randn(count, 1, SIZE + 8, SIZE + 8, SIZE + 8, generator=generator)
    field = avg_pool3d(avg_pool3d(field, 5, 1), 5, 1) * 30
    labels = (field > 0.3).long() + (field > 1.2).long()
    noise = torch.randn(labels.shape, generator=generator)
    return labels.float() + 0.6 * noise, labels[:, 0]


@functools.cache
def _weights(seed: int, steps: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    network = Hybrid()
    optimizer = torch.optim.Adam(network.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, total_steps=steps)
    for step in range(steps):
        image, label = images(4, 1000 + step)
        optimizer.zero_grad()
        cross_entropy(network(image), label).backward()
        optimizer.step()
        schedule.step()
    return network.state_dict()


def trained(seed: int = 0, steps: int = 150) -> Hybrid:
    """Return the network, trained for some seconds; the same each time."""
    network = Hybrid()
    network.load_state_dict(_weights(seed, steps))
    return network.eval()


def write(network: nn.Module, path: Path) -> onnx.ModelProto:
    """Write the network as ONNX and return it."""
    return export(network, (1, 1, SIZE, SIZE, SIZE), path)


# Fixtures, for test files to import.


@pytest.fixture(scope="module", autouse=True)
def on_one_thread() -> Iterator[None]:
    """Whatever the number of cores, the same sums."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """The network as it is quantized."""
    model = write(trained(), tmp_path_factory.mktemp("trained") / "net.onnx")
    return simplify(model, input_shape=(1, 1, SIZE, SIZE, SIZE))


@pytest.fixture(scope="module")
def patches() -> list[np.ndarray]:
    """What it is calibrated on."""
    return [images(1, 5000 + n)[0].numpy() for n in range(4)]


@pytest.fixture(scope="module")
def unseen() -> list[Tensor]:
    """What it was not."""
    return [images(1, 9000 + n)[0] for n in range(4)]
