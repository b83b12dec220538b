"""Networks of few bits: what is rounded, to what, and that INT8 comes out as it is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medptq.engines.simulated import SimulatedSession
from medptq.errors import QuantizationError
from medptq.graph.executor import GraphExecutor
from medptq.graph.loading import load_graph
from medptq.graph.simplify import simplify
from medptq.inference.sliding import sliding_window
from medptq.models.loading import load_model
from medptq.progress import Reporter
from medptq.quantization.arithmetic import quantize_weight
from medptq.quantization.calibration import CalibrationPatches
from medptq.quantization.quantizing import quantize_model
from medptq.quantization.recipe import Recipe
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.granularity import Groups, groups_of
from medptq.quantization.simulation.grid import activation_grid, signed_scale, weight_grid
from medptq.quantization.simulation.group_histogram import GroupHistogram
from medptq.quantization.simulation.ranges import extremes
from medptq.quantization.simulation.simulating import simulate
from medptq.scans.finding import find_scans
from medptq.scans.prepared import AxisMap, PreparedScan
from quantization_helpers import SmallUNet, export
from small_networks import one_thread
from tiny_network import write_network, write_scan

BITS = st.integers(2, 8)
VALUES = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=1, max_side=6), elements=st.floats(-1e3, 1e3, width=32)
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


# The arithmetic


@settings(deadline=None)
@given(VALUES, BITS, st.booleans())
def test_values_within_the_range_are_off_by_half_a_step_at_most(array, bits, signed):
    values = torch.from_numpy(array)
    grid = activation_grid(values.min(), values.max(), bits, signed=signed)
    scale = float(grid.scale)
    # Of a range that is not symmetric the beginning is rounded to the grid, which 0 is on.
    most = 0.5 if signed else 1.0
    assert float((grid.nearest(values) - values).abs().max()) <= most * scale * (1 + 1e-4)


@settings(deadline=None)
@given(VALUES, BITS, st.booleans())
def test_there_are_no_more_values_than_the_bits_can_tell_apart(array, bits, signed):
    values = torch.from_numpy(array)
    grid = activation_grid(values.min(), values.max(), bits, signed=signed)
    integers = grid.integers(values * 3)
    assert float(integers.max() - integers.min()) <= 2**bits - 1
    assert torch.equal(integers, integers.round())
    assert float(grid.nearest(torch.zeros(1))) == 0.0
    rounded = grid.nearest(values)
    assert torch.equal(grid.nearest(rounded), rounded)


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=5, max_side=4),
        elements=st.floats(-1e3, 1e3, width=32),
    ),
    st.booleans(),
)
def test_weights_of_eight_bits_are_those_that_are_written_into_files(weight, per_channel):
    axis = 0 if per_channel else None
    integers, scale = quantize_weight(weight, axis)
    values = torch.from_numpy(weight)
    others = tuple(range(0 if axis is None else 1, weight.ndim))
    grid = weight_grid(values.abs().amax(others, keepdim=True), 8)
    np.testing.assert_array_equal(grid.integers(values).numpy(), integers)
    np.testing.assert_array_equal(grid.scale.numpy().reshape(-1), scale.reshape(-1))


@settings(deadline=None)
@given(BITS, st.floats(0, 1e30))
def test_more_bits_never_make_a_coarser_grid(bits, amax):
    scales = [float(signed_scale(torch.tensor(amax), b)) for b in range(2, bits + 1)]
    assert scales == sorted(scales, reverse=True)
    assert scales[-1] > 0


def test_halves_are_rounded_to_the_even_number():
    grid = activation_grid(torch.tensor(-7.0), torch.tensor(7.0), 4, signed=True)
    halves = torch.tensor([-8.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 7.5])
    assert grid.nearest(halves).tolist() == [-8, -2, -2, 0, 0, 2, 2, 7]


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 6), st.booleans(), st.integers(0, 1000))
def test_fitted_ranges_are_better_than_the_extremes(bits, signed, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 20_000, generator=generator) * torch.tensor([[1.0], [30.0], [0.1]])
    values[1] = torch.nn.functional.leaky_relu(values[1], 0.01)
    values[2, 0] = 5.0
    histogram = GroupHistogram(3, values.device)
    for part in values.split(7_000, dim=1):
        histogram.add(part)
    fitted = histogram.least_squared_error(bits, signed=signed)
    ends = values.amin(1), values.amax(1)

    def error(low, high):
        grid = activation_grid(low[:, None], high[:, None], bits, signed=signed)
        return (grid.nearest(values) - values).square().mean(1)

    assert torch.all(error(*fitted) <= error(*ends) * 1.01)
    if bits in (3, 4, 5):
        assert error(*fitted)[2] < 0.5 * error(*ends)[2], "the outlier was not clipped"


def test_a_range_that_is_not_symmetric_wastes_no_values_on_one_sign():
    values = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    low, high = values.min(), values.max()
    error = [
        float((activation_grid(low, high, 4, signed=s).nearest(values) - values).square().mean())
        for s in (True, False)
    ]
    assert error[1] < 0.3 * error[0]


# Granularity


def _node(op_type, weight_shape, **attributes):
    return ir.node(
        op_type,
        [ir.val("x"), ir.val("w", shape=ir.Shape(weight_shape))],
        attributes,
        name="layer",
    )


CONV, POINTWISE = _node("Conv", [4, 3, 3, 3, 3]), _node("Conv", [4, 3, 1, 1, 1])
PRODUCT = _node("MatMul", [6, 5])


@pytest.mark.parametrize(
    ("node", "operand", "shape", "expected"),
    [
        (CONV, 0, (1, 3, 4, 5, 6), {"channel": (1, 3, 1, 1, 1), "voxel": (1, 1, 4, 5, 6)}),
        (CONV, 0, (1, 3, 4, 5, 6), {"token": (1, 3, 1, 1, 1), "adaptive": (1, 3, 1, 1, 1)}),
        (POINTWISE, 0, (1, 3, 4, 5, 6), {"adaptive": (1, 1, 4, 5, 6), "token": (1, 3, 1, 1, 1)}),
        (PRODUCT, 0, (2, 7, 6), {"channel": (1, 1, 6), "token": (2, 7, 1), "voxel": (2, 7, 1)}),
        (PRODUCT, 1, (2, 6, 7), {"channel": (1, 6, 1), "adaptive": (2, 1, 7)}),
        (_node("Gemm", [6, 5], transA=1), 0, (6, 7), {"channel": (6, 1), "token": (1, 7)}),
        (_node("Add", [3]), 0, (1, 3, 4, 5, 6), {"channel": (1, 1, 1, 1, 1)}),
    ],
)
def test_scales_lie_along_the_axes_that_the_granularity_says(node, operand, shape, expected):
    x = torch.randn(shape)
    assert extremes(x, groups_of(node, operand, "tensor"))[0].numel() == 1
    for granularity, scales in expected.items():
        low, high = extremes(x, groups_of(node, operand, granularity))
        assert low.shape == high.shape == scales


def test_groups_are_counted_from_either_end():
    assert Groups("channels", -1).inner_axes(3) == (0, 1)
    assert Groups("positions", -2).inner_axes(4) == (2,)
    assert Groups("positions", -2).inner_axes(1) == (0,), "a vector has no other axis"


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight_bits": 1},
        {"activation_bits": 9},
        {"activation_granularity": "block"},
        {"observer": "entropy", "activation_granularity": "channel"},
        {"observer": "percentile", "signed": False},
        {"scales": "dynamic"},
        {"placing": "openvino", "signed": False},
        {"placing": "openvino", "activation_granularity": "token"},
        {"placing": "openvino", "scales": "dynamic", "observer": "max"},
        {"percentile": 20.0},
    ],
)
def test_impossible_schemes_are_refused(wrong):
    with pytest.raises(QuantizationError) as caught:
        Scheme(**wrong)
    assert caught.value.code == "quantize.scheme"


# Whole networks


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
