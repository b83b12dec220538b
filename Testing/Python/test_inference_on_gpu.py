"""Whole volumes on a real GPU give the label maps of the CPU."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

import medptq
from medptq.engines import pytorch
from medptq.engines.protocol import BuildRequest, Session
from medptq.engines.pytorch import PyTorchEngine
from medptq.engines.tensorrt import TensorRTEngine
from medptq.inference.restoring import restore
from medptq.inference.restoring_on_gpu import restore_on_gpu
from medptq.inference.segmenting import segment_scan
from medptq.inference.sliding import Slab, sliding_window
from medptq.models.loading import load_model
from medptq.progress import Reporter
from medptq.scans.prepared import AxisMap, PreparedOnGpu, PreparedScan
from medptq.scans.preprocessing import prepare, prepare_on_gpu
from medptq.scans.reading import read_scan
from preparation_steps import STEPS, make_scan
from tiny_network import write_network, write_scan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU"),
    pytest.mark.timeout(600),
]

SILENT = Reporter()
TENSORRT = TensorRTEngine().availability()
RESAMPLED = (
    {"step": "orient", "to": "RAS"},
    {"step": "spacing", "mm": [1.3, 1.1, 1.7]},
    {"step": "scale_range", "from": [0, 100], "to": [0, 1], "clip": True},
)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return load_model(write_network(tmp_path))


def labels_of(engine, model, precision, windows, folder):
    """Segment the folder's scan."""
    request = BuildRequest(model.onnx, precision, (windows, 1, *model.patch_size))
    built = folder / f"{engine.name}-{precision}-{windows}"
    engine.build(request, built, SILENT)
    scan = read_scan(folder / "scan.nrrd")
    with engine.open(request, built) as session:
        found = segment_scan(model, session, scan, reporter=SILENT)
        return found.labels, session.device


def on_the_cpu(model, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytorch, "_device", lambda: torch.device("cpu"))
        labels, device = labels_of(PyTorchEngine(), model, "fp32", 1, folder)
    assert device.type == "cpu"
    assert len(np.unique(labels)) == 3
    return labels


@pytest.mark.parametrize("windows", [1, 4])
@pytest.mark.parametrize("interpolated", ["outputs", "probabilities", "labels"])
@pytest.mark.parametrize("steps", [None, RESAMPLED], ids=["on-grid", "resampled"])
def test_pytorch_on_the_gpu_labels_as_on_the_cpu(tmp_path, model, steps, interpolated, windows):
    write_scan(tmp_path / "scan.nrrd", (50, 44, 38))
    steps = model.preprocessing if steps is None else steps
    model = replace(model, preprocessing=steps, interpolated=interpolated)
    expected = on_the_cpu(model, tmp_path)
    found, device = labels_of(PyTorchEngine(), model, "fp32", windows, tmp_path)
    assert device.type == "cuda"
    assert found.dtype == expected.dtype
    assert np.mean(found == expected) > 0.9999


@pytest.mark.skipif(not TENSORRT.usable, reason=TENSORRT.reason)
@pytest.mark.parametrize(("precision", "windows"), [("fp32", 1), ("fp16", 1), ("fp16", 4)])
def test_tensorrt_labels_as_the_cpu(tmp_path, model, precision, windows):
    write_scan(tmp_path / "scan.nrrd", (50, 44, 38))
    model = replace(model, preprocessing=RESAMPLED)
    expected = on_the_cpu(model, tmp_path)
    found, device = labels_of(TensorRTEngine(), model, precision, windows, tmp_path)
    assert device.type == "cuda"
    # Half precision, and TF32, decide near-ties otherwise.
    assert np.mean(found == expected) > 0.999


class HalfSession(Session):
    """Many classes in FP16, as TensorRT gives them, of windows of 32³."""

    def __init__(self, classes: int) -> None:
        self.input_shape = (1, 1, 32, 32, 32)
        self.device = torch.device("cuda")
        self.weights = torch.linspace(0, 1, classes, device="cuda").reshape(1, -1, 1, 1, 1)

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        return (-30 * (batch - self.weights) ** 2).half()

    def layer_precisions(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


def test_outputs_of_many_classes_are_never_all_held(model):
    classes, shape = 64, (200, 64, 64)
    array = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0)).cuda()
    axes = tuple(AxisMap(n, 1.0, 0.0, length) for n, length in enumerate(shape))
    prepared = PreparedOnGpu(array, axes, shape)
    session = HalfSession(classes)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    slabs = sliding_window(session, prepared, 0.25, classes, SILENT)
    found = restore_on_gpu(slabs, prepared, classes, "outputs", torch.device("cuda"))
    held = torch.cuda.max_memory_allocated() - before
    # A float for each class and voxel would be 210 MB; a window's rows of halves are 17 MB, and
    # what is decided at a time is held a few times over.
    assert held < 150e6
    expected = session.run(array[None])[0].float().argmax(0).cpu().numpy()
    assert np.mean(found == expected) > 0.97


def test_from_file_to_label_map(tmp_path, model):
    scan = write_scan(tmp_path / "scan.nrrd", (50, 44, 38))
    expected = on_the_cpu(model, tmp_path)
    output = tmp_path / "labels.nii.gz"
    medptq.segment(model, scan, output, engine="pytorch", precision="fp32")
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(output)))
    assert np.mean(found == expected) > 0.9999


@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: "-".join(s["step"] for s in steps))
def test_preparing_on_the_gpu_is_preparing_on_the_cpu(steps):
    scan = make_scan(channels=2)
    expected = prepare(scan, steps, "IJK")
    found = prepare_on_gpu(scan, steps, "IJK", None, torch.device("cuda"))
    assert found.array.is_cuda
    rounding = 1e-5 * np.abs(expected.array).max()
    np.testing.assert_allclose(found.array.cpu().numpy(), expected.array, rtol=0, atol=rounding)
    assert found.axes == expected.axes


@pytest.mark.parametrize("classes", [1, 2, 5, 300])
@pytest.mark.parametrize("interpolated", ["outputs", "probabilities", "labels"])
@pytest.mark.parametrize("cuts", [[], [7, 13]])
def test_restoring_on_the_gpu_is_restoring_on_the_cpu(classes, interpolated, cuts):
    random = np.random.default_rng(classes)
    outputs = random.normal(size=(classes, 24, 20, 22)).astype(np.float32)
    values = torch.from_numpy(ndimage.uniform_filter(outputs, (0, 5, 5, 5)))
    axes = (AxisMap(2, -0.61, 13.1, 24), AxisMap(0, 0.7, 0.2, 20), AxisMap(1, 1.3, 1.0, 22))
    prepared = PreparedScan(outputs[:1], axes, (15, 31, 16))
    edges = [0, *cuts, 24]
    slabs = [Slab(0, a, values[:, a:b].clone()) for a, b in itertools.pairwise(edges)]
    there = [Slab(slab.axis, slab.start, slab.values.cuda()) for slab in slabs]
    expected = restore(slabs, prepared, classes, interpolated)
    found = restore_on_gpu(there, prepared, classes, interpolated, torch.device("cuda"))
    assert found.dtype == expected.dtype
    assert np.mean(found == expected) > 0.9999 - 1 / expected.size
