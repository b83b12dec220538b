"""MeshNets of brainchop: converted, loaded, and in INT8 with their dilated convolutions."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

import medptq
from medptq.graph.executor import GraphExecutor
from medptq.graph.loading import load_graph
from medptq.models.loading import load_model

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT / "scripts"))

from convert_brainchop import convert  # noqa: E402

DILATIONS = (1, 2, 4, 2)
PATCH = (12, 16, 20)


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(tmp_path / "library"))


def write_brainchop(folder: Path, activation: str, normalized: bool) -> nn.Sequential:
    """Write a small MeshNet as brainchop has it; return the same in PyTorch."""
    torch.manual_seed(0)
    modules: list[nn.Module] = []
    layers: list[dict[str, Any]] = [{"class_name": "InputLayer", "config": {"name": "input"}}]
    specs, data = [], b""
    kinds = {"relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU}
    for number, dilation in enumerate((*DILATIONS, 1)):
        last = number == len(DILATIONS)
        inputs, outputs, size = (1 if number == 0 else 4), (3 if last else 4), (1 if last else 3)
        bias = last or not normalized
        convolution = nn.Conv3d(inputs, outputs, size, padding="same", dilation=dilation, bias=bias)
        modules.append(convolution)
        name = f"conv3d_{number}" + ("_gn" if normalized and not last else "")
        config = {
            "name": name,
            "filters": outputs,
            "kernel_size": [size] * 3,
            "dilation_rate": [dilation] * 3,
            "activation": "linear",
            "padding": "same",
            "use_bias": bias,
        }
        layers.append({"class_name": "Conv3D", "config": config})
        kernel = convolution.weight.detach().numpy().transpose(2, 3, 4, 1, 0)
        weights = [("kernel", kernel)]
        if convolution.bias is not None:
            weights.append(("bias", convolution.bias.detach().numpy()))
        for kind, values in weights:
            spec = {"name": f"{name}/{kind}", "shape": list(values.shape), "dtype": "float32"}
            specs.append(spec)
            data += np.ascontiguousarray(values, "<f4").tobytes()
        if not last:
            if normalized:
                modules.append(nn.GroupNorm(outputs, outputs, affine=False))
            modules.append(kinds[activation]())
            act = {"name": f"activation_{number}", "activation": activation}
            layers.append({"class_name": "Activation", "config": act})
    folder.mkdir()
    content = {
        "modelTopology": {"model_config": {"config": {"layers": layers}}},
        "weightsManifest": [{"paths": ["model.bin"], "weights": specs}],
    }
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "model.bin").write_bytes(data)
    return nn.Sequential(*modules).eval()


@pytest.mark.parametrize(
    ("activation", "normalized"), [("relu", False), ("elu", False), ("gelu", True)]
)
def test_it_computes_what_brainchop_does(tmp_path: Path, activation: str, normalized: bool) -> None:
    expected = write_brainchop(tmp_path / "small", activation, normalized)
    model = load_model(convert(tmp_path / "small", tmp_path / "out", PATCH))
    assert (model.id, model.patch_size) == ("brainchop-small", PATCH)
    assert [label.name for label in model.labels] == ["White matter", "Grey matter"]
    x = torch.randn(1, 1, *PATCH)
    with torch.inference_mode():
        torch.testing.assert_close(
            GraphExecutor(load_graph(model.onnx)).run(x), expected(x), rtol=1e-4, atol=1e-4
        )


def test_scans_are_clipped_where_brainchop_clips_them(tmp_path: Path) -> None:
    steps = {}
    for name in ("model20chan3cls", "model11_gw_ae"):
        write_brainchop(tmp_path / name, "elu", normalized=False)
        model = load_model(convert(tmp_path / name, tmp_path / "out", PATCH))
        steps[name] = [step["step"] for step in model.preprocessing]
    assert steps["model11_gw_ae"] == ["orient", "spacing", "minmax"]
    assert steps["model20chan3cls"] == ["orient", "spacing", "clip_percentiles", "minmax"]


def test_what_is_no_meshnet_is_not_converted(tmp_path: Path) -> None:
    write_brainchop(tmp_path / "small", "relu", normalized=False)
    data = (tmp_path / "small" / "model.bin").read_bytes()
    (tmp_path / "small" / "model.bin").write_bytes(data + b"more")
    with pytest.raises(SystemExit, match="bytes"):
        convert(tmp_path / "small", tmp_path / "out", PATCH)
    (tmp_path / "small" / "model.bin").write_bytes(data)
    path = tmp_path / "small" / "model.json"
    path.write_text(path.read_text(encoding="utf-8").replace("Conv3D", "Conv2D", 1))
    with pytest.raises(SystemExit, match="no MeshNet"):
        convert(tmp_path / "small", tmp_path / "out", PATCH)
    assert not list(tmp_path.glob("out/*"))


def dice(found: np.ndarray, expected: np.ndarray) -> float:
    return float(2 * (found & expected).sum() / (found.sum() + expected.sum()))


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "brainchop_meshnet").is_dir(), reason="there is no shared data")
def test_tissues_of_a_head_are_found_in_fp32_and_int8(tmp_path: Path) -> None:
    folder = SHARED / "t1_mni152"
    name = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
    t1, grey, white = (sitk.ReadImage(str(folder / name.format(n))) for n in ("t1", "gm", "wm"))
    # The upper half of one hemisphere alone, as this is to be quick; the network is made for whole
    # heads, of which it finds more.
    region = sitk.LabelShapeStatisticsImageFilter()
    region.Execute((grey > 0) | (white > 0))
    i, j, k, _, depth, height = region.GetBoundingBox(1)
    start, size = (i, j, k + height - 96), (80, depth, 96)
    crop = [sitk.RegionOfInterest(image, size, start) for image in (t1, grey, white)]
    (tmp_path / "scans").mkdir()
    sitk.WriteImage(crop[0], str(tmp_path / "scans" / "t1.nii.gz"))
    gm, wm = (sitk.GetArrayFromImage(image).astype(int) for image in crop[1:])

    source = SHARED / "brainchop_meshnet" / "model11_gw_ae"
    model = load_model(convert(source, tmp_path / "out", (80, 96, -(-depth // 16) * 16)))
    recipe = medptq.Recipe(observer="max", patches=1)
    quantized = medptq.quantize(model, tmp_path / "scans", tmp_path / "int8", recipe=recipe)
    found = {}
    for precision in ("fp32", "int8"):
        [done] = medptq.segment(quantized, tmp_path / "scans", precision=precision)
        found[precision] = done.segmentation.labels
    for labels in found.values():
        assert dice(labels == 1, (wm >= gm) & (wm > 127)) > 0.75
        assert dice(labels == 2, (gm > wm) & (gm > 127)) > 0.55
    assert (found["fp32"] == found["int8"]).mean() > 0.97
