"""Export to ONNX: the graph computes what the network does, or is not kept."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from medptq.errors import Cancelled, ModelError, OutputError
from medptq.graph.executor import GraphExecutor
from medptq.models.export import TOLERANCE, Shape, export_onnx
from medptq.progress import Progress, Reporter

SHAPE = (1, 1, 16, 16, 16)


class Counting(nn.Module):
    """Computes something else on every call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.cat([image, image * self.calls], dim=1)


class Sized(nn.Module):
    """Has a weight for every voxel of the patch."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, *shape[1:]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, image + self.position], dim=1)


class OneByOne(nn.Module):
    """Has the number of images in its batch baked in as it is traced."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, image * float(image.shape[0])], dim=1)


class TwoHeads(nn.Module):
    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image + 1, image + 2


class Picky(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"wants 4 channels, got {image.shape[1]}.\nand more")


def dims(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        nn.Dropout3d(0.5),
        nn.MaxPool3d(2),
        nn.LeakyReLU(),
        nn.ConvTranspose3d(4, 2, 2, stride=2),
    )


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", ["module", "scripted", "traced"])
def test_the_graph_computes_what_the_network_does(kind: str, tmp_path: Path) -> None:
    network = small_network()
    image = torch.randn(3, *SHAPE[1:])
    module = network
    if kind == "scripted":
        module = torch.jit.script(network)
    elif kind == "traced":
        module = torch.jit.trace(network.eval(), image[:1])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = export_onnx(module, SHAPE, tmp_path / "net.onnx", Reporter())

    assert report.path == tmp_path / "net.onnx"
    assert list(tmp_path.iterdir()) == [report.path]
    assert report.checked_shape == (2, *SHAPE[1:])
    assert report.dynamic_batch
    assert report.difference <= 1e-5
    graph = onnx.load(report.path).graph
    assert (graph.input[0].name, dims(graph.input[0])) == ("image", ["N", 1, 16, 16, 16])
    assert (graph.output[0].name, dims(graph.output[0])) == ("logits", ["N", 2, 16, 16, 16])
    with torch.inference_mode():
        expected = network.eval()(image)
        found = GraphExecutor(report.path).run(image)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_monai_network_is_exported(tmp_path: Path) -> None:
    from monai.networks.nets.unet import UNet

    network = UNet(3, 2, 3, channels=(4, 8, 16), strides=(2, 2), num_res_units=1)

    report = export_onnx(network, (1, 2, 32, 24, 16), tmp_path / "net.onnx", Reporter())

    assert report.difference <= 1e-5
    assert report.checked_shape == (2, 2, 32, 24, 16)


def test_large_patches_are_checked_at_a_reduced_size(tmp_path: Path) -> None:
    report = export_onnx(small_network(), (1, 1, 72, 16, 66), tmp_path / "net.onnx", Reporter())

    assert report.checked_shape == (2, 1, 64, 16, 64)


def test_a_network_of_one_size_is_checked_at_that_size(tmp_path: Path) -> None:
    shape = (1, 1, 68, 8, 8)

    report = export_onnx(Sized(shape), shape, tmp_path / "net.onnx", Reporter())

    assert report.checked_shape == (2, 1, 68, 8, 8)


def test_a_network_that_cannot_take_a_batch_gets_a_graph_for_one_image(tmp_path: Path) -> None:
    report = export_onnx(OneByOne(), SHAPE, tmp_path / "net.onnx", Reporter())

    assert not report.dynamic_batch
    assert report.checked_shape == SHAPE
    graph = onnx.load(report.path).graph
    assert dims(graph.input[0]) == [1, 1, 16, 16, 16]
    assert dims(graph.output[0])[0] == 1


@pytest.mark.parametrize(
    ("network", "code", "words"),
    [
        (Counting(), "model.parity", "its output differs by"),
        (TwoHeads(), "model.not-segmentation", "2 outputs"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4096, 2)), "model.not-segmentation", "output"),
        (Picky(), "model.export", "says: wants 4 channels, got 1. Check"),
        (nn.Conv3d(3, 2, 1), "model.export", "3 channels"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing_behind(
    network: nn.Module, code: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        export_onnx(network, SHAPE, tmp_path / "net.onnx", Reporter())

    assert caught.value.code == code
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_gate_is_as_tight_as_it_says(tmp_path: Path) -> None:
    class Drifting(nn.Module):
        def __init__(self, drift: float) -> None:
            super().__init__()
            self.drift, self.calls = drift, -1

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            share = 1.0 + (self.drift if self.calls else 0.0)  # the trace is the first call
            return torch.cat([image, image * share], dim=1)

    report = export_onnx(Drifting(TOLERANCE / 2), SHAPE, tmp_path / "in.onnx", Reporter())
    assert report.difference == pytest.approx(TOLERANCE / 2, rel=0.1)
    with pytest.raises(ModelError, match="differs"):
        export_onnx(Drifting(TOLERANCE * 2), SHAPE, tmp_path / "out.onnx", Reporter())


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("precious")

    with pytest.raises(OutputError):
        export_onnx(small_network(), SHAPE, path, Reporter())

    assert path.read_text() == "precious"


def test_a_cancelled_export_leaves_nothing_behind(tmp_path: Path) -> None:
    seen: list[Progress] = []
    stopping = Reporter(on_progress=seen.append, cancelled=lambda: len(seen) > 1)

    with pytest.raises(Cancelled):
        export_onnx(small_network(), SHAPE, tmp_path / "net.onnx", stopping)

    assert list(tmp_path.iterdir()) == []
