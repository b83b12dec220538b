"""Networks of few bits: what is rounded, to what, and that INT8 comes out as it is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medptq.engines.simulated import SimulatedSession
from medptq.errors import QuantizationError
from medptq.graph.executor import GraphExecutor
from medptq.graph.loading import load_graph
from medptq.graph.simplify import simplify
from medptq.inference.sliding import sliding_window
from medptq.models.loading import load_model
from medptq.progress import Reporter
from medptq.quantization.calibration import CalibrationPatches
from medptq.quantization.quantizing import quantize_model
from medptq.quantization.recipe import Recipe
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.simulating import simulate
from medptq.scans.finding import find_scans
from medptq.scans.prepared import AxisMap, PreparedScan
from quantization_helpers import SmallUNet, export
from small_networks import one_thread
from tiny_network import write_network, write_scan


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    torch.manual_seed(0)
    return export(SmallUNet(), (1, 1, 16, 16, 16), tmp_path_factory.mktemp("s") / "net.onnx")


@pytest.fixture(scope="module")
def patches():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 1, 16, 16, 16, generator=generator).numpy() for _ in range(3)]


def _error(network, reference, patches):
    outputs = [torch.from_numpy(patch) for patch in patches]
    return sum(float((network.run(x) - reference(x)).square().sum()) for x in outputs)


def _small_unet_on_disk(folder: Path) -> Path:
    """A network with all that OpenVINO's placement does something about."""
    path = write_network(folder)
    torch.manual_seed(2)
    export(SmallUNet(), (1, 1, 16, 16, 16), path)
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    card["preprocessing"] = [{"step": "scale_range", "from": [0, 100], "to": [-2, 2]}]
    path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    return path


@pytest.mark.parametrize("observer", ["max", "percentile", "mse", "entropy"])
def test_eight_bits_give_the_numbers_of_the_graph_that_quantize_writes(tmp_path, observer):
    model = load_model(_small_unet_on_disk(tmp_path / "net"))
    write_scan(tmp_path / "scans" / "a.nrrd")
    reporter, recipe = Reporter(), Recipe(observer, patches=2)
    sources = find_scans(tmp_path / "scans", reporter)
    patches = CalibrationPatches(model, sources, recipe, lambda *_: None, reporter)
    twin = quantize_model(model, patches, tmp_path / "twin", recipe=recipe)

    scheme = Scheme(observer=observer, placing="openvino")
    network = simulate(load_graph(model.onnx), scheme, list(patches))
    executor = GraphExecutor(twin.int8)
    with torch.inference_mode():
        for patch in patches:
            expected = executor.run(torch.from_numpy(patch))
            torch.testing.assert_close(
                network.run(torch.from_numpy(patch)), expected, rtol=0, atol=0
            )
            fp32 = network.run(torch.from_numpy(patch), layers=())
            assert not torch.equal(fp32, expected)


@pytest.mark.parametrize("granularity", ["tensor", "channel", "token", "voxel", "adaptive"])
@pytest.mark.parametrize("scales", ["static", "dynamic"])
def test_every_granularity_runs_and_is_close(unet, patches, granularity, scales):
    scheme = Scheme(8, 8, "channel", granularity, scales, observer="max")
    network = simulate(unet, scheme, patches)
    reference = GraphExecutor(simplify(unet, input_shape=(1, 1, 16, 16, 16)))
    with torch.inference_mode():
        energy = sum(float(reference.run(torch.from_numpy(p)).square().sum()) for p in patches)
        assert 0 < _error(network, reference.run, patches) < 1e-3 * energy


def test_adaptive_scales_lie_at_the_positions_that_pointwise_convolutions_read(tmp_path, patches):
    layers = torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 2, 1)
    graph = export(torch.nn.Sequential(*layers), (1, 1, 16, 16, 16), tmp_path / "n.onnx")
    network = simulate(graph, Scheme(activation_granularity="adaptive"), patches)
    [first, last] = (
        network.grids[layer.edges[0].value].scale.shape for layer in network.layers.values()
    )
    assert (first, last) == ((1, 1, 1, 1, 1), (1, 1, 16, 16, 16))


def test_with_no_layer_quantized_it_is_the_network(unet, patches):
    network = simulate(unet, Scheme(4, 4, observer="max"), patches)
    reference = GraphExecutor(unet)
    batch = torch.from_numpy(patches[0])
    with torch.inference_mode():
        torch.testing.assert_close(network.run(batch, layers=()), reference.run(batch))
    assert not torch.equal(network.run(batch), network.run(batch, layers=()))
    torch.testing.assert_close(network.run(batch), network.run(batch, layers=network.layers))


def test_fewer_bits_lose_more(unet, patches):
    reference = GraphExecutor(unet)
    with torch.inference_mode():
        errors = [
            _error(simulate(unet, Scheme(b, b, observer="max"), patches), reference.run, patches)
            for b in (8, 6, 4, 3, 2)
        ]
    assert errors == sorted(errors)


def test_each_reader_of_an_activation_has_its_own_granularity(tmp_path):
    class Fork(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv3d(1, 4, 3, padding=1)
            self.wide, self.point = torch.nn.Conv3d(4, 2, 3, padding=1), torch.nn.Conv3d(4, 2, 1)

        def forward(self, x):
            y = torch.relu(self.first(x))
            return self.wide(y) + self.point(y)

    torch.manual_seed(3)
    model = export(Fork(), (1, 1, 6, 6, 6), tmp_path / "f.onnx")
    patch = torch.randn(1, 1, 6, 6, 6)
    scheme = Scheme(8, 4, activation_granularity="adaptive", scales="dynamic", observer="max")
    network = simulate(model, scheme, [patch.numpy()])
    seen: dict[str, torch.Tensor] = {}
    edges = {name: layer.edges[0] for name, layer in network.layers.items()}
    values = {edge.value: name for name, edge in edges.items()}
    network.run(patch, on_tensor=lambda name, x: seen.update({values[name]: x}), watch=values)
    wide, point = seen["/wide/Conv"], seen["/point/Conv"]
    assert edges["/wide/Conv"].tensor == edges["/point/Conv"].tensor
    for channel in wide[0]:
        assert len(channel.unique()) <= 8, "one scale per channel, and nothing below 0"
    for voxel in point[0].flatten(1).T:
        assert len(voxel.unique()) <= 8, "one scale per voxel"
    assert len(wide.unique()) > 16
    assert len(point.unique()) > 16


def test_layers_can_be_left_out_or_have_more_bits(unet, patches):
    low = Scheme(3, 3, observer="max")
    batch = torch.from_numpy(patches[0])
    network = simulate(unet, low, patches)
    first, *_, last = network.layers
    mixed = simulate(unet, low, patches, overrides={first: None, last: Scheme(8, 8)})
    assert first not in mixed.layers
    assert mixed.layers[last].scheme == Scheme(8, 8)
    full = network.run(batch, layers=())
    assert (mixed.run(batch) - full).norm() < (network.run(batch) - full).norm()
    with pytest.raises(QuantizationError, match="no layer"):
        simulate(unet, low, patches, overrides={"elsewhere": None})


def test_what_openvino_joins_can_be_left_in_floating_point(unet, patches):
    scheme = Scheme(placing="openvino")
    names = simulate(unet, scheme, patches).layers
    [concat] = [name for name, layer in names.items() if layer.op_type == "Concat"]
    mixed = simulate(unet, scheme, patches, overrides={concat: None})
    assert set(names) - set(mixed.layers) == {concat}
    batch = torch.from_numpy(patches[0])
    assert not torch.equal(mixed.run(batch), mixed.run(batch, layers=()))


def test_activations_that_are_not_finite_are_told(unet, patches):
    broken = patches[0].copy()
    broken[0, 0, 3, 3, 3] = np.nan
    for granularity in ("tensor", "channel", "voxel"):
        with pytest.raises(QuantizationError, match="not a number"):
            simulate(unet, Scheme(activation_granularity=granularity), [patches[0], broken])


def test_it_slides_over_a_scan(unet, patches):
    array = np.random.default_rng(0).normal(size=(1, 20, 18, 16)).astype(np.float32)
    axes = tuple(AxisMap(a, 1.0, 0.0, n) for a, n in enumerate(array.shape[1:]))
    prepared = PreparedScan(array, axes, array.shape[1:])
    network = simulate(unet, Scheme(4, 8, activation_granularity="adaptive"), patches)
    with SimulatedSession(network) as session:
        assert session.layer_precisions() == {"w4a8": 6}
        slabs = [
            slab.values.clone() for slab in sliding_window(session, prepared, 0.5, 3, Reporter())
        ]
    assert torch.cat(slabs, dim=1).shape == (3, 20, 18, 16) or len(slabs) > 1
