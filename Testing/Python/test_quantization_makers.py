"""Scales of channels are put where the channels are made, and the network computes what it did."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import nn

from medptq.graph.executor import GraphExecutor
from medptq.quantization.recipe import Recipe
from medptq.quantization.scheme import Scheme, scheme_of
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import simulate
from quantization_helpers import export
from small_networks import one_thread

SHAPE = (1, 3, 8, 8, 8)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


def conv(channels: int = 4, groups: int = 1) -> nn.Conv3d:
    return nn.Conv3d(3 if channels == 3 else 4, 4, 3, padding=1, groups=groups)


def uneven(network: nn.Module) -> nn.Module:
    """Give the channels of all weights, scales and biases very different sizes."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            sizes = torch.logspace(-1.5, 1.5, len(parameter))[torch.randperm(len(parameter))]
            parameter.mul_(sizes.reshape(-1, *[1] * (parameter.ndim - 1))).add_(0.01)
    return network


class Tokens(nn.Module):
    """A normalization whose output one, or three, linear layers read."""

    def __init__(self, readers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(3)
        self.readers = nn.ModuleList(nn.Linear(3, 5) for _ in range(readers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        found = sum(reader(tokens) for reader in self.readers)
        return found.transpose(1, 2).reshape(1, 5, 8, 8, 8)


class Skipping(nn.Module):
    """What the first convolution makes is read by two, of which one may see it without a scale."""

    def __init__(self, *, plain: bool) -> None:
        super().__init__()
        self.first, self.second, self.third = conv(3), conv(), conv()
        self.plain = plain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = torch.relu(self.first(x))
        return self.second(made) + (torch.sigmoid(made) if self.plain else self.third(made))


NETWORKS = {
    "relu": (nn.Sequential(conv(3), nn.ReLU(), conv()), 0),
    "parametric relu": (nn.Sequential(conv(3), nn.PReLU(4), conv()), 0),
    "groups": (nn.Sequential(conv(3), conv(groups=2), nn.ReLU(), conv(groups=2)), 0),
    "instance norm": (nn.Sequential(conv(3), nn.InstanceNorm3d(4, affine=True), conv()), 0),
    "instance norm without weights": (nn.Sequential(conv(3), nn.InstanceNorm3d(4), conv()), 0),
    "group norm": (nn.Sequential(conv(3), nn.GroupNorm(2, 4), nn.LeakyReLU(), conv()), 0),
    "pooling": (nn.Sequential(conv(3), nn.ReLU(), nn.MaxPool3d(2), conv()), 0),
    "two readers alike": (Skipping(plain=False), 0),
    "another reader": (Skipping(plain=True), 1),
    "sigmoid": (nn.Sequential(conv(3), nn.Sigmoid(), conv()), 1),
    # Its weight has one scale, which cannot follow the channels.
    "transposed": (nn.Sequential(conv(3), nn.ConvTranspose3d(4, 4, 3, 1, 1), conv()), 1),
    "layer norm": (Tokens(1), 0),
    "layer norm, three readers": (Tokens(3), 0),
}
IMAGE = 1  # nothing makes it, so it is multiplied


def products(network: SimulatedNetwork) -> list[str]:
    return [n.name for n in network.graph.model.graph.node if n.name.endswith("/channels")]


@pytest.fixture(scope="module", params=NETWORKS)
def case(request, tmp_path_factory) -> tuple[onnx.ModelProto, int]:
    module, left = NETWORKS[request.param]
    path = tmp_path_factory.mktemp("made") / "net.onnx"
    is_of_volumes = not isinstance(module, Tokens)
    return export(uneven(module), SHAPE, path), left + IMAGE * is_of_volumes


@pytest.mark.parametrize("bits", [4, 8])
def test_channels_are_scaled_where_they_are_made(case, bits):
    graph, left = case
    patch = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    patch *= torch.tensor([1e-2, 1, 30]).reshape(1, 3, 1, 1, 1)
    recipe = Recipe(activation_bits=bits, activation_granularity="channel")
    network = simulate(graph, scheme_of(recipe), [patch.numpy()])
    assert len(products(network)) == left
    with torch.inference_mode():
        expected = GraphExecutor(graph).run(patch)
        found = network.run(patch, ())
    scale = float(expected.abs().max())
    torch.testing.assert_close(found / scale, expected / scale, rtol=1e-4, atol=1e-5)


def test_weights_of_one_scale_are_not_multiplied_along_their_channels(tmp_path):
    module, _ = NETWORKS["relu"]
    graph = export(uneven(module), SHAPE, tmp_path / "net.onnx")
    patch = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).numpy()
    scheme = Scheme(
        weight_granularity="tensor", activation_granularity="channel", placing="openvino"
    )
    assert len(products(simulate(graph, scheme, [patch]))) == 1 + IMAGE


def test_scaling_where_channels_are_made_leaves_the_integers_as_they_were(tmp_path):
    """A weight's scales take all of it: its integers are those of the network without."""
    module, _ = NETWORKS["relu"]
    graph = export(uneven(module), SHAPE, tmp_path / "net.onnx")
    # The channels of the image are the same, so that dividing by them changes no weight.
    patch = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    patch = patch.repeat(1, 3, 1, 1, 1).numpy()
    integers = []
    for granularity in ("tensor", "channel"):
        recipe = Recipe(activation_granularity=granularity)
        weight = simulate(graph, scheme_of(recipe), [patch]).layers["/0/Conv"].weight
        assert weight is not None
        integers.append((weight.quantized / weight.grid.scale).round())
    assert len(integers[0].unique()) > 20
    assert torch.equal(*integers)
