"""Every network the whole way: exported, executed, quantized, and run in INT8."""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

import medptq
from medptq.engines.openvino import OpenVINOEngine
from medptq.engines.protocol import BuildRequest
from medptq.graph.executor import GraphExecutor
from medptq.graph.loading import load_graph
from medptq.graph.simplify import simplify
from medptq.models.architectures.building import build_network
from medptq.models.architectures.registry import ARCHITECTURES
from medptq.models.export import ExportReport, export_onnx
from medptq.progress import Reporter
from medptq.quantization.recipe import Recipe
from small_networks import SMALL, one_thread

pytestmark = pytest.mark.filterwarnings("ignore")  # of MONAI, as it is imported

# They have no narrow size, and nothing that the others do not have: scripts/benchmarks/zoo.py
# quantizes them.
SLOW = ("unest", "monai-vnet")

INT8_IS_NATIVE = platform.machine() in ("x86_64", "AMD64")


@pytest.fixture(scope="module", autouse=True)
def _on_one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    voxels = np.random.default_rng(0).normal(0, 1, (64, 64, 64)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / "scan.nii"))
    return folder


def write_card(path: Path, classes: int, size: tuple[int, int, int]) -> None:
    card = {
        "schema": 1,
        "id": "small",
        "title": "Small",
        "task": "None",
        "modality": "CT",
        "region": "Anywhere",
        "input": {"channels": 1, "patch_size": list(size), "axis_order": "KJI", "overlap": 0.0},
        "preprocessing": [{"step": "scale", "factor": 1.0, "offset": 0.0}],
        "labels": [
            {"value": n, "name": f"Structure {n}", "color": [n, n, n]} for n in range(1, classes)
        ],
        "source": "made by a test",
        "licence": "Apache-2.0",
        "citation": "none",
    }
    path.write_text(json.dumps(card), encoding="utf-8")


@dataclass(frozen=True)
class Exported:
    network: nn.Module
    x: torch.Tensor
    report: ExportReport


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    @functools.cache
    def export(name: str) -> Exported:
        options, size = SMALL[name]
        torch.manual_seed(0)
        network, x = build_network(name, **options), torch.randn(1, 1, *size)
        path = tmp_path_factory.mktemp(name) / "net.onnx"
        return Exported(network, x, export_onnx(network, tuple(x.shape), path, Reporter()))

    return export


@pytest.mark.parametrize("name", SMALL)
def test_exports_to_a_graph_that_computes_the_same(
    name: str, exported: Callable[[str], Exported]
) -> None:
    made = exported(name)
    assert made.report.dynamic_batch
    assert made.report.difference < 1e-4


@pytest.mark.parametrize("name", [name for name in SMALL if name not in SLOW])
def test_goes_the_whole_way_to_int8(
    name: str, exported: Callable[[str], Exported], scans: Path, tmp_path: Path
) -> None:
    made = exported(name)
    with torch.inference_mode():
        expected = made.network(made.x)

    write_card(made.report.path.with_suffix(".json"), expected.shape[1], SMALL[name][1])
    quantized = medptq.quantize(
        medptq.load_model(made.report.path),
        scans,
        tmp_path / "int8",
        recipe=Recipe(observer="max", patches=1),
    )
    with torch.inference_mode():
        executed = GraphExecutor(quantized.model.onnx).run(made.x)
        simulated = GraphExecutor(quantized.int8).run(made.x)
    assert (executed - expected).abs().max() < 1e-4 * expected.abs().max()

    if not INT8_IS_NATIVE:
        return
    request = BuildRequest(quantized.int8, "int8", tuple(made.x.shape))
    engine, warnings = OpenVINOEngine(), []
    engine.build(request, tmp_path / "built", Reporter(None, warnings.append))
    with engine.open(request, tmp_path / "built") as session:
        found = session.run(made.x).float()
        layers = session.layer_precisions()
    assert not warnings
    assert set(layers) == {"int8"}
    assert layers["int8"] >= quantized.manifest["placement"]["weights"]
    error = float((simulated - expected).norm() / expected.norm())
    # What is not INT8 runs in BF16, where the machine has it.
    assert float((found - expected).norm() / expected.norm()) < 1.2 * error + 0.03


def test_vista3ds_classes_become_one_convolution(exported: Callable[[str], Exported]) -> None:
    made = exported("vista3d")
    shape = tuple(made.x.shape)
    graph = simplify(load_graph(made.report.path), input_shape=shape).graph
    [head] = [node for node in graph.node if "logits" in node.output]
    weights = {tensor.name: tensor for tensor in graph.initializer}
    assert head.op_type == "Conv"
    assert list(weights[head.input[1]].dims) == [4, 8, 1, 1, 1]
    # What answers to points is not in the file.
    assert not any("point_head" in name for name in weights)


@pytest.mark.parametrize("name", ["transunet", "unetr", "unest", "swinunetr-t", "medformer"])
def test_attention_is_matrix_products_that_can_be_quantized(
    name: str, exported: Callable[[str], Exported]
) -> None:
    kinds = {node.op_type for node in load_graph(exported(name).report.path).graph.node}
    assert "MatMul" in kinds
    assert not kinds & {"Einsum", "ScatterND"}


def test_all_sizes_of_a_family_are_one_builder() -> None:
    for family in ("swinunetr", "stunet"):
        builders = {e.builder for n, e in ARCHITECTURES.items() if n.startswith(family)}
        assert len(builders) == 1
