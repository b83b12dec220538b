from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from medptq.engines.tensorrt_graph import with_input_shape
from medptq.graph.simplify import simplify
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
    shape = (1, 1, 8, 8, 8)
    graph = simplify(export(network.eval(), shape, tmp_path / "net.onnx"), input_shape=shape)
    [first, second] = work_of(graph)
    voxels = 8**3
    assert first == (2 * voxels * 4 * 27, voxels * (1 + 4) + 4 * 27)
    assert second == (2 * voxels * 4 * 2 * 8, voxels * 4 + 8 * voxels * 2 + 4 * 2 * 8)


@pytest.mark.parametrize("name", ["swinunetr-t", "medformer"])
def test_each_layers_work_is_known(name, tmp_path):
    # Of windows and heads exporters compute the shapes in the graph, by divisions.
    options, patch = SMALL[name]
    shape = (1, 1, *patch)
    exported = export(build_network(name, **options), shape, tmp_path / "net.onnx")
    work = work_of(with_input_shape(exported, shape))
    modules = build_network(name, **options).modules()
    least = sum(isinstance(module, (torch.nn.Conv3d, torch.nn.Linear)) for module in modules)
    assert len(work) >= least > 20
    assert all(operations > 0 and values > 0 for operations, values in work)


def test_a_layer_takes_as_long_as_the_slower_of_computing_and_moving():
    peak = {"fp16_per_second": 1e6, "int8_per_second": 2e6, "bytes_per_second": 1e3}
    computes, moves = (5000.0, 1.0), (1.0, 10.0)
    assert least_ms([computes], peak, "fp16", 1) == pytest.approx(5)
    assert least_ms([computes], peak, "int8", 1) == pytest.approx(2.5)
    assert least_ms([moves], peak, "fp16", 1) == pytest.approx(20)
    assert least_ms([computes, moves], peak, "int8", 4) == pytest.approx(4 * 12.5)
