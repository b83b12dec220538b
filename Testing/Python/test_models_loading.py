"""Loading a model: by id and by path, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from medptq.artifacts import sha256_of
from medptq.errors import ModelError
from medptq.models.loading import load_model
from medptq.progress import Progress, Reporter
from model_files import PATCH, network, save_onnx, save_torchscript, write_card

pytestmark = [
    pytest.mark.usefixtures("networks"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]


def two_labels() -> list[dict[str, Any]]:
    return [{"value": value, "name": f"{value}", "color": [0, 0, value]} for value in (1, 2)]


@pytest.mark.parametrize("as_type", [str, Path])
def test_an_onnx_file_is_used_where_it_lies(as_type: type, tmp_path: Path) -> None:
    path = save_onnx(network(), tmp_path / "my net é.onnx")
    write_card(tmp_path / "my net é.json", title="My network")

    model = load_model(as_type(path))

    assert model.onnx == path
    assert (model.title, model.patch_size) == ("My network", PATCH)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("suffix", [".ts", ".pt"])
def test_torchscript_is_exported_once(suffix: str, tmp_path: Path, networks: Path) -> None:
    path = save_torchscript(network(), tmp_path / f"net{suffix}")
    write_card(tmp_path / "net.json")
    stages: list[Progress] = []
    listening = Reporter(on_progress=stages.append)

    first = load_model(path, listening)
    assert stages
    stages.clear()
    second = load_model(path, listening)

    assert first == second
    assert not stages
    assert [folder.name for folder in networks.iterdir()] == [first.onnx.parent.name]
    assert first.onnx.parent.name.startswith("my-network-")
    assert sorted(file.name for file in first.onnx.parent.iterdir()) == [
        "network.onnx",
        "record.json",
    ]
    save_torchscript(network(), path)  # other weights
    assert load_model(path).onnx != first.onnx


def test_a_damaged_export_is_made_again(tmp_path: Path) -> None:
    path = save_torchscript(network(), tmp_path / "net.pt")
    write_card(tmp_path / "net.json")
    model = load_model(path)
    sha256 = sha256_of(model.onnx)
    model.onnx.write_bytes(model.onnx.read_bytes()[:-1])
    warnings: list[str] = []

    again = load_model(path, Reporter(on_warning=warnings.append))

    assert again == model
    assert sha256_of(again.onnx) == sha256
    assert len(warnings) == 1


def test_a_missing_card_is_answered_with_one_that_can_be_used(tmp_path: Path) -> None:
    path = save_onnx(network(), tmp_path / "net.onnx", (96, 96, 96))

    with pytest.raises(ModelError) as caught:
        load_model(path)

    assert caught.value.code == "model.card-missing"
    assert '"The card"' in caught.value.todo
    (tmp_path / "net.json").write_text(caught.value.todo[caught.value.todo.index("{") :])
    assert load_model(path).id == "my-network"


@pytest.mark.parametrize(
    ("stride", "classes", "changes", "words"),
    [
        (1, 3, {}, "its output has 3 channels, and the card's labels need 2"),
        (1, 1, {}, "its output has 1 channels"),
        (1, 2, {"labels": two_labels()}, "need 3"),
        (1, 2, {"input": {"patch_size": [16, 16, 32]}}, "input's W is fixed to 16"),
        (1, 2, {"input": {"patch_size": [16, 16, 16], "channels": 2}}, "input's channels"),
        (2, 2, {}, "into an output of (8, 8, 8)"),
    ],
)
def test_a_graph_that_does_not_fit_its_card_is_refused(
    stride: int, classes: int, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = save_onnx(network(classes, stride), tmp_path / "net.onnx")
    write_card(tmp_path / "net.json", **changes)

    with pytest.raises(ModelError) as caught:
        load_model(path)

    assert caught.value.code == "model.mismatch"
    assert words in str(caught.value)


def test_torchscript_that_does_not_fit_its_card_is_refused_and_not_cached(
    tmp_path: Path, networks: Path
) -> None:
    path = save_torchscript(network(classes=3), tmp_path / "net.pt")
    write_card(tmp_path / "net.json")

    with pytest.raises(ModelError, match="its output has 3 channels"):
        load_model(path)

    assert list(networks.iterdir()) == []
    write_card(tmp_path / "net.json", labels=two_labels())
    assert load_model(path).classes == 3


def open_graph(
    path: Path, declared: tuple[int | str, ...], batch: int | str = "N", inferable: bool = True
) -> Path:
    """Write a graph of open sizes, whose output is [N, 2, *input's], by shape arithmetic."""
    arithmetic = [helper.make_node("Mul", ["shape", "one"], ["target"])]
    if not inferable:  # ONNX's shape inference does not follow floating-point numbers
        arithmetic = [
            helper.make_node("Cast", ["shape"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Abs", ["real"], ["positive"]),
            helper.make_node("Cast", ["positive"], ["target"], to=TensorProto.INT64),
        ]
    nodes = [
        helper.make_node("Concat", ["image", "image"], ["both"], axis=1),
        helper.make_node("Shape", ["both"], ["shape"]),
        *arithmetic,
        helper.make_node("Reshape", ["both", "target"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 1, "D", "H", "W"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, declared)],
        [helper.make_tensor("one", TensorProto.INT64, [5], [1] * 5)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("inferable", [True, False])
def test_what_a_graph_says_of_its_output_is_not_believed(inferable: bool, tmp_path: Path) -> None:
    path = open_graph(tmp_path / "net.onnx", (1, 3, *PATCH), inferable=inferable)
    write_card(tmp_path / "net.json", labels=two_labels())

    with pytest.raises(ModelError, match="its output has 2 channels"):
        load_model(path)

    write_card(tmp_path / "net.json")
    assert load_model(path).classes == 2


def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    path = open_graph(tmp_path / "net.onnx", ("N", 2, "D", "H", "W"), batch=4)
    write_card(tmp_path / "net.json")

    with pytest.raises(ModelError, match="batch is fixed to 4"):
        load_model(path)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('the pickle was opened')",)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickled_checkpoint_is_refused_unopened(legacy: bool, tmp_path: Path) -> None:
    torch.save({"weights": Bomb()}, tmp_path / "net.pt", _use_new_zipfile_serialization=not legacy)
    write_card(tmp_path / "net.json")

    with pytest.raises(ModelError, match="pickled checkpoint") as caught:
        load_model(tmp_path / "net.pt")

    assert caught.value.code == "model.pickle"


@pytest.mark.parametrize("content", [b"", b"no network", b"PK\x03\x04"])
@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_what_is_no_network_is_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    write_card(tmp_path / "net.json")

    with pytest.raises(ModelError) as caught:
        load_model(path)

    assert caught.value.code == "model.unreadable"


def test_torchscript_with_a_damaged_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/ä", "3")
    content = bytearray(path.read_bytes())
    content[content.rindex("ä".encode())] = 0xFF
    path.write_bytes(content)
    write_card(tmp_path / "net.json")

    with pytest.raises(ModelError) as caught:
        load_model(path)

    assert caught.value.code == "model.unreadable"


def test_damaged_torchscript_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        for name in ("net/code/__torch__.py", "net/constants.pkl", "net/data.pkl", "net/version"):
            archive.writestr(name, "3\n")
    write_card(tmp_path / "net.json")

    with pytest.raises(ModelError, match="cannot load it"):
        load_model(tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("deepbeet", "model.unknown", "deepbet"),
        ("absent.onnx", "model.missing", "no such file"),
        ("folder", "model.unknown", "neither a MONAI bundle .* nor an nnU-Net model folder"),
        (
            "net.h5",
            "model.unknown",
            "Export it to ONNX .* a MONAI bundle.s or an nnU-Net model.s folder",
        ),
    ],
)
def test_a_name_that_is_nothing_is_answered_with_what_would_be(
    name: str, code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "net.h5").touch()

    with pytest.raises(ModelError, match=words) as caught:
        load_model(name)

    assert caught.value.code == code
