"""Small networks, as ONNX graphs, for the tests of quantization."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch

from medptq.graph.executor import GraphExecutor


def export(network: torch.nn.Module, shape: tuple[int, ...], path: Path) -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.zeros(shape),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["logits"],
        )
    return onnx.load(str(path))


class SmallUNet(torch.nn.Module):
    """Strided first convolution, residual addition, concatenation, transposed convolutions."""

    def __init__(self, classes: int = 3, channels: int = 8) -> None:
        super().__init__()
        self.down = torch.nn.Conv3d(1, channels, 3, 2, 1)
        self.norm = torch.nn.BatchNorm3d(channels)
        self.body = torch.nn.Conv3d(channels, channels, 3, 1, 1)
        self.deeper = torch.nn.Conv3d(channels, 2 * channels, 3, 2, 1)
        self.up = torch.nn.ConvTranspose3d(2 * channels, channels, 2, 2)
        self.merge = torch.nn.Conv3d(2 * channels, channels, 3, 1, 1)
        self.head = torch.nn.ConvTranspose3d(channels, classes, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.norm(self.down(x)))
        b = torch.relu(self.body(a) + a)
        c = torch.relu(self.up(torch.relu(self.deeper(b))))
        return self.head(torch.relu(self.merge(torch.cat([b, c], 1))))


def greatest_difference(
    one: onnx.ModelProto, other: onnx.ModelProto, batches: Sequence[torch.Tensor]
) -> float:
    """Return the greatest difference of two graphs' outputs."""
    with torch.inference_mode():
        return max(
            float((GraphExecutor(one).run(x) - GraphExecutor(other).run(x)).abs().max())
            for x in batches
        )
