"""Networks of few bits, written as graphs that INT8 kernels run: they compute what they did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

from medptq.engines import openvino
from medptq.engines.openvino import OpenVINOEngine, import_openvino
from medptq.engines.protocol import BuildRequest
from medptq.errors import QuantizationError
from medptq.graph.executor import GraphExecutor
from medptq.graph.external_data import save_graph
from medptq.progress import Reporter
from medptq.quantization.agreement import Tally
from medptq.quantization.recipe import OBSERVERS, Recipe
from medptq.quantization.recovery.recovering import Recovery, simulate_recovered
from medptq.quantization.scheme import Scheme, scheme_of
from medptq.quantization.simulation.grid import Grid
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import simulate
from medptq.quantization.writing import write_quantized
from quantization_helpers import SmallUNet, export
from small_networks import one_thread
from trained_network import images, trained, write

RECIPES = {
    "W8A8": Recipe(),
    **{
        f"W8A8 channel {observer}": Recipe(observer, activation_granularity="channel")
        for observer in OBSERVERS
    },
    "W4A8": Recipe(weight_bits=4),
    "W4A4": Recipe(weight_bits=4, activation_bits=4),
    "W4A4 channel": Recipe(weight_bits=4, activation_bits=4, activation_granularity="channel"),
    "W3A5 entropy": Recipe("entropy", weight_bits=3, activation_bits=5),
    "W4A6 channel entropy": Recipe(
        "entropy", weight_bits=4, activation_bits=6, activation_granularity="channel"
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """Return a trained network of convolutions and linear layers."""
    return write(trained(steps=60), tmp_path_factory.mktemp("trained") / "net.onnx")


@pytest.fixture(scope="module")
def patches():
    return [images(1, 5000 + n)[0].numpy() for n in range(4)]


def _outputs(run, patches: list[np.ndarray]) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [run(torch.from_numpy(patch)).clone() for patch in patches]


def _written(network: SimulatedNetwork) -> onnx.ModelProto:
    graph, scales = write_quantized(network)
    onnx.checker.check_model(graph, full_check=True)
    assert all(scale > 0 for scale in scales.values())
    return graph


def _operators(graph: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node]


# Whole networks


@pytest.mark.parametrize("name", RECIPES)
def test_the_graph_computes_what_is_simulated(graph, patches, name):
    network = simulate(graph, scheme_of(RECIPES[name]), patches)
    written = _written(network)
    expected, found = _outputs(network.run, patches), _outputs(GraphExecutor(written).run, patches)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0)
    assert not torch.equal(expected[0], _outputs(lambda x: network.run(x, ()), patches)[0])
    assert "Identity" not in _operators(written)


@pytest.mark.parametrize("name", RECIPES)
def test_openvino_runs_it_in_int8_and_finds_the_same(graph, patches, tmp_path, name):
    pytest.importorskip("openvino")
    network = simulate(graph, scheme_of(RECIPES[name]), patches)
    save_graph(_written(network), tmp_path / "int8.onnx")
    request = BuildRequest(tmp_path / "int8.onnx", "int8", network.input_shape)
    engine = OpenVINOEngine()
    if "int8" not in engine.availability().precisions:
        pytest.skip("this CPU has no INT8")
    engine.build(request, tmp_path / "built", Reporter())
    with engine.open(request, tmp_path / "built") as session:
        assert session.layer_precisions().keys() == {"int8"}
        as_built = _outputs(session.run, patches)

    # What is no INT8 the engine runs in BF16, where that is native. In FP32 it is the simulation.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino._read(request)
    model.reshape(list(network.input_shape))
    compiled = import_openvino().Core().compile_model(model, "CPU", exact)
    in_fp32 = [torch.from_numpy(next(iter(compiled([patch]).values())).copy()) for patch in patches]
    expected = _outputs(network.run, patches)
    for found, least in ((in_fp32, 0.9995), (as_built, 0.98)):
        tally = Tally()
        for one, other in zip(expected, found, strict=True):
            tally.add(one, other.float())
        assert tally.result().voxels_equal > least


def test_what_was_recovered_is_written(graph, patches):
    scheme = scheme_of(Recipe(weight_bits=4, activation_bits=4))
    network = simulate_recovered(graph, scheme, patches, Recovery(distillation_steps=4))
    tally = Tally()
    for one, other in zip(
        _outputs(network.run, patches),
        _outputs(GraphExecutor(_written(network)).run, patches),
        strict=True,
    ):
        tally.add(one, other)
    # Corrections are added to biases before the sums are, so that these are rounded otherwise.
    assert tally.result().voxels_equal > 0.99


@pytest.mark.parametrize("bits", [2, 4, 7])
def test_integers_keep_to_their_bits(graph, patches, bits):
    recipe = Recipe(weight_bits=bits, activation_bits=bits)
    written = _written(simulate(graph, scheme_of(recipe), patches))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    weights = [array for array in constants.values() if array.dtype == np.int8 and array.ndim > 1]
    assert len(weights) == 10
    assert all(np.abs(array).max() < 2 ** (bits - 1) for array in weights)

    seen: dict[str, torch.Tensor] = {}
    integers = [n.output[0] for n in written.graph.node if n.op_type == "QuantizeLinear"]
    GraphExecutor(written).run(
        torch.from_numpy(patches[0]), lambda name, x: seen.update({name: x}), watch=integers
    )
    assert len(seen) == len(integers)
    for values in seen.values():
        assert int(values.max()) - int(values.min()) < 2**bits


def test_layers_can_stay_in_floating_point(tmp_path):
    torch.manual_seed(0)
    model = export(SmallUNet(), (1, 1, 16, 16, 16), tmp_path / "net.onnx")
    patch = torch.randn(1, 1, 16, 16, 16)
    spared = ["/down/Conv", "/head/ConvTranspose"]
    assert set(spared) <= {node.name for node in model.graph.node}
    network = simulate(
        model, Scheme(placing="openvino"), [patch.numpy()], overrides=dict.fromkeys(spared)
    )
    written = _written(network)
    quantized = {
        name for n in written.graph.node if n.op_type == "DequantizeLinear" for name in n.output
    }
    layers = {n.name: n for n in written.graph.node if n.op_type in ("Conv", "ConvTranspose")}
    for name, node in layers.items():
        assert (name in spared) == (not quantized & set(node.input))
    torch.testing.assert_close(GraphExecutor(written).run(patch), network.run(patch))


def test_an_activation_is_quantized_once_for_all_that_read_it_alike(graph, patches):
    plain = _operators(_written(simulate(graph, Scheme(placing="openvino"), patches)))
    network = simulate(graph, Scheme(placing="openvino"), patches)
    readers = sum(len(layer.edges) for layer in network.layers.values())
    assert plain.count("QuantizeLinear") < readers
    first = next(iter(network.grids))
    network.grids[first] = replace(network.grids[first], scale=network.grids[first].scale * 2)
    other = _operators(_written(network))
    assert other.count("QuantizeLinear") - plain.count("QuantizeLinear") in (0, 1)


@pytest.mark.parametrize(
    "scheme",
    [
        Scheme(activation_granularity="voxel", observer="max"),
        Scheme(scales="dynamic", observer="max"),
        Scheme(signed=False),
        Scheme(activation_granularity="channel"),
    ],
)
def test_what_int8_kernels_do_not_know_is_refused(graph, patches, scheme):
    with pytest.raises(QuantizationError, match="cannot be written"):
        write_quantized(simulate(graph, scheme, patches[:1]))


# The arithmetic


class _Layers(nn.Module):
    """One of each layer that an activation's channels can be folded into."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(6, 12, 3, padding=1, groups=groups)
        self.up = nn.ConvTranspose3d(12, 10, 3, 2, 1)
        self.product = nn.Linear(10, 8)
        self.bare = nn.Linear(8, 4, bias=False)

    def forward(self, x):
        x = torch.relu(self.convolution(x))
        x = self.up(x).permute(0, 2, 3, 4, 1)
        return self.bare(self.product(x)).permute(0, 4, 1, 2, 3)


@pytest.fixture(scope="module", params=[1, 3, 6])
def layers(request, tmp_path_factory):
    torch.manual_seed(request.param)
    path = tmp_path_factory.mktemp("layers") / "net.onnx"
    return export(_Layers(request.param), (1, 6, 4, 4, 4), path)


@settings(max_examples=8)
@given(
    spread=st.lists(st.floats(-6, 6), min_size=6, max_size=6),
    bits=st.integers(2, 8),
    dead=st.booleans(),
)
def test_channels_that_are_folded_change_nothing_but_the_rounding(layers, spread, bits, dead):
    generator = torch.Generator().manual_seed(0)
    factors = 2.0 ** torch.tensor(spread)
    if dead:
        factors[2] = 0
    patch = torch.randn(1, 6, 4, 4, 4, generator=generator) * factors.reshape(1, 6, 1, 1, 1)
    recipe = Recipe(activation_bits=bits, activation_granularity="channel")
    network = simulate(layers, scheme_of(recipe), [patch.numpy()])
    assert all(grid.scale.numel() == 1 for grid in network.grids.values())
    assert len(network.layers) == 4
    with torch.inference_mode():
        expected = GraphExecutor(layers).run(patch)
        torch.testing.assert_close(network.run(patch, ()), expected, rtol=1e-4, atol=1e-4)
        found = GraphExecutor(_written(network)).run(patch)
    torch.testing.assert_close(found, network.run(patch), rtol=0, atol=0)


def test_channels_of_unlike_size_each_have_a_scale_of_their_own(layers):
    generator = torch.Generator().manual_seed(0)
    patch = torch.randn(1, 6, 4, 4, 4, generator=generator)
    patch *= torch.tensor([1e-2, 1, 10, 0.1, 100, 1]).reshape(1, 6, 1, 1, 1)
    network = simulate(layers, scheme_of(Recipe(activation_granularity="channel")), [patch.numpy()])
    [edge] = network.layers["/convolution/Conv"].edges
    [values] = network.values([edge.value], patch)
    for channel in values[0]:
        assert len(channel.unique()) > 40


@pytest.fixture(scope="module")
def pointwise(tmp_path_factory):
    """Return a network that is one layer with one weight, so that its input's grid is all."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("pointwise") / "net.onnx"
    return export(nn.Conv3d(3, 2, 1), (1, 3, 2, 2, 2), path)


@settings(max_examples=25)
@given(
    bits=st.integers(2, 7),
    lowest=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    alike=st.booleans(),
    scale=st.floats(2**-20, 2**20, width=32),
    seed=st.integers(0, 99),
)
def test_a_window_of_int8_is_the_simulated_grid(pointwise, bits, lowest, alike, scale, seed):
    steps = 2**bits - 1
    low = (-steps * torch.tensor(lowest[:1] * 3 if alike else lowest)).round()
    patch = torch.randn(1, 3, 2, 2, 2, generator=torch.Generator().manual_seed(seed)) * steps
    patch = torch.where(patch.abs() < 0.5, patch.round(), patch) * scale
    network = simulate(pointwise, Scheme(8, bits, placing="openvino"), [patch.numpy()])
    [value] = network.grids
    grid = Grid(torch.tensor(scale), low.reshape(1, 3, 1, 1, 1), steps)
    network.grids[value] = grid
    written = _written(network)
    found: dict[str, torch.Tensor] = {}
    [name] = [n.output[0] for n in written.graph.node if n.op_type == "QuantizeLinear"]
    GraphExecutor(written).run(patch, lambda _, x: found.update(integers=x), watch=[name])
    assert torch.equal(found["integers"].float(), grid.integers(patch))


class _Product(nn.Module):
    """A Gemm."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)

    def forward(self, x):
        return self.layer(x.reshape(-1, 6))


@pytest.mark.parametrize(
    ("module", "operators"),
    [
        (nn.Conv3d(2, 3, 1), {"Conv"}),
        (nn.Conv3d(2, 3, 1, bias=False), {"Conv"}),
        (nn.ConvTranspose3d(2, 9, 2, 2), {"ConvTranspose"}),
        (nn.Linear(6, 5), {"MatMul", "Add"}),
        (nn.Linear(6, 5, bias=False), {"MatMul", "Add"}),
        (_Product(), {"Reshape", "Gemm"}),
    ],
    ids=["convolution", "no bias", "transposed", "linear", "linear, no bias", "Gemm"],
)
def test_a_layers_correction_is_added_to_its_output(tmp_path: Path, module, operators):
    patch = torch.randn(1, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    model = export(module, tuple(patch.shape), tmp_path / "net.onnx")
    network = simulate(model, Scheme(placing="openvino"), [patch.numpy()])
    [layer] = network.layers.values()
    before = network.run(patch).clone()
    channels = before.shape[layer.channel_axis]
    correction = torch.arange(1.0, channels + 1)
    if layer.channel_axis == 1 and before.ndim == 5:
        correction = correction.reshape(1, -1, 1, 1, 1)
    layer.correction = correction
    written = _written(network)
    found = GraphExecutor(written).run(patch)
    torch.testing.assert_close(found, network.run(patch))
    torch.testing.assert_close(found - before, correction.expand_as(before), rtol=1e-4, atol=1e-4)
    kept = set(_operators(written)) - {"QuantizeLinear", "DequantizeLinear"}
    assert kept <= operators
    assert written.graph.output[0].name == "logits"
