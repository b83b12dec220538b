"""What is measured of each layer: by itself, beside all others, and of its numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medptq.errors import Cancelled
from medptq.graph.simplify import simplify
from medptq.progress import Progress, Reporter
from medptq.quantization.agreement import LabelTally, labels_of
from medptq.quantization.distributions import _Counts, distributions_of
from medptq.quantization.scheme import Scheme
from medptq.quantization.sensitivity import affordable, sensitivity_of
from medptq.quantization.simulation.simulating import simulate
from small_networks import one_thread
from trained_network import SIZE, images, trained, write

W4A4 = Scheme(4, 4, signed=False)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def patches():
    return [images(1, 5000 + n)[0].numpy() for n in range(2)]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory, patches):
    path = tmp_path_factory.mktemp("trained") / "net.onnx"
    model = write(trained(steps=60), path)
    graph = simplify(model, input_shape=(1, 1, SIZE, SIZE, SIZE))
    return simulate(graph, W4A4, patches)


def test_a_flipped_layer_is_as_if_the_network_had_been_run_so_from_the_start(simulated, patches):
    batch = torch.from_numpy(patches[0])
    names = set(simulated.layers)
    for layers in (set(), names):
        found = {}
        whole = simulated.run_flipped(batch, layers, found.__setitem__)
        assert found.keys() == names
        assert torch.equal(whole, simulated.run(batch, layers))
        for name, output in found.items():
            assert torch.equal(output, simulated.run(batch, layers ^ {name})), name


def test_progress_goes_to_the_end_and_cancel_stops_it(simulated, patches):
    seen: list[Progress] = []
    sensitivity_of(simulated, patches[:1], Reporter(on_progress=seen.append))
    assert seen[0].done == 0
    assert seen[-1].done == seen[-1].total == 2 * len(simulated.layers)
    assert seen[len(seen) // 2].eta_seconds is not None
    with pytest.raises(Cancelled):
        sensitivity_of(simulated, patches, Reporter(cancelled=lambda: True))


def test_no_study_is_without_a_patch(simulated, patches):
    assert 1 <= affordable(simulated, patches) <= len(patches)


def test_distributions_count_every_value_before_and_after(simulated, patches):
    found = distributions_of(simulated, patches)
    assert found.keys() == simulated.layers.keys()
    for name, layer in simulated.layers.items():
        weight = found[name].weight
        assert weight is not None
        assert sum(weight.before) == sum(weight.after) == layer.weight.full.numel()
        assert weight.minimum == float(layer.weight.full.min())
        assert (weight.lowest, weight.highest) == (-7, 7)
        assert len(found[name].inputs) == len(layer.edges)
        # After quantization there is nothing between the whole numbers, and nothing beyond.
        for one in (weight, *found[name].inputs):
            filled = np.flatnonzero(one.after)
            centres = one.first_edge + (filled + 0.5) * one.bin_width
            assert (np.abs(centres - np.rint(centres)) <= one.bin_width / 2 + 1e-9).all()
            assert centres.min() > one.lowest - 1
            assert centres.max() < one.highest + 1
    [first] = found[next(iter(found))].inputs
    image = np.stack(patches)
    assert sum(first.before) == image.size
    assert first.minimum == image.min()
    assert first.maximum == image.max()


def test_the_signal_to_noise_is_that_of_the_rounding(simulated, patches):
    name, layer = next(iter(simulated.layers.items()))
    [found] = distributions_of(simulated, patches)[name].inputs
    values = torch.from_numpy(np.stack(patches)).double()
    error = simulated.grids[layer.edges[0].value].nearest(values.float()).double() - values
    expected = 10 * torch.log10(values.square().sum() / error.square().sum())
    assert found.signal_to_noise_db == pytest.approx(float(expected), abs=1e-3)


def test_dice_is_the_mean_over_the_structures_that_either_found():
    tally = LabelTally()
    tally.add(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 1, 0]))
    tally.add(torch.tensor([0, 0]), torch.tensor([0, 4]))
    assert tally.voxels_equal == pytest.approx(4 / 6)
    assert tally.structures == {1: 1.0, 2: 0.0, 4: 0.0}
    assert tally.dice == pytest.approx((1 + 0 + 0) / 3)
    empty = LabelTally()
    empty.add(torch.tensor([0, 0]), torch.tensor([0, 0]))
    assert empty.dice == 1.0


def test_one_class_is_what_lies_above_zero():
    output = torch.tensor([-1.0, 0.0, 2.0]).reshape(1, 1, 1, 1, 3)
    assert labels_of(output).flatten().tolist() == [0, 0, 1]
    two = torch.cat([-output, output], 1)
    assert labels_of(two).flatten().tolist() == [0, 0, 1]


def test_the_layer_that_was_made_sensitive_is_found(tmp_path):
    fragile = "/middle/middle.0/Conv"
    model = write(trained(), tmp_path / "net.onnx")
    graph = simplify(model, input_shape=(1, 1, SIZE, SIZE, SIZE))
    patches = [images(1, 5000 + n)[0].numpy() for n in range(4)]
    simulated = simulate(
        graph, Scheme(8, 8), patches, overrides={fragile: Scheme(2, 2, observer="max")}
    )
    found = sensitivity_of(simulated, patches)
    assert {row.layer for row in found.layers} == set(simulated.layers)
    worst = found.layers[0]
    assert worst.layer == fragile
    assert worst.weights == simulated.layers[fragile].weight.full.numel()
    assert worst.alone.voxels_equal < 1
    assert worst.alone.dice < 1
    assert worst.all_but.output_error < min(row.all_but.output_error for row in found.layers[1:])
    dice = [row.alone.dice for row in found.layers]
    assert dice == sorted(dice)
    assert found.together.output_error >= worst.all_but.output_error


def test_more_values_are_counted_than_floating_point_tells_apart(simulated):
    counts = _Counts(next(iter(simulated.grids.values())))
    zeros = torch.zeros(20_000_000)
    counts.add(zeros, zeros)
    assert sum(counts.result().before) == 20_000_000
