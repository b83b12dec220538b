"""Which layers of a network of few bits get 8."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medptq.errors import Cancelled
from medptq.graph.loading import load_graph
from medptq.progress import Reporter
from medptq.quantization.mixed_precision import in_8_bits
from medptq.quantization.recovery.distillation import output_loss
from medptq.quantization.recovery.recovering import Recovery, simulate_recovered
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.simulating import simulate
from quantization_helpers import export
from trained_network import graph, on_one_thread, patches  # noqa: F401 - fixtures

W4A4 = Scheme(4, 4, signed=False, fitted_weights=True)
ON_ENGINES = Scheme(4, 4, signed=False, fitted_weights=True, placing="openvino")


def chosen(graph, patches, budget, scheme=W4A4):
    network = simulate(graph, scheme, patches)
    return network, in_8_bits(network, scheme, torch.from_numpy(patches[0]), budget)


def test_the_ends_have_8_bits(graph, patches):
    network, spared = chosen(graph, patches, 0.0, ON_ENGINES)
    names = list(network.layers)
    assert {names[0], names[-1]} <= spared.keys()
    joining = {layer.name for layer in network.layers.values() if layer.op_type == "Concat"}
    assert joining
    assert joining <= spared.keys()
    assert len(spared) < len(names) / 2 + 1
    assert {(scheme.name, scheme.signed) for scheme in spared.values()} == {("W8A8", True)}


def test_a_larger_budget_has_room_for_more_and_a_whole_one_for_all(graph, patches):
    found = [set(chosen(graph, patches, budget)[1]) for budget in (0.0, 0.2, 1.0)]
    network, _ = chosen(graph, patches, 0.0)
    assert found[0] < found[1] < found[2] == set(network.layers)


def test_the_output_is_nearer_to_fp32_the_larger_the_budget(graph, patches):
    batch = torch.from_numpy(patches[0])
    losses = []
    for budget in (0.0, 0.2, 1.0):
        _, overrides = chosen(graph, patches, budget)
        network = simulate(graph, W4A4, patches, overrides=overrides)
        losses.append(float(output_loss(network.run(batch), network.run(batch, ()))))
    assert losses[0] > losses[1] > losses[2]


class Unequal(nn.Module):
    """Between its ends: costly and harmless, costly and sensitive, cheap and sensitive."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv3d(1, 8, 1)
        self.harmless = nn.Conv3d(8, 8, 3, padding=1)
        self.costly = nn.Conv3d(8, 8, 3, padding=1)
        self.cheap = nn.Conv3d(8, 8, 1)
        self.last = nn.Conv3d(8, 2, 1)

    def forward(self, image):
        x = self.first(image)
        sensitive = self.cheap(torch.relu(x)) + self.costly(torch.relu(x))
        return self.last(sensitive + 1e-3 * self.harmless(torch.relu(x)))


@pytest.mark.parametrize(
    ("budget", "beside_the_ends"),
    [
        (0.01, set()),
        (0.1, {"/cheap/Conv"}),
        (0.55, {"/cheap/Conv", "/costly/Conv"}),
        (1.0, {"/cheap/Conv", "/costly/Conv", "/harmless/Conv"}),
    ],
)
def test_what_loses_most_for_its_multiplications_comes_first(tmp_path, budget, beside_the_ends):
    shape = (1, 1, 8, 8, 8)
    export(Unequal().eval(), shape, tmp_path / "net.onnx")
    patch = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    _, spared = chosen(load_graph(tmp_path / "net.onnx"), [patch.numpy()], budget)
    assert set(spared) == {"/first/Conv", "/last/Conv", *beside_the_ends}


def test_multiplications_count_what_is_made_or_read_if_it_is_transposed(tmp_path):
    """Both convolutions between the ends have as many, so a budget has room for both or one."""
    network = nn.Sequential(
        nn.Conv3d(1, 4, 1),
        nn.Conv3d(4, 4, 2, 2),
        nn.ConvTranspose3d(4, 4, 2, 2),
        nn.Conv3d(4, 2, 1),
    )
    shape = (1, 1, 8, 8, 8)
    export(network.eval(), shape, tmp_path / "net.onnx")
    patches = [torch.randn(shape, generator=torch.Generator().manual_seed(1)).numpy()]
    graph = load_graph(tmp_path / "net.onnx")
    ends, middle = 512 * 4 + 512 * 2 * 4, 64 * 4 * 4 * 8
    share = middle / (ends + 2 * middle)
    for budget, count in ((0.99 * share, 2), (1.01 * share, 3), (2.01 * share, 4)):
        assert len(chosen(graph, patches, budget)[1]) == count


def test_it_can_be_cancelled(graph, patches):
    network = simulate(graph, W4A4, patches)
    cancelled = Reporter(cancelled=lambda: True)
    with pytest.raises(Cancelled):
        in_8_bits(network, W4A4, torch.from_numpy(patches[0]), 0.2, cancelled)


def test_recovery_spares_the_ends_of_w4a8_and_more_of_w4a4(graph, patches):
    def count(scheme, budget):
        recovery = Recovery(budget=budget, balance=False, distillation_steps=0)
        layers = simulate_recovered(graph, scheme, patches, recovery).layers.values()
        return sum(layer.scheme.weight_bits == 8 for layer in layers)

    assert count(W4A4, None) == 0
    assert count(W4A4, 0.2) > count(W4A4, 0.0) > 0
    assert count(Scheme(4, 8), 0.2) == count(Scheme(4, 8), 0.0) == count(W4A4, 0.0)
