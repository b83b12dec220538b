"""What is quantized in a graph, and that the result computes what ONNX says it does."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from medptq.graph.executor import GraphExecutor
from medptq.graph.lowering import lower_for_integer_kernels
from medptq.graph.simplify import simplify
from medptq.quantization.placement import place_for_openvino
from medptq.quantization.qdq import insert_qdq
from quantization_helpers import SmallUNet, export


@pytest.fixture(scope="module")
def fp32(tmp_path_factory):
    torch.manual_seed(0)
    network = SmallUNet()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    path = tmp_path_factory.mktemp("qdq") / "net.onnx"
    return simplify(export(network, (1, 1, 8, 8, 8), path))


def _quantized(fp32: onnx.ModelProto, amax: float = 4.0) -> tuple[onnx.ModelProto, dict]:
    model = ir.from_proto(fp32)
    placement = place_for_openvino(model.graph)
    scales = insert_qdq(model, placement, dict.fromkeys(placement.activations, amax))
    return ir.to_proto(model), scales


def _by_onnx(model: onnx.ModelProto, image: torch.Tensor) -> np.ndarray:
    """ONNX's own evaluator, which lacks the Q/DQ operators of the opsets below 19."""
    newer = onnx.ModelProto()
    newer.CopyFrom(model)
    newer.opset_import[0].version = 19
    [expected] = ReferenceEvaluator(newer).run(None, {"image": image.numpy()})
    return expected


def test_every_convolution_addition_and_concatenation_is_quantized(fp32):
    placement = place_for_openvino(ir.from_proto(fp32).graph)
    ops = Counter(node.op_type for node in fp32.graph.node)
    assert len(placement.weights) == ops["Conv"] + ops["ConvTranspose"] == 6
    assert len(placement.inputs) == 6 + 2 * ops["Add"] + 2 * ops["Concat"]
    axes = {weight.node: weight.axis for weight in placement.weights}
    for node in fp32.graph.node:
        if node.op_type == "Conv":
            assert axes[node.name] == 0
        elif node.op_type == "ConvTranspose":
            assert axes[node.name] is None
    [tied] = placement.tied
    [concat] = [node for node in fp32.graph.node if node.op_type == "Concat"]
    assert tied == set(concat.input)


def test_the_quantized_graph_is_sound_and_its_weights_are_int8(fp32):
    model, scales = _quantized(fp32)
    onnx.checker.check_model(model, full_check=True)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            weight = producers[node.input[1]]
            assert weight.op_type == "DequantizeLinear"
            assert constants[weight.input[0]].data_type == onnx.TensorProto.INT8
            assert producers[node.input[0]].op_type == "DequantizeLinear"
            if len(node.input) > 2:
                assert constants[node.input[2]].data_type == onnx.TensorProto.FLOAT
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantizers) == len(scales) == len({node.input[0] for node in quantizers})
    for node in quantizers:
        assert numpy_helper.to_array(constants[node.input[2]]) == 0
        assert numpy_helper.to_array(constants[node.input[1]]) > 0
    large = sum(
        t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 2 for t in constants.values()
    )
    assert large == 0, "an FP32 weight was left in the file"


def test_no_weight_of_a_rewritten_layer_stays_in_the_file(fp32):
    model = ir.from_proto(simplify(fp32, input_shape=(1, 1, 8, 8, 8)))
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    shapes = {f"{value.name}": tuple(value.shape)[2:] for value in values if value.shape}
    lowered = lower_for_integer_kernels(model, shapes)
    assert len(lowered.rewritten) == 3, "the first convolution and both transposed ones"
    placement = place_for_openvino(model.graph)
    insert_qdq(model, placement, dict.fromkeys(placement.activations, 1.0))
    assert all(value.uses() for value in model.graph.initializers.values())


def test_the_joining_of_the_output_stays_in_floating_point(tmp_path):
    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Conv3d(1, 2, 3, 1, 1), torch.nn.Conv3d(2, 2, 3, 1, 1)

        def forward(self, x):
            y = self.first(x)
            return self.second(torch.relu(y)) + y

    model = simplify(export(Residual(), (1, 1, 6, 6, 6), tmp_path / "r.onnx"))
    placement = place_for_openvino(ir.from_proto(model).graph)
    assert {point.node for point in placement.inputs} == {
        node.name for node in model.graph.node if node.op_type == "Conv"
    }


def test_what_is_joined_has_one_scale(fp32):
    model = ir.from_proto(fp32)
    placement = place_for_openvino(model.graph)
    thresholds = {name: 1.0 + n for n, name in enumerate(sorted(placement.activations))}
    scales = insert_qdq(model, placement, thresholds)
    [tied] = placement.tied
    [joined] = {scales[name] for name in tied}
    assert joined == pytest.approx(max(thresholds[name] for name in tied) / 127)
    for name in placement.activations - tied:
        assert scales[name] == pytest.approx(thresholds[name] / 127)


def test_simulation_is_bit_exact_with_onnx_on_integer_data(tmp_path):
    """With scales that are powers of two every product and sum is exact, in any order."""
    torch.manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.ConvTranspose3d(4, 2, 2, 2)
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randint(-127, 128, parameter.shape) / 64)
            parameter.view(-1)[:: parameter[0].numel() if parameter.ndim > 1 else 1] = 127 / 64
    model, _ = _quantized(simplify(export(network, (1, 1, 4, 4, 4), tmp_path / "n.onnx")), 127 / 8)
    image = torch.randn(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(2)) * 6
    with torch.inference_mode():
        found = GraphExecutor(model).run(image).numpy()
    expected = _by_onnx(model, image)
    np.testing.assert_array_equal(found, expected)
    assert np.unique(found).size > 50


def test_simulation_agrees_with_onnx_on_a_whole_network(fp32):
    model, _ = _quantized(fp32)
    image = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        found = GraphExecutor(model).run(image).numpy()
    expected = _by_onnx(model, image)
    # FP32 sums in another order may land on the other side of a rounding boundary.
    assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()
    assert np.median(np.abs(found - expected)) <= 1e-5 * np.abs(expected).max()


def test_attention_and_linear_layers_are_quantized_and_biases_are_not(tmp_path):
    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.project = torch.nn.Linear(8, 24)
            self.position = torch.nn.Parameter(torch.randn(1, 64, 8))
            self.embed = torch.nn.Conv3d(1, 8, 2, 2)
            self.out = torch.nn.ConvTranspose3d(8, 2, 2, 2)

        def forward(self, x):
            tokens = self.embed(x).flatten(2).transpose(1, 2) + self.position
            q, k, v = self.project(tokens).chunk(3, -1)
            mixed = torch.softmax(q @ k.transpose(1, 2), -1) @ v
            return self.out((tokens + mixed).transpose(1, 2).reshape(1, 8, 4, 4, 4))

    fp32 = simplify(export(Attention(), (1, 1, 8, 8, 8), tmp_path / "a.onnx"))
    placement = place_for_openvino(ir.from_proto(fp32).graph)
    quantized = Counter(point.node for point in placement.inputs)
    by_op: dict[str, list[int]] = {}
    for node in fp32.graph.node:
        by_op.setdefault(node.op_type, []).append(quantized[node.name])
    assert sorted(by_op["MatMul"]) == [1, 2, 2], "one linear layer, two products of attention"
    # The position and the linear layer's bias are constants, the residual is not.
    assert sorted(by_op["Add"]) == [0, 0, 2]
    assert {weight.axis for weight in placement.weights} == {0, 1, None}


def test_what_is_computed_from_constants_is_not_quantized_as_an_activation():
    """Calibration would see nothing of it, and its scale would make zeros of it."""
    weight, bias = np.ones((6, 6), np.float32), np.ones((8, 6), np.float32)
    constants = {"weight": weight, "bias": bias, "axes": np.array([0])}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("MatMul", ["image", "weight"], ["product"], "layer"),
            onnx.helper.make_node("Unsqueeze", ["bias", "axes"], ["added"], "unfolded"),
            onnx.helper.make_node("Add", ["product", "added"], ["sum"], "add"),
            onnx.helper.make_node("Relu", ["sum"], ["logits"], "relu"),
        ],
        "net",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, (1, 8, 6))],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, (1, 8, 6))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    inferred = onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph))
    assert {value.name for value in inferred.graph.value_info} == {"product", "added", "sum"}
    placement = place_for_openvino(ir.from_proto(inferred).graph)
    assert placement.activations == {"image"}
