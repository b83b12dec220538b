"""ONNX files that are damaged, hostile, or something else than a 3D segmentation network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from medptq.errors import ModelError
from medptq.graph.loading import load_graph

IMAGE = ["N", 1, "D", "H", "W"]


def network(
    *,
    op_type: str = "Conv",
    domain: str = "",
    opset: int = 17,
    input_shape: list[int | str] | None = None,
    output_shape: list[int | str] | None = None,
    output_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    weight = onnx.numpy_helper.from_array(np.ones((2, 1, 1, 1, 1), np.float32), "weight")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, input_shape or IMAGE)
    logits = helper.make_tensor_value_info(
        "logits", output_type, output_shape or ["N", 2, "D", "H", "W"]
    )
    node = helper.make_node(op_type, ["image", "weight"], ["logits"], domain=domain)
    graph = helper.make_graph([node], "network", [image], [logits], [weight])
    opsets = [helper.make_opsetid("", opset)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def save(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "network.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def with_external_weight(location: str, **entries: str) -> onnx.ModelProto:
    model = network()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model


def refusal(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_graph(path)
    return caught.value


def test_reads_a_network(tmp_path: Path) -> None:
    assert load_graph(save(network(), tmp_path)) == network()


def test_reads_external_data_from_its_own_folder(tmp_path: Path) -> None:
    values = np.array([3, 4], np.float32)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(b"skipped!" + values.tobytes())
    model = with_external_weight("weights/w.bin", offset="8", length="8")
    tensor = load_graph(save(model, tmp_path)).graph.initializer[0]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor).ravel(), values)


@pytest.mark.parametrize("location", ["../secret.bin", "a/../../secret.bin", "..\\secret.bin", ""])
def test_external_data_cannot_leave_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(8))
    (tmp_path / "inner" / "a").mkdir(parents=True)
    path = save(with_external_weight(location), tmp_path / "inner")
    assert refusal(path).code == "model.external-data"


@pytest.mark.parametrize("drive", ["", "C:", "\\\\host\\share"])
def test_external_data_cannot_be_absolute(tmp_path: Path, drive: str) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(8))
    path = save(with_external_weight(f"{drive}{secret}"), tmp_path)
    assert refusal(path).code == "model.external-data"


def test_external_data_cannot_follow_a_link_out(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(8))
    inner = tmp_path / "inner"
    inner.mkdir()
    try:
        (inner / "w.bin").symlink_to(tmp_path / "secret.bin")
    except OSError:
        pytest.skip("this system does not let us make symbolic links")
    assert refusal(save(with_external_weight("w.bin"), inner)).code == "model.external-data"


@pytest.mark.parametrize(
    "entries",
    [{"length": "80"}, {"offset": "4", "length": "8"}, {"offset": "-8"}, {"length": "many"}],
)
def test_external_data_must_lie_within_the_file(tmp_path: Path, entries: dict[str, str]) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    path = save(with_external_weight("w.bin", **entries), tmp_path)
    assert refusal(path).code == "model.external-data"


def test_missing_external_data(tmp_path: Path) -> None:
    error = refusal(save(with_external_weight("w.bin"), tmp_path))
    assert error.code == "model.external-data"
    assert "w.bin" in error.why


@pytest.mark.parametrize("length", [0, 1, 40, -1])
def test_cut_off_files(tmp_path: Path, length: int) -> None:
    path = save(network(), tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert refusal(path).code == "model.unreadable"


@pytest.mark.parametrize("content", [b"hello", b"\xff" * 100, b"PK\x03\x04" + bytes(100)])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    assert refusal(path).code == "model.unreadable"


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.onnx").code == "model.unreadable"
    assert refusal(tmp_path).code == "model.unreadable"


@pytest.mark.parametrize("dims", [[3, 1, 1, 1, 1], [-2, 1, 1, 1, 1], [1 << 40, 1, 1, 1, 1]])
def test_weights_that_do_not_fill_their_shape(tmp_path: Path, dims: list[int]) -> None:
    model = network()
    model.graph.initializer[0].dims[:] = dims
    assert refusal(save(model, tmp_path)).code == "model.unreadable"


def test_graphs_that_break_the_rules(tmp_path: Path) -> None:
    model = network()
    model.graph.node[0].input[0] = "nowhere"
    assert refusal(save(model, tmp_path)).code == "model.unreadable"


def test_a_classifier_is_no_segmentation_network(tmp_path: Path) -> None:
    error = refusal(save(network(output_shape=["N", 10]), tmp_path))
    assert error.code == "model.not-segmentation"
    assert "[N, 10]" in str(error)


def test_a_2d_network_is_no_3d_network(tmp_path: Path) -> None:
    model = network(input_shape=[1, 3, 224, 224], output_shape=[1, 2, 224, 224])
    error = refusal(save(model, tmp_path))
    assert error.code == "model.not-segmentation"
    assert "[1, 3, 224, 224]" in str(error)


def test_labels_instead_of_scores_are_refused(tmp_path: Path) -> None:
    error = refusal(save(network(output_type=TensorProto.INT64), tmp_path))
    assert error.code == "model.not-segmentation"
    assert "int64" in str(error)


def test_second_outputs_are_refused(tmp_path: Path) -> None:
    model = network()
    model.graph.node.append(helper.make_node("Relu", ["logits"], ["more"]))
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "more"
    error = refusal(save(model, tmp_path))
    assert error.code == "model.not-segmentation"
    assert "'more'" in str(error)


def test_an_output_shape_that_is_left_out_is_inferred(tmp_path: Path) -> None:
    model = network()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    read = load_graph(save(model, tmp_path))
    assert len(read.graph.output[0].type.tensor_type.shape.dim) == 5


def test_operators_that_are_not_known_are_named(tmp_path: Path) -> None:
    error = refusal(save(network(op_type="LSTM"), tmp_path))
    assert error.code == "model.operator"
    assert "LSTM" in str(error)


def test_operators_of_other_domains_are_refused(tmp_path: Path) -> None:
    error = refusal(save(network(op_type="Conv", domain="com.example"), tmp_path))
    assert error.code == "model.operator"
    assert "com.example::Conv" in str(error)


def test_old_opsets_are_refused(tmp_path: Path) -> None:
    error = refusal(save(network(opset=9), tmp_path))
    assert error.code == "model.operator"
    assert "opset 9" in str(error)
