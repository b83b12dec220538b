"""Networks that are built with a checkpoint's weights, compared with it before it takes memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medptq.errors import ModelError
from medptq.models.architectures.building import build_network
from medptq.models.architectures.weighted import build_with_weights, sketch_of
from small_networks import SMALL, fill

pytestmark = pytest.mark.filterwarnings("ignore")  # of MONAI, as it is imported

# Neither fits into any machine's memory, so building one of them fails in another way.
GIANTS: dict[str, dict[str, Any]] = {
    "unet": {"base_features": 400_000},
    "swinunetr-t": {"feature_size": 1_200_000},
}


def save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save(state, path)
    return path


def refusal(name: str, options: dict[str, Any], path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        build_with_weights(name, options, path)
    return caught.value


@pytest.mark.parametrize("name", SMALL)
def test_a_sketch_has_the_networks_weights_without_their_memory(name: str) -> None:
    options, _ = SMALL[name]
    sketch, network = sketch_of(name, options), build_network(name, **options)
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    assert {key: tensor.shape for key, tensor in sketch.state_dict().items()} == shapes
    assert {parameter.device.type for parameter in sketch.parameters()} == {"meta"}


@pytest.mark.parametrize("name", ["unet", "swinunetr-t"])
def test_the_weights_are_the_checkpoints(name: str, tmp_path: Path) -> None:
    options, _ = SMALL[name]
    trained = build_network(name, **options)
    fill(trained)
    built = build_with_weights(name, options, save(tmp_path / "w.pth", trained.state_dict()))
    assert not built.training
    for key, tensor in built.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[key])


@pytest.mark.parametrize("name", GIANTS)
def test_a_giant_is_refused_before_it_takes_memory(name: str, tmp_path: Path) -> None:
    options, _ = SMALL[name]
    path = save(tmp_path / "tiny.pth", build_network(name, **options).state_dict())
    error = refusal(name, GIANTS[name], path)
    assert error.code == "model.weights"
    assert "tiny.pth do not fit" in str(error)


def test_a_number_that_is_repeated_is_no_giants_weights(tmp_path: Path) -> None:
    giant = sketch_of("unet", GIANTS["unet"]).state_dict()
    state = {key: torch.zeros(()).expand(tensor.shape) for key, tensor in giant.items()}
    error = refusal("unet", GIANTS["unet"], save(tmp_path / "tiny.pth", state))
    assert error.code == "model.weights"
    assert "too small to hold as many" in str(error)


def test_what_the_file_is_not_is_said_first(tmp_path: Path) -> None:
    assert refusal("unet", GIANTS["unet"], tmp_path / "none.pth").code == "model.missing"
    (tmp_path / "text.pth").write_text("weights")
    assert refusal("unet", GIANTS["unet"], tmp_path / "text.pth").code == "model.unreadable"
    assert refusal("unet", {"base_feature": 1}, tmp_path / "none.pth").code == "model.options"
