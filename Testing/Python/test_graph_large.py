"""Networks whose weights take more than one ONNX file holds; here the limit is lowered to 1 MiB."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import SimpleITK as sitk
import torch
from torch import nn

import medptq
from medptq.engines.openvino import OpenVINOEngine
from medptq.engines.protocol import BuildRequest
from medptq.errors import ModelError
from medptq.graph import loading
from medptq.graph.executor import GraphExecutor
from medptq.graph.external_data import (
    content_digest,
    is_whole,
    save_graph,
    serialized,
    stored_bytes,
)
from medptq.graph.loading import load_graph
from medptq.models.export import export_onnx
from medptq.progress import Reporter
from medptq.quantization.recipe import Recipe

SHAPE = (1, 1, 8, 8, 8)


@pytest.fixture(autouse=True)
def _one_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MESSAGE_BYTES", 1 << 20)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 100, 1), nn.ReLU(), nn.Conv3d(100, 128, 3, padding=1), nn.Conv3d(128, 3, 1)
    ).eval()


@pytest.fixture
def path(network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an ONNX file with its weights, 1.4 MB and a little, beside it."""
    with monkeypatch.context() as patch:
        patch.setattr(loading, "MESSAGE_BYTES", 1 << 31)
        export_onnx(network, SHAPE, tmp_path / "whole.onnx", Reporter())
    (tmp_path / "in").mkdir()
    onnx.save_model(
        onnx.load(tmp_path / "whole.onnx"),
        tmp_path / "in" / "network.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    return tmp_path / "in" / "network.onnx"


def outputs(network: nn.Module, graph: onnx.ModelProto) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return network(x), GraphExecutor(graph).run(x)


def test_large_weights_stay_in_their_file_and_small_ones_do_not(
    network: nn.Module, path: Path
) -> None:
    graph = load_graph(path)
    outside = [t for t in graph.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert [list(tensor.dims) for tensor in outside] == [[128, 100, 3, 3, 3]]
    assert not is_whole(graph)
    torch.testing.assert_close(*outputs(network, graph))


def test_the_size_of_a_network_is_that_of_all_its_files(path: Path) -> None:
    files = [file.stat().st_size for file in path.parent.iterdir()]
    assert stored_bytes(path) == sum(files) > 1_000_000


def test_no_write_to_a_weight_reaches_its_file(path: Path) -> None:
    before = (path.parent / "weights.bin").read_bytes()
    executor = GraphExecutor(load_graph(path))
    for tensor in executor.constants.values():
        tensor.zero_()
    assert (path.parent / "weights.bin").read_bytes() == before


def test_is_saved_as_two_files_that_can_be_moved(
    network: nn.Module, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    save_graph(load_graph(path), tmp_path / "out" / "again.onnx")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "again.onnx",
        "again.onnx.data",
    ]
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    (path.parent / "weights.bin").unlink()
    torch.testing.assert_close(*outputs(network, load_graph(moved / "again.onnx")))


def test_a_file_cannot_itself_point_to_an_absolute_path(path: Path, tmp_path: Path) -> None:
    graph = load_graph(path)  # as it is in memory, which no file may be
    (tmp_path / "evil.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load_graph(tmp_path / "evil.onnx")
    assert caught.value.code == "model.external-data"


def test_weights_that_do_not_fill_their_shape_are_refused(path: Path) -> None:
    graph = onnx.load(path, load_external_data=False)
    [tensor] = [t for t in graph.graph.initializer if len(t.dims) == 5 and t.dims[0] == 128]
    tensor.dims[0] = 129
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ModelError):
        load_graph(path)


def test_the_digest_is_that_of_the_weights_too(path: Path) -> None:
    before = content_digest(load_graph(path))
    weights = bytearray((path.parent / "weights.bin").read_bytes())
    weights[len(weights) // 2] ^= 1
    (path.parent / "weights.bin").write_bytes(weights)
    assert content_digest(load_graph(path)) != before


def test_what_needs_one_file_says_that_it_cannot_be(path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        serialized(load_graph(path))
    assert caught.value.code == "model.too-large"


def test_is_quantized_to_a_folder_that_proves_that_it_is_whole(
    network: nn.Module, path: Path, tmp_path: Path
) -> None:
    card = {
        "schema": 1,
        "id": "large",
        "title": "Large",
        "task": "None",
        "modality": "CT",
        "region": "Anywhere",
        "input": {"channels": 1, "patch_size": list(SHAPE[2:]), "axis_order": "KJI", "overlap": 0},
        "preprocessing": [{"step": "scale", "factor": 1.0, "offset": 0.0}],
        "labels": [{"value": n, "name": f"Part {n}", "color": [n, n, n]} for n in (1, 2)],
        "source": "made by a test",
        "licence": "Apache-2.0",
        "citation": "none",
    }
    path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    (tmp_path / "scans").mkdir()
    voxels = np.random.default_rng(0).normal(0, 1, (16, 16, 16)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "scans" / "scan.nii"))

    quantized = medptq.quantize(
        path, tmp_path / "scans", tmp_path / "int8", recipe=Recipe(observer="max", patches=1)
    )
    assert "fp32.onnx.data" in quantized.manifest["files"]
    assert quantized.manifest["agreement_with_fp32"]["relative_output_error"] < 0.02
    torch.testing.assert_close(*outputs(network, load_graph(quantized.model.onnx)))

    x = torch.randn(SHAPE)
    with torch.inference_mode():
        expected = network(x)
    request = BuildRequest(quantized.model.onnx, "fp32", SHAPE)
    OpenVINOEngine().build(request, tmp_path / "built", Reporter())
    with OpenVINOEngine().open(request, tmp_path / "built") as session:
        torch.testing.assert_close(session.run(x), expected, rtol=1e-3, atol=1e-4)

    with (quantized.folder / "fp32.onnx.data").open("r+b") as stream:
        stream.write(b"\1\2\3\4")
    with pytest.raises(ModelError) as caught:
        medptq.load_model(quantized.folder)
    assert caught.value.code == "model.quantized"
