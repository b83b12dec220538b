from __future__ import annotations

import json
import sys
import types

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from medptq.engines import tensorrt_library
from medptq.engines.proof_network import PROOF_SHAPE, proof_network
from medptq.engines.protocol import BuildRequest
from medptq.engines.tensorrt import TensorRTEngine
from medptq.engines.tensorrt_graph import (
    in_half_precision,
    lower_instance_normalization,
    with_input_shape,
)
from medptq.engines.tensorrt_layers import layer_precisions
from medptq.engines.tensorrt_library import failure, unusable_because
from medptq.engines.tensorrt_placement import Placement, placed, placements
from medptq.engines.tensorrt_plan import Plan, Tried
from medptq.engines.tensorrt_timing_cache import read_timings, timing_cache_file, write_timings
from medptq.errors import EngineError
from medptq.graph.executor import GraphExecutor
from medptq.graph.simplify import simplify
from medptq.models.architectures.building import build_network
from medptq.progress import Progress, Reporter
from quantization_helpers import export
from small_networks import SMALL as SMALL_NETWORKS

USABLE = TensorRTEngine().availability()
gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not USABLE.usable, reason=USABLE.reason),
    pytest.mark.timeout(600),
]


def on_gpu(test):
    for mark in gpu:
        test = mark(test)
    return test


def image(shape: tuple[int, ...] = PROOF_SHAPE) -> torch.Tensor:
    return 3 * torch.rand(shape, generator=torch.Generator().manual_seed(1))


def run(graph: onnx.ModelProto, batch: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return GraphExecutor(graph).run(batch).float()


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


class Residual(torch.nn.Module):
    """Norms, a pooling, a transposed convolution, a residual addition and a concatenation."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv3d(1, channels, 3, padding=1)
        self.instance = torch.nn.InstanceNorm3d(channels, affine=True)
        self.second = torch.nn.Conv3d(channels, channels, 3, padding=1)
        self.group = torch.nn.GroupNorm(4, channels)
        self.pooled = torch.nn.Conv3d(channels, channels, 3, padding=1)
        self.up = torch.nn.ConvTranspose3d(channels, channels, 2, stride=2)
        self.last = torch.nn.Conv3d(2 * channels, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.instance(self.first(x)))
        b = a + torch.relu(self.group(self.second(a)))
        c = self.up(torch.relu(self.pooled(torch.nn.functional.max_pool3d(b, 2))))
        return self.last(torch.cat([b, c], 1))


SMALL = (1, 1, 16, 16, 16)


@pytest.fixture(scope="module")
def residual(tmp_path_factory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("residual") / "net.onnx"
    export(Residual().eval(), SMALL, path)
    return simplify(onnx.load(path), input_shape=SMALL)


@pytest.fixture(scope="module")
def quantized(residual) -> onnx.ModelProto:
    """The network with all its convolutions, additions and concatenations quantized."""
    import onnx_ir as ir

    from medptq.quantization.placement import place_for_openvino
    from medptq.quantization.qdq import insert_qdq

    model = ir.from_proto(residual)
    placement = place_for_openvino(model.graph)
    seen: dict[str, float] = {}
    GraphExecutor(residual).run(
        image(SMALL),
        lambda name, tensor: seen.update({name: float(tensor.abs().max())}),
        watch=placement.activations,
    )
    insert_qdq(model, placement, seen)
    return ir.to_proto(model)


# Whether it can be used.


@pytest.fixture
def with_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    unusable_because.cache_clear()
    yield
    unusable_because.cache_clear()


def test_without_a_gpu_it_says_so_and_tensorrt_is_not_imported(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    unusable_because.cache_clear()
    availability = TensorRTEngine().availability()
    unusable_because.cache_clear()
    assert not availability.usable
    assert "NVIDIA GPU" in availability.reason


def test_without_tensorrt_it_says_how_to_install_it(monkeypatch, with_a_gpu):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "pip install 'tensorrt" in TensorRTEngine().availability().reason


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (types.SimpleNamespace(__version__="7.2.3"), "7.2.3 is too old"),
        (types.SimpleNamespace(__version__="nonsense"), "does not work here"),
        (types.SimpleNamespace(), "does not work here"),
    ],
)
def test_a_broken_installation_is_a_reason_and_no_crash(monkeypatch, with_a_gpu, broken, told):
    monkeypatch.setattr(tensorrt_library, "import_tensorrt", lambda: broken)
    assert told in TensorRTEngine().availability().reason


# What TensorRT is handed.


def test_instance_normalization_written_out_is_the_same(residual):
    lowered = lower_instance_normalization(residual)
    kinds = [node.op_type for node in lowered.graph.node]
    # A GroupNorm is exported as an InstanceNormalization of groups.
    assert [node.op_type for node in residual.graph.node].count("InstanceNormalization") == 2
    assert "InstanceNormalization" not in kinds
    onnx.checker.check_model(lowered)
    assert difference(run(lowered, image(SMALL)), run(residual, image(SMALL))) < 1e-5


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
    assert difference(run(lower_instance_normalization(graph), image(shape)), expected) < 1e-5
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
    narrow = found["convolutions of 16 channels and more"]
    added = found["convolutions and residual additions"]
    every = found["all that was calibrated"]
    kinds = {node.name: node.op_type for node in quantized.graph.node}
    # Not the first (1 channel), the last (2), nor the one that follows a pooling.
    assert [kinds[name] for name in narrow] == ["Conv"]
    assert narrow < added < every
    assert {kinds[name] for name in added} == {"Conv", "Add"}
    assert {"ConvTranspose", "Concat"} < {kinds[name] for name in every}
    assert "convolutions of 32 channels and more" not in found  # there is none


def test_all_that_was_calibrated_is_the_graph_as_it_was(quantized):
    [*_, every] = placements(quantized)
    assert operators(placed(quantized, every)) == operators(quantized)
    assert torch.equal(run(placed(quantized, every), image(SMALL)), run(quantized, image(SMALL)))


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


# What is kept.


def test_a_plan_comes_back_from_its_file_as_it_was():
    plan = Plan(b"engine\nof bytes\n", (Tried("none", 1.5, 0.01), Tried("all", note="no\nkernel")))
    assert Plan.from_bytes(plan.to_bytes()) == plan


@pytest.mark.parametrize("content", [b"", b"nonsense", b"medptq-tensorrt-1\n[]\n"])
def test_what_is_no_plan_is_refused(content):
    with pytest.raises(ValueError, match="TensorRT engine"):
        Plan.from_bytes(content)


def test_a_plan_without_its_end_is_refused():
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own is one
        Plan.from_bytes(Plan(b"engine", (Tried("none"),)).to_bytes()[:30])


def test_timings_come_back_only_if_they_are_whole(tmp_path):
    path = tmp_path / "timings.bin"
    assert read_timings(path) == b""
    write_timings(path, b"timings of kernels")
    assert read_timings(path) == b"timings of kernels"
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-1] + b"!", b"!" + content[1:], b""):
        path.write_bytes(damaged)
        assert read_timings(path) == b""


def test_timings_that_cannot_be_written_are_no_error(tmp_path):
    folder = tmp_path / "not a folder"
    folder.write_bytes(b"")
    write_timings(folder / "timings.bin", b"timings")


def test_each_version_and_gpu_has_its_own_timings():
    names = {
        timing_cache_file(version, name) for version in ("10.16", "11.4") for name in ("A", "B")
    }
    assert len(names) == 4


# What TensorRT says.


def test_memory_that_ran_out_is_told_from_other_failures():
    assert isinstance(
        failure(["2: [virtualMemoryBuffer.cpp] OutOfMemory (Requested)"]), MemoryError
    )
    assert isinstance(
        failure(["Requested amount of GPU memory could not be allocated"]), MemoryError
    )
    found = failure(["9: [pluginV2Builder.cpp::reportPluginError] Could not find a kernel"])
    assert isinstance(found, RuntimeError)
    assert str(found) == "Could not find a kernel"


LAYERS_OF_8 = {
    "Layers": [
        {
            "Name": "first + Relu",
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [{"Name": "a", "Format/Datatype": "Row major linear FP32"}],
            "Outputs": [{"Name": "b", "Format/Datatype": "Thirty-two wide channel Int8 format"}],
        },
        {
            "Name": "second",
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized Int8 format"}],
        },
        {
            "Name": "up",
            "LayerType": "CaskDeconvolution",
            "ParameterType": "Deconvolution",
            "Inputs": [{"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
        },
        {
            "Name": "copy",
            "LayerType": "Reformat",
            "ParameterType": "Reformat",
            "Inputs": [{"Format/Datatype": "Row major linear FP32"}],
        },
    ],
    "Bindings": ["a", "c"],
}
LAYERS_OF_10 = {
    "Layers": [
        {
            "Name": "second_myl0_1",
            "LayerType": "conv",
            "Inputs": [{"Name": "a", "Datatype": "Int8", "Format": "N/A"}],
        },
        {"Name": "third", "LayerType": "gemm", "Inputs": [{"Datatype": "Half", "Format": "N/A"}]},
        {"Name": "fourth", "LayerType": "conv", "Inputs": [{"Datatype": "Float"}]},
        {"Name": "sum", "LayerType": "kgen", "Inputs": [{"Datatype": "Half"}]},
        "a layer of an engine without details",
    ],
    "I/O Tensors": ["a", "c"],
}


# As TensorRT 8.6 names what it compiled of a network whose modules are called convs.
FUSED = """{"Layers": [
  {"LayerType": "Myelin", "Name": "{ForeignNode[/stages.0/convs/convs.0/norm/mean.../stages.0/convs/
convs.0/norm/result]}", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
  {"LayerType": "Myelin", "Name": "{ForeignNode[/blocks.0/attn/MatMul_1.../blocks.0/Add]}",
   "Inputs": [{"Format/Datatype": "Row major linear FP16 format"}]}], "Bindings": ["a"]}"""


def test_what_is_fused_counts_by_the_operators_not_by_the_modules_names():
    assert layer_precisions(FUSED) == {"fused": 1}


def test_the_layers_are_counted_in_every_versions_words():
    assert layer_precisions(json.dumps(LAYERS_OF_8)) == {"fp32": 1, "int8": 1, "fp16": 1}
    assert layer_precisions(json.dumps(LAYERS_OF_10)) == {"int8": 1, "fp16": 1, "fp32": 1}


# On a GPU.


@on_gpu
@pytest.mark.parametrize("precision", USABLE.precisions or ["int8"])
def test_every_precision_runs_and_agrees_with_pytorch(tmp_path, monkeypatch, precision):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    graph = proof_network(quantized=precision == "int8")
    onnx.save(graph, tmp_path / "net.onnx")
    request = BuildRequest(tmp_path / "net.onnx", precision, PROOF_SHAPE)
    TensorRTEngine().build(request, tmp_path / "built", Reporter())
    with TensorRTEngine().open(request, tmp_path / "built") as session:
        found = session.run(image().to(session.device)).float().cpu()
        again = session.run(image().to(session.device)).float().cpu()
        layers = session.layer_precisions()
    assert (
        difference(found, run(graph, image()))
        < {"fp32": 3e-3, "fp16": 1e-2, "int8": 5e-2}[precision]
    )
    assert torch.equal(found, again)
    assert sum(layers.values()) == 3
    [timings] = (tmp_path / "cache").rglob("timings-*.bin")
    assert read_timings(timings)


@on_gpu
def test_a_smaller_batch_is_run_by_an_engine_of_a_larger(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    onnx.save(proof_network(quantized=False), tmp_path / "net.onnx")
    shape = (3, *PROOF_SHAPE[1:])
    request = BuildRequest(tmp_path / "net.onnx", "fp16", shape)
    TensorRTEngine().build(request, tmp_path / "built", Reporter())
    with TensorRTEngine().open(request, tmp_path / "built") as session:
        three = session.run(image(shape).cuda()).clone()
        two = session.run(image(shape)[:2].cuda()).clone()
    assert two.shape[0] == 2
    assert torch.equal(three[:2], two)


@on_gpu
def test_a_network_with_norms_pooling_and_skips_is_built_in_int8(tmp_path, monkeypatch, quantized):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    onnx.save(quantized, tmp_path / "net.onnx")
    request = BuildRequest(tmp_path / "net.onnx", "int8", SMALL)
    stages: list[Progress] = []
    TensorRTEngine().build(request, tmp_path / "built", Reporter(on_progress=stages.append))
    plan = Plan.from_bytes((tmp_path / "built").read_bytes())
    assert stages
    assert len(plan.tried) == 1 + len(placements(quantized))
    times = [tried.milliseconds for tried in plan.tried if tried.milliseconds is not None]
    assert times[0] == min(times)
    with TensorRTEngine().open(request, tmp_path / "built") as session:
        found = session.run(image(SMALL).to(session.device)).float().cpu()
    assert difference(found, run(quantized, image(SMALL))) < 0.1


@on_gpu
def test_a_damaged_engine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    request = BuildRequest(tmp_path / "net.onnx", "fp32", PROOF_SHAPE)
    (tmp_path / "built").write_bytes(Plan(b"no engine at all" * 9, ()).to_bytes())
    with pytest.raises(EngineError) as error:
        TensorRTEngine().open(request, tmp_path / "built")
    assert error.value.code == "engine.open"
