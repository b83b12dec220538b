"""A network of few bits learns from its own output in FP32."""

from __future__ import annotations

import onnx_ir as ir
import pytest
import torch

from medptq.errors import Cancelled
from medptq.graph.executor import GraphExecutor
from medptq.graph.simplify import simplify
from medptq.progress import Reporter
from medptq.quantization.recovery.distillation import distil, output_loss
from medptq.quantization.recovery.recovering import Recovery, simulate_recovered
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.simulating import simulate
from medptq.quantization.writing import write_quantized
from quantization_helpers import export
from trained_network import graph, on_one_thread, patches, unseen  # noqa: F401 - fixtures

W4A4 = Scheme(4, 4, signed=False, fitted_weights=True)
ON_ENGINES = Scheme(4, 4, signed=False, fitted_weights=True, placing="openvino")


def _loss(network, batches):
    return sum(float(output_loss(network.run(x), network.run(x, ()))) for x in batches)


@pytest.mark.parametrize(
    ("scheme", "at_most"),
    [
        (W4A4, 0.6),
        (Scheme(4, 4, activation_granularity="channel", signed=False, fitted_weights=True), 0.6),
        # Its scales come with each patch and are not learned.
        (Scheme(4, 4, activation_granularity="adaptive", scales="dynamic", observer="max"), 0.85),
    ],
)
def test_patches_that_it_did_not_learn_from_come_out_better(
    graph, patches, unseen, scheme, at_most
):
    network = simulate(graph, scheme, patches)
    before = _loss(network, unseen)
    distil(network, patches, steps=24)
    assert _loss(network, unseen) < at_most * before


class Squeezed(torch.nn.Module):
    """A convolution whose channels are weighed by a single value."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv3d(1, 8, 3, padding=1)
        self.squeeze, self.excite = torch.nn.Linear(8, 1), torch.nn.Linear(1, 8)
        self.last = torch.nn.Conv3d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3, 4))))))
        return self.last(x * weights[:, :, None, None, None])


def test_a_layer_of_one_value_does_not_keep_the_others_from_learning(tmp_path):
    shape = (1, 1, 8, 8, 8)
    squeezed = export(Squeezed().eval(), shape, tmp_path / "net.onnx")
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(shape, generator=generator).numpy() for _ in range(4)]
    network = simulate(simplify(squeezed, input_shape=shape), Scheme(3, 3), images)
    batches = [torch.from_numpy(image) for image in images]
    before = _loss(network, batches)
    distil(network, images, steps=24)
    assert _loss(network, batches) < 0.9 * before


def test_all_that_it_learned_is_on_grids(graph, patches):
    network = simulate(graph, W4A4, patches)
    distil(network, patches, steps=4)
    for layer in network.layers.values():
        weight = layer.weight
        steps = weight.quantized / weight.grid.scale
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
        assert steps.abs().max() <= 7.001
        assert layer.correction is not None
    assert all(grid.steps == 15 and bool((grid.scale > 0).all()) for grid in network.grids.values())


def test_what_it_learned_can_be_taken_back(graph, patches):
    network = simulate(graph, W4A4, patches)
    batch = torch.from_numpy(patches[0])
    before, kept = network.run(batch), network.state()
    distil(network, patches[:1], steps=2)
    assert not torch.equal(network.run(batch), before)
    network.restore(kept)
    assert torch.equal(network.run(batch), before)
    for layer in network.layers.values():
        assert torch.equal(layer.weight.grid.nearest(layer.weight.full), layer.weight.quantized)


def test_it_learns_the_same_every_time(graph, patches):
    outputs = []
    for _ in range(2):
        network = simulate(graph, W4A4, patches)
        distil(network, patches, steps=3, seed=3)
        outputs.append(network.run(torch.from_numpy(patches[0])))
    assert torch.equal(*outputs)


def test_learning_can_be_cancelled(graph, patches):
    network = simulate(graph, W4A4, patches[:1])
    with pytest.raises(Cancelled):
        distil(network, patches[:1], reporter=Reporter(cancelled=lambda: True))


def test_the_loss_counts_outputs_of_one_class_and_of_several():
    for classes in (1, 3):
        wanted = torch.randn(1, classes, 4, 4, 4, generator=torch.Generator().manual_seed(0))
        assert float(output_loss(wanted, wanted)) == pytest.approx(0, abs=1e-6)
        assert float(output_loss(wanted + 0.5 * wanted.square(), wanted)) > 0.01


def test_what_was_recovered_runs_as_integers(graph, patches, unseen):
    recovery = Recovery(distillation_steps=6)
    network = simulate_recovered(graph, ON_ENGINES, patches, recovery)
    quantized, _ = write_quantized(network)
    kinds = [node.op_type for node in ir.from_proto(quantized).graph]
    assert kinds.count("QuantizeLinear") < 2 * len(network.layers)
    with torch.inference_mode():
        found = GraphExecutor(quantized).run(unseen[0])
    expected = network.run(unseen[0])
    assert float((found - expected).square().mean() / expected.var()) < 1e-3
