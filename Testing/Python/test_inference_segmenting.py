from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from medptq.engines.openvino import OpenVINOEngine
from medptq.engines.protocol import BuildRequest, Session
from medptq.engines.pytorch import PyTorchEngine
from medptq.errors import EngineError, ScanError
from medptq.inference.segmenting import segment_scan
from medptq.models.segmentation_model import Label, Provenance, SegmentationModel
from medptq.progress import Progress, Reporter
from medptq.scans.scan import Scan

PATCH = (8, 8, 8)
ENGINES = [PyTorchEngine(), OpenVINOEngine()]


def threshold_network(path: Path, size: tuple[int, int, int] = PATCH) -> None:
    """Write a network that finds class 1 above 0.4 and class 2 above 0.8."""
    # Class c wins where its line, w * x + b, lies highest; the lines cross at the thresholds.
    weights = np.array([0, 10, 20], np.float32).reshape(3, 1, 1, 1, 1)
    bias = np.array([0, -4, -12], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weights", "bias"], ["logits"])],
        "threshold",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, *size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3, *size])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def card(path: Path, **changes: object) -> SegmentationModel:
    facts: dict[str, object] = {
        "id": "threshold",
        "title": "Threshold",
        "task": "thresholds",
        "modality": "CT",
        "region": "any",
        "onnx": path,
        "patch_size": PATCH,
        "axis_order": "IJK",
        "channels": 1,
        "overlap": 0.25,
        "labels": (Label(1, "low", (255, 0, 0)), Label(2, "high", (0, 255, 0))),
        "preprocessing": (),
        "postprocessing": (),
        "provenance": Provenance("", "", ""),
    }
    return SegmentationModel(**{**facts, **changes})


def a_scan(shape: tuple[int, int, int] = (11, 19, 14)) -> Scan:
    array = np.random.default_rng(0).random((1, *shape), np.float32)
    ijk_to_ras = np.array([[0, 0, -2, 5], [-1, 0, 0, 7], [0, 1, 0, 1], [0, 0, 0, 1]], float)
    return Scan(array, ijk_to_ras, "scan")


def expected_of(scan: Scan) -> np.ndarray:
    return np.digitize(scan.array[0], [0.4, 0.8]).astype(np.uint8)


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def session(request, tmp_path):
    engine = request.param
    if not engine.availability().usable:
        pytest.skip(engine.availability().reason)
    threshold_network(tmp_path / "net.onnx")
    wanted = BuildRequest(tmp_path / "net.onnx", "fp32", (3, 1, *PATCH))
    engine.build(wanted, tmp_path / "built", Reporter())
    with engine.open(wanted, tmp_path / "built") as opened:
        yield opened


@pytest.mark.parametrize("axis_order", ["IJK", "KJI"])
@pytest.mark.parametrize("orientation", [None, "RAS", "LPI"])
def test_labels_lie_where_the_scans_voxels_are(session, axis_order, orientation):
    steps = [{"step": "orient", "to": orientation}] if orientation else []
    model = card(Path("unread.onnx"), axis_order=axis_order, preprocessing=tuple(steps))
    scan, progress = a_scan(), []
    found = segment_scan(model, session, scan, reporter=Reporter(progress.append))
    assert found.labels.dtype == np.uint8
    assert (found.labels == expected_of(scan)).all()
    assert min(found.seconds.preprocess, found.seconds.inference, found.seconds.postprocess) > 0
    assert isinstance(progress[-1], Progress)
    assert progress[-1].fraction == 1


def test_a_scan_smaller_than_a_patch(session):
    scan = a_scan((3, 8, 5))
    found = segment_scan(card(Path("unread.onnx")), session, scan, reporter=Reporter())
    assert (found.labels == expected_of(scan)).all()


def test_resampled_and_back(session):
    # A smooth scan survives being resampled to voxels of 0.8 mm and back almost unchanged.
    k, j, i = np.indices((16, 20, 24)).astype(np.float32)
    array = (0.5 + 0.5 * np.sin(k / 5) * np.cos(j / 6) * np.sin(i / 7))[None].astype(np.float32)
    scan = Scan(array, np.diag([1.0, 1.0, 1.0, 1.0]), "smooth")
    model = card(Path("unread.onnx"), preprocessing=({"step": "spacing", "mm": [0.8, 0.8, 0.8]},))
    found = segment_scan(model, session, scan, reporter=Reporter()).labels
    near = np.min(np.abs(array[0][..., None] - np.array([0.4, 0.8])), axis=-1) < 0.02
    assert ((found == expected_of(scan)) | near).all()


def test_postprocessing_of_the_card_is_done(session):
    scan = a_scan()
    steps = ({"step": "largest_component", "labels": [2]},)
    model = card(Path("unread.onnx"), postprocessing=steps)
    found = segment_scan(model, session, scan, reporter=Reporter()).labels
    assert 0 < (found == 2).sum() < (expected_of(scan) == 2).sum()


def test_a_scan_with_other_channels_is_refused(session):
    scan = Scan(np.zeros((2, 8, 8, 8), np.float32), np.eye(4), "two")
    with pytest.raises(ScanError, match="2 image channels"):
        segment_scan(card(Path("unread.onnx")), session, scan, reporter=Reporter())


class Small(Session):
    """A session on a device with memory for ``fits`` windows at once."""

    def __init__(self, fits: int) -> None:
        self.input_shape = (8, 1, *PATCH)
        self.device = torch.device("cpu")
        self.fits = fits

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > self.fits:
            raise EngineError("memory", "It did not run", why="memory is full", todo="Get more")
        return torch.cat([torch.zeros_like(batch), 10 * batch - 4, 20 * batch - 12], dim=1)

    def layer_precisions(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


def test_halves_the_batch_where_memory_runs_out():
    warnings: list[str] = []
    scan = a_scan()
    found = segment_scan(
        card(Path("unread.onnx")), Small(3), scan, reporter=Reporter(None, warnings.append)
    )
    assert (found.labels == expected_of(scan)).all()
    assert len(warnings) == 2
    assert "2 are tried" in warnings[-1]


def test_gives_up_where_not_even_one_window_fits():
    with pytest.raises(EngineError) as error:
        segment_scan(card(Path("unread.onnx")), Small(0), a_scan(), reporter=Reporter())
    assert error.value.code == "engine.memory"


def test_refuses_before_the_system_kills_the_program():
    # Classes for which the sums would need far more memory than any machine has.
    labels = (Label(500_000_000, "many", (0, 0, 0)),)
    with pytest.raises(EngineError, match="GB of memory") as error:
        segment_scan(
            card(Path("unread.onnx"), labels=labels), Small(1), a_scan(), reporter=Reporter()
        )
    assert error.value.code == "engine.memory"
