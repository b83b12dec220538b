"""Which observer is chosen, on networks that a bad one ruins."""

from __future__ import annotations

import onnx
import pytest
import torch

from medptq.errors import Cancelled
from medptq.graph.executor import GraphExecutor
from medptq.graph.simplify import simplify
from medptq.progress import Progress, Reporter
from medptq.quantization.agreement import labels_of
from medptq.quantization.observer_choice import choose_observer
from quantization_helpers import export

SHAPE = (1, 1, 8, 8, 8)


class Above(torch.nn.Module):
    """Label 1 where the image is above a value, label 0 elsewhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.scores = torch.nn.Conv3d(1, 2, 1)
        with torch.no_grad():
            self.scores.weight[:] = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1, 1)
            self.scores.bias[:] = torch.tensor([value, 0.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(x)


@pytest.fixture
def above(tmp_path):
    def make(value: float) -> onnx.ModelProto:
        export(Above(value), SHAPE, tmp_path / "net.onnx")
        return simplify(onnx.load(tmp_path / "net.onnx"), input_shape=SHAPE)

    return make


@pytest.fixture
def shown(above):
    executor = GraphExecutor(above(0.5))
    generator = torch.Generator().manual_seed(0)
    patches = [torch.rand(SHAPE, generator=generator) for _ in range(2)]
    return [(patch, labels_of(executor.run(patch))) for patch in patches]


class Networks:
    """A network for each observer, which sees the more of the labels the nearer it is to 0.5."""

    def __init__(self, above, **values):
        self.above, self.values, self.asked = above, values, []

    def __call__(self, observer):
        self.asked.append(observer)
        return self.above(self.values[observer])


def test_the_first_is_taken_if_it_agrees(above, shown):
    networks = Networks(above, mse=0.5)
    assert choose_observer(networks, shown, Reporter()) == ("mse", {"mse": 1.0})


def test_if_the_first_does_not_agree_the_others_are_looked_at_until_one_does(above, shown):
    networks = Networks(above, mse=0.9, percentile=0.7, max=0.5)
    observer, dice = choose_observer(networks, shown, Reporter(on_warning=pytest.fail))
    assert observer == "max"
    assert networks.asked == ["mse", "percentile", "max"]
    assert dice["mse"] < dice["percentile"] < dice["max"] == 1.0


def test_if_none_agrees_well_the_best_is_taken(above, shown):
    networks = Networks(above, mse=0.9, percentile=0.7, max=2.0, entropy=0.8)
    warnings: list[str] = []
    observer, dice = choose_observer(networks, shown, Reporter(on_warning=warnings.append))
    assert observer == "percentile"
    [warning] = warnings
    assert f"to a Dice of {dice['percentile']:.3f}" in warning
    assert list(dice) == ["mse", "percentile", "max", "entropy"]
    assert dice["max"] == 0.0


def test_of_networks_that_find_nothing_where_there_is_nothing_the_first_is_taken(above):
    nothing = [(torch.zeros(SHAPE), torch.zeros(SHAPE[:1] + SHAPE[2:], dtype=torch.int64))]
    networks = Networks(above, mse=0.5)
    assert choose_observer(networks, nothing, Reporter()) == ("mse", {"mse": 1.0})


def test_it_tells_how_far_it_is_and_can_be_cancelled(above, shown):
    told: list[Progress] = []
    choose_observer(Networks(above, mse=0.5), shown, Reporter(on_progress=told.append))
    assert [progress.stage for progress in told] == ["Checking ranges by mse"] * 3
    with pytest.raises(Cancelled):
        choose_observer(Networks(above, mse=0.5), shown, Reporter(cancelled=lambda: True))
