from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
import torch

from medptq.engines.tensorrt_graph import with_input_shape
from medptq.models.architectures.building import build_network
from quantization_helpers import export
from small_networks import SMALL

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"))

from gpu_limits import least_ms, work_of


def test_the_work_of_each_layer_is_counted(tmp_path):
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose3d(4, 2, 2, stride=2, bias=False),
    )
    export(network.eval(), (1, 1, 8, 8, 8), tmp_path / "net.onnx")
    [first, second] = work_of(onnx.load(tmp_path / "net.onnx"))
    voxels = 8**3
    assert first == (2 * voxels * 4 * 27, voxels * (1 + 4) + 4 * 27)
    assert second == (2 * voxels * 4 * 2 * 8, voxels * 4 + 8 * voxels * 2 + 4 * 2 * 8)


def test_layers_whose_shapes_only_a_run_tells_are_counted(tmp_path):
    options, patch = SMALL["swinunetr-t"]
    shape = (1, 1, *patch)
    export(build_network("swinunetr-t", **options), shape, tmp_path / "net.onnx")
    graph = with_input_shape(onnx.load(tmp_path / "net.onnx"), shape)
    kinds = [node.op_type for node in graph.graph.node]
    count = sum(map(kinds.count, ("Conv", "ConvTranspose", "Gemm", "MatMul")))
    assert len(work_of(graph)) == count > 30


def test_what_follows_from_constants_alone_is_no_work(tmp_path):
    options, patch = SMALL["vista3d"]  # classes are embedded by products of weights
    shape = (1, 1, *patch)
    export(build_network("vista3d", **options), shape, tmp_path / "net.onnx")
    graph = with_input_shape(onnx.load(tmp_path / "net.onnx"), shape)
    kinds = [node.op_type for node in graph.graph.node]
    assert (
        0 < len(work_of(graph)) < sum(map(kinds.count, ("Conv", "ConvTranspose", "Gemm", "MatMul")))
    )


def test_a_layer_takes_as_long_as_the_slower_of_computing_and_moving():
    peak = {"fp16_per_second": 1e6, "int8_per_second": 2e6, "bytes_per_second": 1e3}
    computes, moves = (5000.0, 1.0), (1.0, 10.0)
    assert least_ms([computes], peak, "fp16", 1) == pytest.approx(5)
    assert least_ms([computes], peak, "int8", 1) == pytest.approx(2.5)
    assert least_ms([moves], peak, "fp16", 1) == pytest.approx(20)
    assert least_ms([computes, moves], peak, "int8", 4) == pytest.approx(4 * 12.5)
