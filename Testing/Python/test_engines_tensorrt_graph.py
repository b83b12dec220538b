from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from medptq.engines.proof_network import PROOF_SHAPE, proof_network
from medptq.engines.tensorrt_graph import in_half_precision, with_input_shape
from medptq.engines.tensorrt_normalization import IN_FP32, forms_for, in_form
from medptq.engines.tensorrt_placement import Placement, placed, placements
from medptq.errors import EngineError
from medptq.graph.simplify import simplify
from medptq.models.architectures.building import build_network
from medptq.quantization.recipe import Recipe
from medptq.quantization.scheme import scheme_of
from medptq.quantization.simulation.simulating import simulate
from medptq.quantization.writing import write_quantized
from quantization_helpers import export
from small_networks import SMALL as SMALL_NETWORKS
from tensorrt_networks import SMALL, difference, image, plain_graph, quantized_graph, run

# What TensorRT is handed.


FORMS = ("written out", "sums in FP32", "own layer")


@pytest.mark.parametrize("form", FORMS)
def test_instance_normalization_in_another_form_is_the_same(residual, form):
    written = in_form(residual, form)
    kinds = [node.op_type for node in written.graph.node]
    # A GroupNorm is exported as an InstanceNormalization of groups.
    assert [node.op_type for node in residual.graph.node].count("InstanceNormalization") == 2
    assert "InstanceNormalization" not in kinds
    onnx.checker.check_model(written)
    assert difference(run(written, image(SMALL)), run(residual, image(SMALL))) < 1e-5


def two_blocks(norm: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    first, second = (torch.nn.Conv3d(channels, 4, 3, padding=1) for channels in (1, 4))
    return torch.nn.Sequential(first, norm(), second, norm())


@pytest.mark.parametrize(
    ("norm", "exported_as"),
    [
        # The export names equal weights once, and hands them to the other nodes through Identity.
        (lambda: torch.nn.InstanceNorm3d(4, affine=True), "Identity"),
        (lambda: torch.nn.InstanceNorm3d(4), "Constant"),
        (lambda: torch.nn.GroupNorm(2, 4), "Constant"),
    ],
)
def test_a_graph_that_was_not_simplified_is_written_in_another_form(tmp_path, norm, exported_as):
    shape = (1, 1, 8, 8, 8)
    exported = export(two_blocks(norm), shape, tmp_path / "net.onnx")
    assert exported_as in [node.op_type for node in exported.graph.node]
    written = in_form(with_input_shape(exported, shape), "written out")
    assert "InstanceNormalization" not in [node.op_type for node in written.graph.node]
    assert difference(run(written, image(shape)), run(exported, image(shape))) < 1e-5


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.01, 1.0, 1.5])
def test_leaky_relu_is_written_out_where_normalizations_are(slope, tmp_path):
    shape = (1, 1, 8, 8, 8)
    norm = torch.nn.InstanceNorm3d(1)
    network = torch.nn.Sequential(norm, torch.nn.LeakyReLU(slope), torch.nn.LeakyReLU(0.2))
    graph = with_input_shape(export(network, shape, tmp_path / "net.onnx"), shape)
    expected = run(graph, image(shape))
    for form in FORMS:
        written = in_form(graph, form)
        onnx.checker.check_model(written)
        kinds = [node.op_type for node in written.graph.node]
        # Above a slope of one it is no maximum.
        kept = 2 if form == "own layer" else int(slope > 1)
        assert (kinds.count("LeakyRelu"), kinds.count("Max")) == (kept, 2 - kept)
        assert difference(run(written, image(shape)), expected) < 1e-5


@pytest.mark.parametrize("slopes", [[0.25], [0.1, -0.4, 1.0, 0.25]])
def test_prelu_is_written_out_where_normalizations_are(slopes, tmp_path):
    shape = (1, 1, 8, 8, 8)
    prelu = torch.nn.PReLU(len(slopes))
    prelu.weight.data = torch.tensor(slopes)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3), prelu, torch.nn.InstanceNorm3d(4))
    graph = with_input_shape(export(network.eval(), shape, tmp_path / "net.onnx"), shape)
    assert "PRelu" in [node.op_type for node in graph.graph.node]
    written = in_form(graph, "sums in FP32")
    onnx.checker.check_model(written)
    assert {"PRelu", "Max"} & {node.op_type for node in written.graph.node} == {"Max"}
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert difference(run(written, noise), run(graph, noise)) < 1e-5


def test_the_forms_are_those_that_the_version_and_the_precision_need(residual):
    assert forms_for(residual, "fp16", typed=True) == ("as it is",)
    assert forms_for(residual, "fp32", typed=False) == ("written out",)
    half = forms_for(residual, "fp16", typed=False)
    assert set(half) == set(FORMS) - {"written out"}
    assert forms_for(residual, "int8", typed=False) == half
    assert forms_for(in_form(residual, "own layer"), "int8", typed=False) == ("as it is",)
    assert in_form(residual, "as it is") is residual


def test_sums_in_fp32_are_named_so_that_they_can_be_held_to_it(residual):
    held = [node for node in in_form(residual, "sums in FP32").graph.node if IN_FP32 in node.name]
    assert [node.op_type for node in held] == 2 * ["ReduceMean", "Mul", "ReduceMean", "Add", "Sqrt"]
    assert all(node.name.endswith(IN_FP32) for node in held)


def types_of(graph: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True)
    return {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}


@pytest.mark.parametrize("name", ["residual", "quantized"])
def test_half_precision_is_fp16_throughout_and_computes_the_same(name, request):
    graph = request.getfixturevalue(name)
    half = in_half_precision(graph)
    kinds = set(types_of(half).values())
    assert TensorProto.FLOAT not in kinds
    assert kinds <= {TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT64}
    assert (TensorProto.INT8 in kinds) == (name == "quantized")
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    assert difference(run(half, image(SMALL)), run(graph, image(SMALL))) < 0.02


@pytest.mark.parametrize("name", ["nnunet", "unetr"])
def test_whole_networks_can_be_handed_over(name, tmp_path):
    options, patch = SMALL_NETWORKS[name]
    shape = (1, 1, *patch)
    torch.manual_seed(0)
    export(build_network(name, **options), shape, tmp_path / "net.onnx")
    graph = simplify(onnx.load(tmp_path / "net.onnx"), input_shape=shape)
    expected = run(graph, image(shape))
    for form in FORMS:
        assert difference(run(in_form(graph, form), image(shape)), expected) < 1e-5
    half = in_half_precision(graph)
    assert TensorProto.FLOAT not in set(types_of(half).values())
    assert difference(run(half, image(shape)), expected) < 0.01
    two = with_input_shape(graph, (2, *shape[1:]))
    both = run(two, torch.cat([image(shape), 1 + image(shape)]))
    assert difference(both[:1], expected) < 1e-5


def test_what_does_not_fit_fp16_is_cut_off_not_infinite():
    weight = numpy_helper.from_array(np.array([1e6], np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["image", "weight"], ["logits"])],
        "large",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 1, 2, 2, 2))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 1, 2, 2, 2))],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    [cut] = in_half_precision(model).graph.initializer
    assert numpy_helper.to_array(cut) == np.float16(65504)


def test_what_is_not_zero_is_not_zero_in_fp16_either():
    graph = proof_network(quantized=True)
    [scales] = [tensor for tensor in graph.graph.initializer if tensor.name == "weights1_scale"]
    dead = numpy_helper.to_array(scales).copy()
    dead[3] = 1e-38  # of a channel whose weights are all zero
    scales.CopyFrom(numpy_helper.from_array(dead, scales.name))
    half = in_half_precision(graph)
    [scales] = [tensor for tensor in half.graph.initializer if tensor.name == "weights1_scale"]
    assert scales.data_type == TensorProto.FLOAT16
    assert numpy_helper.to_array(scales).min() > 0


@pytest.mark.parametrize("allows_zero", [False, True])
@pytest.mark.parametrize("is_constant", [False, True])
def test_reshapes_for_one_patch_are_for_any_number_of_them(allows_zero, is_constant):
    shape = (1, 1, 4, 4, 4)
    weights, nodes, value = [], [], "image"
    # As PyTorch's exporters write them: the newer one with allowzero.
    for name, sizes in (("flat", (1, 1, 64)), ("whole", shape)):
        array = numpy_helper.from_array(np.array(sizes, np.int64), f"{name}/shape")
        if is_constant:
            nodes.append(helper.make_node("Constant", [], [f"{name}/shape"], value=array))
        else:
            weights.append(array)
        attributes = {"allowzero": 1} if allows_zero else {}
        nodes.append(helper.make_node("Reshape", [value, f"{name}/shape"], [name], **attributes))
        value = name
    sides = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", value)
    ]
    graph = helper.make_graph(nodes, "reshapes", sides[:1], sides[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    patches = image((2, *shape[1:]))
    assert torch.equal(run(with_input_shape(model, (2, *shape[1:])), patches), patches)


def test_the_batch_can_be_changed_but_not_the_patch(quantized):
    graph = with_input_shape(quantized, (3, *SMALL[1:]))
    assert run(graph, image((3, *SMALL[1:]))).shape == (3, 2, 16, 16, 16)
    output = graph.graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in output] == [3, 2, 16, 16, 16]
    with pytest.raises(EngineError) as error:
        with_input_shape(quantized, (1, 1, 32, 32, 32))
    assert error.value.code == "engine.build"


# What runs in INT8.


def operators(graph: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node]


def test_the_choices_grow_and_leave_out_what_tensorrt_cannot_build(quantized):
    found = {placement.name: placement.nodes for placement in placements(quantized)}
    narrow = found["layers of 16 channels and more"]
    added = found["layers of 16 channels and more, and residual additions"]
    every = found["all that was calibrated"]
    kinds = {node.name: node.op_type for node in quantized.graph.node}
    # Not the first (1 channel), the last (2), nor the one that follows a pooling.
    assert [kinds[name] for name in narrow] == ["Conv"]
    assert narrow < added < every
    assert {kinds[name] for name in added} == {"Conv", "Add"}
    assert {"ConvTranspose", "Concat"} < {kinds[name] for name in every}
    assert "layers of 32 channels and more" not in found  # there is none


class Tokens(torch.nn.Module):
    """A convolution, and a matrix product of what it finds, both of 16 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv3d(1, 16, 1)
        self.conv = torch.nn.Conv3d(16, 16, 3, padding=1)
        self.linear = torch.nn.Linear(16, 16)

    def forward(self, x):
        x = self.conv(torch.relu(self.first(x)))
        tokens = self.linear(torch.relu(x.flatten(2).transpose(1, 2)))
        return tokens.transpose(1, 2).reshape(x.shape)


def test_convolutions_have_a_choice_without_the_products(tmp_path):
    graph = quantized_graph(plain_graph(Tokens(), tmp_path))
    kinds = {node.name: node.op_type for node in graph.graph.node}
    both, convolutions, *_ = placements(graph)
    assert sorted(kinds[name] for name in both.nodes) == ["Conv", "MatMul"]
    assert [kinds[name] for name in convolutions.nodes] == ["Conv"]


def test_all_that_was_calibrated_is_the_graph_as_it_was(quantized):
    [*_, every] = placements(quantized)
    assert operators(placed(quantized, every)) == operators(quantized)
    assert torch.equal(run(placed(quantized, every), image(SMALL)), run(quantized, image(SMALL)))


def test_weights_are_put_back_even_where_nodes_have_no_names():
    graph = proof_network(quantized=True)
    assert not any(node.name for node in graph.graph.node)
    plain = placed(graph, Placement("none", frozenset(["another"])))
    onnx.checker.check_model(plain, full_check=True)
    patch = image(PROOF_SHAPE)
    expected = run(proof_network(quantized=False), patch)
    assert difference(run(plain, patch), expected) < 0.01  # what rounding to INT8 does to weights


def test_weights_around_another_zero_point_are_put_back():
    graph = proof_network(quantized=True)
    expected = run(placed(graph, Placement("none", frozenset())), image(PROOF_SHAPE))
    for tensor in graph.graph.initializer:
        if tensor.name.startswith("weights") and tensor.data_type == TensorProto.INT8:
            moved = (numpy_helper.to_array(tensor).astype(np.int16) + 128).astype(np.uint8)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    plain = placed(graph, Placement("none", frozenset()))
    assert torch.equal(run(plain, image(PROOF_SHAPE)), expected)


def test_nothing_in_int8_is_the_network_with_rounded_weights(quantized, residual):
    plain = placed(quantized, Placement("none", frozenset()))
    assert operators(plain) == operators(residual)
    assert 0 < difference(run(plain, image(SMALL)), run(residual, image(SMALL))) < 0.02


def test_each_choice_lies_between(quantized):
    for placement in placements(quantized):
        graph = placed(quantized, placement)
        onnx.checker.check_model(graph, full_check=True)
        quantizers = operators(graph).count("QuantizeLinear")
        assert 0 < quantizers <= operators(quantized).count("QuantizeLinear")
        assert difference(run(graph, image(SMALL)), run(quantized, image(SMALL))) < 0.05


def test_what_is_written_for_few_bits_can_be_placed_and_halved_like_any(residual):
    patch = image(SMALL)
    eight, four = (
        write_quantized(simulate(residual, scheme_of(recipe), [patch.numpy()]))[0]
        for recipe in (Recipe(), Recipe(activation_bits=4, activation_granularity="channel"))
    )
    # Clipping and scaling before a pair does not hide what the activation comes from.
    assert placements(four) == placements(eight) != []
    for placement in placements(four):
        assert difference(run(placed(four, placement), patch), run(residual, patch)) < 0.3
    half = in_half_precision(with_input_shape(four, SMALL))
    assert difference(run(half, patch), run(four, patch)) < 0.1
