"""Loading checkpoints: every way trainings write them, and files that are not what they say."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medptq.errors import ModelError
from medptq.models.architectures.building import build_network
from medptq.models.architectures.weights import checkpoint_content, load_weights
from small_networks import SMALL, fill

pytestmark = pytest.mark.filterwarnings("ignore")  # of MONAI, as it is imported


class Payload:
    """Makes a folder as it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def trained() -> nn.Module:
    network = build_network("unet", base_features=2, classes=3)
    fill(network)
    return network


@pytest.fixture
def fresh() -> nn.Module:
    return build_network("unet", base_features=2, classes=3)


def require_equal(network: nn.Module, state: dict[str, Tensor]) -> None:
    own = network.state_dict()
    assert own.keys() == state.keys()
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


def refusal(network: nn.Module, path: Path) -> ModelError:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_weights(network, path)
    require_equal(network, before)
    return caught.value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 7, "best": 0.8},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {}}},
        lambda state: {"model": state},
        lambda state: OrderedDict((f"module.{name}", t) for name, t in state.items()),
        lambda state: {f"_orig_mod.module.{name}": t for name, t in state.items()},
        lambda state: {"state_dict": {f"network.{name}": t for name, t in state.items()}},
        lambda state: {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")},
    ],
    ids=["plain", "lightning", "medptq", "monai", "parallel", "compiled", "wrapped", "no-counters"],
)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_each_way_of_writing_weights_is_read(
    wrap: Any, legacy: bool, trained: nn.Module, fresh: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pt"
    torch.save(wrap(trained.state_dict()), path, _use_new_zipfile_serialization=not legacy)
    load_weights(fresh, path)
    expected = trained.state_dict()
    expected = {
        name: fresh.state_dict()[name] if name.endswith("num_batches_tracked") else tensor
        for name, tensor in expected.items()
    }
    require_equal(fresh, expected)


def test_a_checkpoint_as_nnu_net_writes_it_is_read(tmp_path: Path) -> None:
    options, _ = SMALL["nnunet"]
    trained, fresh = build_network("nnunet", **options), build_network("nnunet", **options)
    fill(trained)
    content = {
        "network_weights": trained.state_dict(),
        "optimizer_state": torch.optim.SGD(trained.parameters(), 1e-2).state_dict(),
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.8), np.float32(0.7)], "epochs": [np.int64(3)]},
        "_best_ema": np.float64(0.81),
        "current_epoch": 1000,
        "init_args": {"plans": {"plans_name": "nnUNetPlans"}, "fold": 0, "device": None},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(content, tmp_path / "checkpoint_final.pth")

    load_weights(fresh, tmp_path / "checkpoint_final.pth")

    require_equal(fresh, trained.state_dict())


def test_names_that_begin_like_a_wrapper_are_kept(tmp_path: Path) -> None:
    options, _ = SMALL["monai-unet"]
    trained, fresh = build_network("monai-unet", **options), build_network("monai-unet", **options)
    assert all(name.startswith("model.") for name in trained.state_dict())
    torch.save({f"module.{n}": t for n, t in trained.state_dict().items()}, tmp_path / "w.pt")

    load_weights(fresh, tmp_path / "w.pt")

    require_equal(fresh, trained.state_dict())


def test_weights_without_effect_may_be_there_or_not(tmp_path: Path) -> None:
    options, _ = SMALL["medformer"]
    trained, fresh = build_network("medformer", **options), build_network("medformer", **options)
    fill(trained)
    torch.save(trained.state_dict() | {"aux_out.weight": torch.zeros(14, 16)}, tmp_path / "w.pt")
    load_weights(fresh, tmp_path / "w.pt")
    require_equal(fresh, trained.state_dict())

    options, _ = SMALL["unetr"]
    trained, fresh = build_network("unetr", **options), build_network("unetr", **options)
    older = {n: t for n, t in trained.state_dict().items() if "norm_cross_attn" not in n}
    older["vit.patch_embedding.cls_token"] = torch.zeros(1, 1, 24)
    torch.save({"state_dict": older}, tmp_path / "older.pt")
    load_weights(fresh, tmp_path / "older.pt")
    for name in older.keys() & fresh.state_dict().keys():
        assert torch.equal(fresh.state_dict()[name], older[name])


def test_half_precision_is_widened(trained: nn.Module, fresh: nn.Module, tmp_path: Path) -> None:
    torch.save(trained.half().state_dict(), tmp_path / "w.pt")
    load_weights(fresh, tmp_path / "w.pt")
    require_equal(
        fresh,
        {n: t.float() if t.is_floating_point() else t for n, t in trained.state_dict().items()},
    )


def test_weights_of_another_network_are_refused_by_name_and_shape(
    fresh: nn.Module, tmp_path: Path
) -> None:
    torch.save(build_network("transunet", **SMALL["transunet"][0]).state_dict(), tmp_path / "a.pt")
    error = refusal(fresh, tmp_path / "a.pt")
    assert error.code == "model.weights"
    assert "it lacks inc.double_conv.0.weight, inc.double_conv.1.weight" in str(error)
    assert "it has position_embeddings, conv1.conv.0.weight" in str(error)
    assert "more" in str(error)

    torch.save(build_network("unet", base_features=2, classes=5).state_dict(), tmp_path / "b.pt")
    error = refusal(fresh, tmp_path / "b.pt")
    assert error.code == "model.weights"
    assert "its outc.conv.weight is 5x2x1x1x1 and not 3x2x1x1x1" in str(error)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(
    share: float, legacy: bool, trained: nn.Module, fresh: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pt"
    torch.save(trained.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert refusal(fresh, path).code == "model.unreadable"


def test_wherever_a_legacy_file_is_cut_it_is_told_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(nn.Conv3d(1, 2, 1).state_dict(), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    codes = set()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ModelError) as caught:
            checkpoint_content(path)
        codes.add(caught.value.code)
    assert codes == {"model.unreadable"}


@pytest.mark.parametrize("at", [6, 28, 42])  # needed version, length of the name, place
@pytest.mark.parametrize("value", [255, 128])
def test_a_damaged_directory_of_a_checkpoint_is_refused(
    at: int, value: int, trained: nn.Module, fresh: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(trained.state_dict(), path)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + at] = value
    path.write_bytes(content)
    assert refusal(fresh, path).code == "model.unreadable"


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_payload_is_named_and_not_executed(
    legacy: bool, trained: nn.Module, fresh: nn.Module, tmp_path: Path
) -> None:
    harm, path = tmp_path / "harm", tmp_path / "weights.pt"
    content = {**trained.state_dict(), "extra": Payload(harm)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)

    error = refusal(fresh, path)

    assert error.code == "model.pickle"
    assert "the file asks for posix.mkdir" in str(error) or "nt.mkdir" in str(error)
    assert not harm.exists()
    pickle.loads(pickle.dumps(Payload(harm)))  # noqa: S301 - shows that it would have
    assert harm.exists()


def test_a_payload_in_a_bare_pickle_is_not_executed(fresh: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(pickle.dumps(Payload(tmp_path / "harm"), protocol=2))
    assert refusal(fresh, tmp_path / "weights.pt").code in ("model.pickle", "model.unreadable")
    assert not (tmp_path / "harm").exists()


def test_a_payload_behind_numpys_numbers_is_not_executed(fresh: nn.Module, tmp_path: Path) -> None:
    scalar = np.float64(0).__reduce__()[0]

    class Disguised:
        def __reduce__(self) -> tuple[Any, ...]:
            return scalar, (np.dtype("O"), Payload(tmp_path / "harm"))

    torch.save({"state_dict": {}, "best": Disguised()}, tmp_path / "weights.pt")
    assert refusal(fresh, tmp_path / "weights.pt").code in ("model.pickle", "model.unreadable")
    assert not (tmp_path / "harm").exists()


def test_what_unpacks_to_more_than_it_is_is_refused(
    trained: nn.Module, fresh: nn.Module, tmp_path: Path
) -> None:
    torch.save(trained.state_dict(), tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in plain.infolist():
            bomb.writestr(member.filename, plain.read(member))
        bomb.writestr("plain/data/999", bytes(1 << 24))
    assert "compressed" in str(refusal(fresh, tmp_path / "bomb.pt"))

    # A header that claims 10 GB in a file of a few kilobytes.
    content = bytearray((tmp_path / "plain.pt").read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = (10**10 % 2**32).to_bytes(4, "little") * 2
    (tmp_path / "header.pt").write_bytes(content)
    assert "more than it does" in str(refusal(fresh, tmp_path / "header.pt"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 3}, "it holds no weights, only epoch"),
        ([1, 2], "it holds no weights"),
        ({}, "it holds no weights"),
        ({"state_dict": {"inc": 3}}, "it holds no weights, only state_dict"),
    ],
)
def test_what_holds_no_weights_is_refused(
    content: Any, words: str, fresh: nn.Module, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "weights.pt")
    error = refusal(fresh, tmp_path / "weights.pt")
    assert error.code == "model.unreadable"
    assert words in str(error)


def test_torchscript_text_and_nothing_are_refused(fresh: nn.Module, tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.ReLU()), tmp_path / "script.pt")
    (tmp_path / "text.pt").write_text("weights")
    assert refusal(fresh, tmp_path / "script.pt").code in ("model.unreadable", "model.pickle")
    assert refusal(fresh, tmp_path / "text.pt").code == "model.unreadable"
    assert refusal(fresh, tmp_path / "none.pt").code == "model.missing"
