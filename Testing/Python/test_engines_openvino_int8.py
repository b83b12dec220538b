"""INT8 that OpenVINO computes wrongly on some CPUs: it is found, and graphs avoid it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from medptq.engines import openvino
from medptq.engines.openvino_int8 import (
    concatenates_exactly,
    multiplies_exactly,
    with_kept_zero_points,
)
from medptq.engines.protocol import BuildRequest
from medptq.graph.executor import GraphExecutor
from medptq.graph.simplify import simplify
from medptq.progress import Reporter
from quantization_helpers import export
from tensorrt_networks import SMALL, difference, image, quantized_graph, run

pytest.importorskip("openvino")

X86 = platform.machine() in ("x86_64", "AMD64")


class Skips(torch.nn.Module):
    """A U-Net of one level, whose inputs to the concatenation are of both signs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv3d(1, 16, 3, padding=1)
        self.down = torch.nn.Conv3d(16, 16, 3, stride=2, padding=1)
        self.up = torch.nn.ConvTranspose3d(16, 16, 2, stride=2)
        self.last = torch.nn.Conv3d(32, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.leaky_relu(self.first(x), 0.5)
        return self.last(torch.cat([x, self.up(self.down(x))], 1))


@pytest.fixture(scope="module")
def skips(tmp_path_factory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("skips") / "net.onnx"
    export(Skips().eval(), SMALL, path)
    return quantized_graph(simplify(onnx.load(path), input_shape=SMALL))


@pytest.mark.skipif(not X86, reason="this CPU has no INT8 that is used")
def test_a_concatenation_in_int8_computes_what_the_graph_says(tmp_path, skips):
    if "int8" not in openvino.OpenVINOEngine().availability().precisions:
        pytest.skip("this CPU has no INT8 that is used")
    onnx.save(skips, tmp_path / "int8.onnx")
    request = BuildRequest(tmp_path / "int8.onnx", "int8", SMALL)
    engine = openvino.OpenVINOEngine()
    engine.build(request, tmp_path / "built", Reporter())
    with engine.open(request, tmp_path / "built") as session:
        found = session.run(image(SMALL)).float()
        assert session.layer_precisions() == {"int8": 4}
    # What is no INT8 may run in BF16.
    assert difference(found, run(skips, image(SMALL))) < 0.02


def test_the_barrier_changes_nothing_that_is_computed(skips):
    rewritten = with_kept_zero_points(skips)
    assert [node.op_type for node in rewritten.graph.node].count("Max") == 1
    expected = GraphExecutor(skips).run(image(SMALL))
    torch.testing.assert_close(GraphExecutor(rewritten).run(image(SMALL)), expected, rtol=0, atol=0)


def test_concatenations_of_what_is_not_quantized_stay():
    node = helper.make_node("Concat", ["shape", "shape"], ["both"], axis=0)
    graph = helper.make_graph(
        [node],
        "shapes",
        [helper.make_tensor_value_info("shape", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("both", TensorProto.INT64, [4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert [node.op_type for node in with_kept_zero_points(model).graph.node] == ["Concat"]


class Core:
    """Computes as OpenVINO does where zero points are lost, or sums overflow, or rightly."""

    def __init__(self, loses: float, largest: float) -> None:
        self.loses, self.largest = loses, largest

    def read_model(self, source: bytes) -> onnx.ModelProto:
        return onnx.load_model_from_string(source)

    def compile_model(self, model: onnx.ModelProto, *_: object):
        def compiled(inputs):
            concatenated = len(next(n for n in model.graph.node if n.op_type == "Concat").input) > 1
            shifted = inputs[0] + self.loses * concatenated
            found = GraphExecutor(model).run(torch.from_numpy(shifted)).numpy()
            return [np.clip(found, -self.largest, self.largest)]

        return compiled


class NoKernel(Core):
    def compile_model(self, *_: object):
        raise RuntimeError("could not create a primitive descriptor")


@pytest.mark.parametrize(
    ("core", "concatenates", "multiplies"),
    [
        (Core(0.0, 1e9), True, True),
        (Core(1.0, 1e9), False, True),
        (Core(0.0, 100.0), True, False),
        (NoKernel(0.0, 1e9), False, False),
    ],
)
def test_what_is_computed_wrongly_is_found(core, concatenates, multiplies):
    assert concatenates_exactly(core) == concatenates
    assert multiplies_exactly(core) == multiplies


@pytest.mark.skipif(not X86, reason="the instructions are x86's")
def test_int8_is_not_offered_without_vnni():
    code = (
        "from medptq.engines.openvino import OpenVINOEngine;"
        "print(OpenVINOEngine().availability().precisions)"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=True
    )
    assert "fp32" in done.stdout
    assert "int8" not in done.stdout
