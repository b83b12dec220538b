"""Sessions that stay open are the right ones, few, and never closed under who uses them."""

from __future__ import annotations

import pytest
import torch

from medptq.engines.pytorch import PyTorchEngine
from medptq.errors import Cancelled, EngineError, ScanError
from medptq.inference.sessions import SessionPool
from medptq.models.loading import load_model
from medptq.progress import Reporter
from tiny_network import PATCH, write_network

ENGINE = PyTorchEngine()
SILENT = Reporter()
IMAGE = torch.full((1, 1, PATCH, PATCH, PATCH), 0.5)


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """Five networks that give different outputs."""
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    made = []
    for number in range(5):
        path = write_network(tmp_path, f"net{number}")
        _scale(path, 1 + number)
        made.append(load_model(path))
    return made


def _scale(path, factor):
    import onnx

    model = onnx.load(path)
    for weight in model.graph.initializer:
        if weight.name.startswith("pick"):
            array = onnx.numpy_helper.to_array(weight) * factor
            weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(model, path)


def _output(pool, network):
    with pool.session(network, ENGINE, "fp32", SILENT) as session:
        return session.run(IMAGE).clone()


def test_a_network_is_opened_once(networks):
    with SessionPool() as pool:
        first = _output(pool, networks[0])
        assert torch.equal(_output(pool, networks[0]), first)
        assert pool.opened == 1
        assert pool.close() == 1
        assert torch.equal(_output(pool, networks[0]), first)
        assert pool.opened == 2


def test_each_network_gets_its_own_session_and_few_stay_open(networks):
    with SessionPool() as pool:
        outputs = [_output(pool, network) for network in networks]
        assert len({float(output.sum()) for output in outputs}) == len(networks)
        for network, output in zip(networks, outputs, strict=True):
            assert torch.equal(_output(pool, network), output)
        assert 1 < pool.close() < len(networks)


def test_the_one_that_was_not_used_for_longest_goes_first(networks):
    with SessionPool() as pool:
        for number in (0, 1, 2, 0, 3):
            _output(pool, networks[number])
        assert pool.opened == 4
        _output(pool, networks[0])
        assert pool.opened == 4
        _output(pool, networks[1])
        assert pool.opened == 5


def test_a_file_that_was_changed_is_opened_anew(networks):
    with SessionPool() as pool:
        before = _output(pool, networks[0])
        _scale(networks[0].onnx, 3)
        assert torch.allclose(_output(pool, networks[0]), 3 * before, rtol=1e-4)
        assert pool.opened == 2


def test_what_is_in_use_is_not_closed(networks):
    with SessionPool() as pool:
        with pool.session(networks[0], ENGINE, "fp32", SILENT) as session:
            before = session.run(IMAGE).clone()
            for network in networks[1:]:
                _output(pool, network)
            assert torch.equal(session.run(IMAGE), before)
        assert pool.close() <= 3


@pytest.mark.parametrize(
    ("error", "opened"),
    [
        (Cancelled(), 1),
        (ScanError("x", "x", why="x", todo="x"), 1),
        (EngineError("x", "x", why="x", todo="x"), 2),
        (RuntimeError("x"), 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_a_session_that_is_sound_is_used_again(networks, error, opened):
    with SessionPool() as pool:
        with (
            pytest.raises(type(error)),
            pool.session(networks[0], ENGINE, "fp32", SILENT),
        ):
            raise error
        _output(pool, networks[0])
        assert pool.opened == opened
