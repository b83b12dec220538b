from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from medptq.engines.openvino import OpenVINOEngine, import_openvino
from medptq.engines.openvino_int8 import multiplies_exactly
from medptq.engines.proof_network import PROOF_SHAPE, proof_network
from medptq.engines.protocol import BuildRequest, Precision, Session
from medptq.engines.pytorch import PyTorchEngine
from medptq.errors import EngineError
from medptq.progress import Reporter

pytest.importorskip("openvino")

X86 = platform.machine() in ("x86_64", "AMD64")
PRECISIONS = OpenVINOEngine().availability().precisions


def opened(
    folder: Path,
    graph: onnx.ModelProto,
    precision: Precision,
    shape: tuple[int, int, int, int, int] = PROOF_SHAPE,
) -> Session:
    path = folder / f"{precision}.onnx"
    onnx.save(graph, path)
    request = BuildRequest(path, precision, shape)
    OpenVINOEngine().build(request, folder / "built", Reporter())
    return OpenVINOEngine().open(request, folder / "built")


def reference(folder: Path, graph: onnx.ModelProto, batch: torch.Tensor) -> torch.Tensor:
    path = folder / "reference.onnx"
    onnx.save(graph, path)
    request = BuildRequest(path, "fp32", tuple(batch.shape))
    PyTorchEngine().build(request, folder / "reference", Reporter())
    with PyTorchEngine().open(request, folder / "reference") as session:
        return session.run(batch.to(session.device)).cpu().clone()


def image(batch: int = 1) -> torch.Tensor:
    return 3 * torch.rand(batch, *PROOF_SHAPE[1:], generator=torch.Generator().manual_seed(1))


def with_free_batch(graph: onnx.ModelProto) -> onnx.ModelProto:
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return graph


def test_offers_int8_first_where_it_is_native():
    availability = OpenVINOEngine().availability()
    assert availability.usable
    assert availability.version
    assert availability.precisions[-1] == "fp32"
    is_native = X86 and multiplies_exactly(import_openvino().Core())
    assert (availability.precisions[0] == "int8") == is_native


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_really_runs_and_agrees_with_pytorch(tmp_path, precision):
    graph = proof_network(quantized=precision == "int8")
    expected = reference(tmp_path, graph, image())
    with opened(tmp_path, graph, precision) as session:
        found = session.run(image()).clone()
        # Above all: an FP32 blob must not come back in BF16 when it is opened.
        assert session.layer_precisions() == {precision: 3}
    worst = {"fp32": 1e-5, "bf16": 3e-2, "int8": 3e-2}[precision]
    assert (found - expected).abs().max() <= worst * expected.abs().max()


def test_output_is_a_view_that_the_next_run_writes_over(tmp_path):
    with opened(tmp_path, proof_network(quantized=False), "fp32") as session:
        first = session.run(image())
        kept = first.clone()
        second = session.run(torch.zeros(PROOF_SHAPE))
        assert first.data_ptr() == second.data_ptr()
        assert not torch.equal(first, kept)


def test_input_need_not_be_contiguous(tmp_path):
    with opened(tmp_path, proof_network(quantized=False), "fp32") as session:
        expected = session.run(image()).clone()
        strided = image().transpose(2, 4).contiguous().transpose(2, 4)
        assert not strided.is_contiguous()
        assert torch.equal(session.run(strided), expected)


def test_a_smaller_batch_gives_what_it_gives_alone(tmp_path):
    graph = with_free_batch(proof_network(quantized=False))
    batch = image(3)
    with opened(tmp_path, graph, "fp32", (3, *PROOF_SHAPE[1:])) as session:
        assert session.input_shape == (3, *PROOF_SHAPE[1:])
        whole = session.run(batch).clone()
        for count in (1, 2):
            part = session.run(batch[:count])
            assert part.shape[0] == count
            torch.testing.assert_close(part, whole[:count])


def test_int8_of_a_graph_without_qdq_is_refused(tmp_path):
    with pytest.raises(EngineError) as error:
        opened(tmp_path, proof_network(quantized=False), "int8")
    assert error.value.code == "engine.not-quantized"


@pytest.mark.skipif(not X86, reason="INT8 is offered on x86 only")
def test_warns_where_no_layer_would_run_in_int8(tmp_path):
    # The only Q/DQ pair lies behind the convolution, so that this stays in floating point.
    weights = np.random.default_rng(0).random((2, 1, 3, 3, 3), np.float32)
    constants = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["conv"], pads=[1] * 6),
        helper.make_node("QuantizeLinear", ["conv", "scale", "zero"], ["int8"]),
        helper.make_node("DequantizeLinear", ["int8", "scale", "zero"], ["logits"]),
    ]
    shapes = (("image", (1, 1, 8, 8, 8)), ("logits", (1, 2, 8, 8, 8)))
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes]
    graph = helper.make_graph(nodes, "late", values[:1], values[1:], constants)
    path = tmp_path / "late.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    warnings: list[str] = []
    OpenVINOEngine().build(
        BuildRequest(path, "int8", (1, 1, 8, 8, 8)),
        tmp_path / "built",
        Reporter(None, warnings.append),
    )
    assert len(warnings) == 1
    assert "INT8" in warnings[0]


def test_a_precision_that_the_cpu_lacks_is_refused(tmp_path):
    with pytest.raises(EngineError, match="cannot run fp16 here"):
        opened(tmp_path, proof_network(quantized=False), "fp16")


def test_a_shape_that_the_graph_cannot_take_is_one_sentence(tmp_path):
    with pytest.raises(EngineError) as error:
        opened(tmp_path, proof_network(quantized=False), "fp32", (1, 4, 8, 8, 8))
    assert error.value.code == "engine.build"
    assert "\n" not in str(error.value)
    assert ".cpp" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_damaged_blob_is_refused(tmp_path, content):
    opened(tmp_path, proof_network(quantized=False), "fp32").close()
    built = tmp_path / "built"
    whole = built.read_bytes()
    built.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(EngineError) as error:
        OpenVINOEngine().open(BuildRequest(tmp_path / "fp32.onnx", "fp32", PROOF_SHAPE), built)
    assert error.value.code == "engine.open"


def test_a_blob_of_another_shape_is_refused(tmp_path):
    opened(tmp_path, proof_network(quantized=False), "fp32").close()
    other = BuildRequest(tmp_path / "fp32.onnx", "fp32", (1, 1, 16, 16, 16))
    with pytest.raises(EngineError, match=r"not \(1, 1, 16, 16, 16\)"):
        OpenVINOEngine().open(other, tmp_path / "built")


def test_more_than_the_memory_holds_is_an_error_of_its_own(tmp_path):
    graph = with_free_batch(proof_network(quantized=False))
    with pytest.raises(EngineError) as error:
        opened(tmp_path, graph, "fp32", (100_000_000, *PROOF_SHAPE[1:]))
    assert error.value.code == "engine.memory"


def test_says_how_to_get_it_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    availability = OpenVINOEngine().availability()
    assert not availability.usable
    assert "pip install openvino" in availability.reason


QUIET = """
import sys
reached = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "os.fork"):
        reached.append((event, arguments))
sys.addaudithook(hook)
from medptq.engines.openvino import OpenVINOEngine
assert OpenVINOEngine().availability().usable
assert "openvino" in sys.modules
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
assert not reached, reached
"""


def test_using_it_is_reported_to_nobody():
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run([sys.executable, "-c", QUIET], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
