"""What each way of recovery wins back on a network that was trained."""

from __future__ import annotations

import onnx_ir as ir
import pytest
import torch

from medptq.errors import Cancelled
from medptq.graph.simplify import simplify
from medptq.progress import Reporter
from medptq.quantization.placement import place_at_layers
from medptq.quantization.recovery.bias_correction import correct_biases
from medptq.quantization.recovery.clipping import fit_clipping
from medptq.quantization.recovery.equalization import equalize
from medptq.quantization.recovery.layer_samples import sample_layer
from medptq.quantization.recovery.recovering import Recovery, simulate_recovered
from medptq.quantization.recovery.rounding import choose_roundings
from medptq.quantization.recovery.smoothing import smooth
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.edges import with_edges
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import simulate
from quantization_helpers import greatest_difference
from trained_network import (  # noqa: F401 - fixtures
    SIZE,
    Hybrid,
    graph,
    images,
    on_one_thread,
    patches,
    trained,
    unseen,
    write,
)

W4A8 = Scheme(4, 8)
W4A4 = Scheme(4, 4)


def _error(network, batches, reference=None):
    """Squared error of the output, relative to the output in FP32."""
    error = energy = 0.0
    for batch in batches:
        expected = (reference or network).run(batch, ())
        error += float((network.run(batch) - expected).square().sum())
        energy += float(expected.square().sum())
    return error / energy


def _with_outliers(network: Hybrid) -> Hybrid:
    """The same function with channels of very different sizes, as many networks have them."""
    uneven = Hybrid()
    uneven.load_state_dict(network.state_dict())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for made, used, axis in (
            (uneven.down, uneven.deep[0].weight, 1),
            (uneven.middle, uneven.top.weight, 0),
            (uneven.merge, uneven.head.weight, 1),
            (uneven.norm, uneven.expand.weight, 1),
        ):
            norm = made if isinstance(made, torch.nn.LayerNorm) else made[1]
            factors = torch.exp(1.5 * torch.randn(len(norm.weight), generator=generator))
            if used is uneven.deep[0].weight:
                # What it makes is read elsewhere as well, through a concatenation.
                uneven.middle[0].weight[:, : len(factors)] /= factors[None, :, None, None, None]
            norm.weight *= factors
            norm.bias *= factors
            shape = [1] * used.ndim
            shape[axis] = -1
            used /= factors.reshape(shape)
    return uneven.eval()


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    model = write(_with_outliers(trained()), tmp_path_factory.mktemp("uneven") / "net.onnx")
    return simplify(model, input_shape=(1, 1, SIZE, SIZE, SIZE))


def test_the_network_learned_something():
    network = trained()
    image, label = images(4, 7)
    with torch.no_grad():
        assert float((network(image).argmax(1) == label).float().mean()) > 0.85


@pytest.mark.parametrize(("scheme", "at_most"), [(W4A8, 0.6), (Scheme(4, 4, signed=False), 0.95)])
def test_bias_correction(graph, patches, unseen, scheme, at_most):
    simulated = simulate(graph, scheme, patches)
    before = _error(simulated, unseen)
    correct_biases(simulated, patches)
    assert _error(simulated, unseen) < at_most * before


def test_corrected_channels_have_the_mean_of_fp32(graph, patches):
    simulated = simulate(graph, Scheme(3, 3), patches)
    correct_biases(simulated, patches)
    batches = [torch.from_numpy(patch) for patch in patches]
    means = [
        torch.stack([simulated.run(x, layers).mean((0, 2, 3, 4)) for x in batches]).mean(0)
        for layers in ((), None)
    ]
    torch.testing.assert_close(means[1], means[0], rtol=1e-3, atol=1e-3)


def test_equalization_keeps_the_function_and_evens_the_channels(uneven, patches, unseen):
    equal = equalize(uneven, patches)
    assert greatest_difference(uneven, equal, unseen) < 2e-3
    before = _error(simulate(uneven, W4A4, patches), unseen)
    assert _error(simulate(equal, W4A4, patches), unseen) < 0.5 * before


def test_smoothing_keeps_the_function_and_spares_the_outliers(uneven, patches, unseen):
    smoothed = smooth(uneven, patches)
    assert greatest_difference(uneven, smoothed, unseen) < 2e-3
    products = {node.name for node in uneven.graph.node if node.op_type == "MatMul"}

    def of_products(model):
        simulated = simulate(model, W4A4, patches)
        error = energy = 0.0
        for batch in unseen:
            full = simulated.run(batch, ())
            error += float((simulated.run(batch, products) - full).square().sum())
            energy += float(full.square().sum())
        return error / energy

    assert of_products(smoothed) < 0.7 * of_products(uneven)


def test_smoothing_folds_into_the_normalization_and_multiplies_elsewhere(graph, patches):
    smoothed = smooth(graph, patches)
    added = len(smoothed.graph.node) - len(graph.graph.node)
    products = [node for node in smoothed.graph.node if node.name.endswith("/channels")]
    assert added == len(products) == 1, "the one after GELU; the other is in the normalization"
    read = {name for node in smoothed.graph.node for name in node.input}
    assert all(tensor.name in read for tensor in smoothed.graph.initializer)


@pytest.mark.parametrize(
    ("scheme", "at_most"),
    [(W4A8, 0.45), (Scheme(4, 4, signed=False, fitted_weights=True), 0.7)],
)
def test_roundings(graph, patches, unseen, scheme, at_most):
    simulated = simulate(graph, scheme, patches)
    before = _error(simulated, unseen)
    found = choose_roundings(simulated, patches, steps=40, pieces=96)
    assert [row.layer for row in found] == list(simulated.layers)
    assert all(row.after <= row.before for row in found)
    assert _error(simulated, unseen) < at_most * before


def test_roundings_go_up_or_down_and_no_further(graph, patches):
    simulated = simulate(graph, W4A8, patches[:1])
    choose_roundings(simulated, patches[:1], steps=20, pieces=32)
    changed = 0
    for layer in simulated.layers.values():
        weight = layer.weight
        steps = (weight.quantized / weight.grid.scale).round()
        assert float((steps - weight.full / weight.grid.scale).abs().max()) < 1 + 1e-4
        assert steps.abs().max() <= 7
        changed += int((weight.quantized != weight.grid.nearest(weight.full)).sum())
    assert changed > 0


def test_roundings_are_the_same_every_time(graph, patches):
    outputs = []
    for _ in range(2):
        simulated = simulate(graph, W4A8, patches[:1])
        choose_roundings(simulated, patches[:1], steps=10, pieces=32, seed=3)
        outputs.append(simulated.run(torch.from_numpy(patches[0])))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("signed", [True, False])
def test_clipping(graph, patches, unseen, signed):
    simulated = simulate(graph, Scheme(4, 4, signed=signed), patches)
    before = _error(simulated, unseen)
    fit_clipping(simulated, patches, pieces=64)
    assert _error(simulated, unseen) < before


def test_ranges_that_are_not_symmetric(graph, patches, unseen):
    errors = [
        _error(simulate(graph, Scheme(4, 4, signed=signed), patches), unseen)
        for signed in (True, False)
    ]
    assert errors[1] < 0.7 * errors[0]


def test_fitted_weights(graph, patches, unseen):
    errors = [
        _error(simulate(graph, Scheme(4, 8, fitted_weights=fitted), patches), unseen)
        for fitted in (False, True)
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("model", ["graph", "uneven"])
def test_all_together(request, model, patches, unseen):
    graph = request.getfixturevalue(model)
    plain = simulate(graph, Scheme(4, 4, observer="max"), patches)
    scheme = Scheme(4, 4, signed=False, fitted_weights=True)
    ways = Recovery(
        budget=None, clipping=True, rounding_steps=30, biases=True, distillation_steps=0, pieces=64
    )
    recovered = simulate_recovered(graph, scheme, patches, ways)
    assert set(recovered.layers) == set(plain.layers)
    assert _error(recovered, unseen) < 0.3 * _error(plain, unseen)


def test_recovery_that_is_left_out_is_not_done(graph, patches):
    nothing = Recovery(budget=None, balance=False, distillation_steps=0)
    batch = torch.from_numpy(patches[0])
    found = simulate_recovered(graph, W4A8, patches, nothing).run(batch)
    assert torch.equal(found, simulate(graph, W4A8, patches).run(batch))


def test_recovery_can_be_cancelled(graph, patches):
    simulated = simulate(graph, W4A8, patches[:1])
    for way in (correct_biases, choose_roundings, fit_clipping):
        with pytest.raises(Cancelled):
            way(simulated, patches[:1], reporter=Reporter(cancelled=lambda: True))


@pytest.mark.parametrize(
    "scheme",
    [
        Scheme(4, 4, signed=False, fitted_weights=True),
        Scheme(4, 4, activation_granularity="voxel", observer="max"),
        Scheme(4, 4, activation_granularity="adaptive", scales="dynamic", observer="max"),
    ],
)
def test_all_that_is_computed_stays_on_the_networks_device(graph, patches, scheme):
    """On a device that computes shapes alone, and refuses to be mixed with the CPU as GPUs do."""
    model = ir.from_proto(graph)
    edged = with_edges(model, place_at_layers(model.graph))
    grids = simulate(graph, scheme, patches[:1]).grids
    schemes = dict.fromkeys(edged.nodes, scheme)
    elsewhere = SimulatedNetwork(
        edged, schemes, grids, (1, 1, SIZE, SIZE, SIZE), torch.device("meta")
    )
    batch = torch.empty(elsewhere.input_shape, device="meta")
    for layer in elsewhere.layers.values():
        samples = sample_layer(elsewhere, layer, [batch], 8, torch.Generator())
        found = samples.whole_output(samples.quantized, layer.weight.quantized)
        layer.correction = -samples.channel_means(found)
        if layer.channel_axis != 1:
            layer.correction = layer.correction.reshape(-1)
    output = elsewhere.run(batch)
    assert output.device.type == "meta"
    assert output.shape == (1, 3, SIZE, SIZE, SIZE)
