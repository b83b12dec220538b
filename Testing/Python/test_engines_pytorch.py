from __future__ import annotations

import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from medptq.engines.proof_network import PROOF_SHAPE, proof_network
from medptq.engines.protocol import BuildRequest
from medptq.engines.pytorch import PyTorchEngine
from medptq.errors import EngineError, ModelError
from medptq.progress import Reporter

SHAPE = (1, 1, 8, 8, 8)


@pytest.fixture
def image() -> torch.Tensor:
    return 3 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))


def small(*, quantized: bool) -> onnx.ModelProto:
    graph = proof_network(quantized=quantized)
    for value in (*graph.graph.input, *graph.graph.output):
        for dimension in value.type.tensor_type.shape.dim[2:]:
            dimension.dim_value = SHAPE[-1]
    return graph


@pytest.mark.parametrize(("precision", "quantized"), [("fp32", False), ("int8", True)])
def test_computes_what_onnxs_reference_computes(tmp_path, image, precision, quantized):
    graph = small(quantized=quantized)
    onnx.save(graph, tmp_path / "net.onnx")
    request = BuildRequest(tmp_path / "net.onnx", precision, SHAPE)
    PyTorchEngine().build(request, tmp_path / "built", Reporter())
    graph.opset_import[0].version = 19  # ONNX's reference has no older Q/DQ; it computes the same
    (expected,) = ReferenceEvaluator(graph).run(None, {"image": image.numpy()})
    with PyTorchEngine().open(request, tmp_path / "built") as session:
        assert session.input_shape == SHAPE
        found = session.run(image.to(session.device)).cpu()
        assert session.layer_precisions() == {"fp32": 3}  # INT8 is only simulated
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-3, atol=1e-3)


def test_the_built_file_stands_alone(tmp_path, image):
    source = tmp_path / "source"
    source.mkdir()
    onnx.save(
        small(quantized=False),
        source / "net.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    request = BuildRequest(source / "net.onnx", "fp32", SHAPE)
    PyTorchEngine().build(request, tmp_path / "built", Reporter())
    (source / "weights.bin").unlink()
    with PyTorchEngine().open(request, tmp_path / "built") as session:
        assert session.run(image.to(session.device)).shape == (1, 2, 8, 8, 8)


def test_simulated_int8_is_not_called_native():
    availability = PyTorchEngine().availability()
    assert availability.usable
    assert "fp32" in availability.precisions
    assert "int8" not in availability.precisions


def test_int8_of_a_graph_without_qdq_is_refused(tmp_path):
    onnx.save(small(quantized=False), tmp_path / "net.onnx")
    with pytest.raises(EngineError) as error:
        PyTorchEngine().build(
            BuildRequest(tmp_path / "net.onnx", "int8", SHAPE), tmp_path / "built", Reporter()
        )
    assert error.value.code == "engine.not-quantized"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs FP16")
def test_fp16_needs_a_gpu(tmp_path):
    onnx.save(small(quantized=False), tmp_path / "net.onnx")
    with pytest.raises(EngineError, match="NVIDIA GPU"):
        PyTorchEngine().build(
            BuildRequest(tmp_path / "net.onnx", "fp16", SHAPE), tmp_path / "built", Reporter()
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_on_a_gpu_input_and_output_stay_there(tmp_path, precision):
    onnx.save(proof_network(quantized=False), tmp_path / "net.onnx")
    request = BuildRequest(tmp_path / "net.onnx", precision, PROOF_SHAPE)
    PyTorchEngine().build(request, tmp_path / "built", Reporter())
    with PyTorchEngine().open(request, tmp_path / "built") as session:
        output = session.run(torch.zeros(PROOF_SHAPE, device=session.device))
        assert output.device.type == "cuda"
        assert session.layer_precisions() == {precision: 3}


def test_files_that_are_no_graph_are_refused(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"no graph")
    request = BuildRequest(tmp_path / "net.onnx", "fp32", SHAPE)
    with pytest.raises(ModelError):
        PyTorchEngine().build(request, tmp_path / "built", Reporter())
    with pytest.raises(EngineError):
        PyTorchEngine().open(request, tmp_path / "net.onnx")
