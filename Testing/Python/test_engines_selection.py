from __future__ import annotations

import platform
import sys

import pytest
import torch

from medptq.engines.selection import default_engine, engines, get_engine, usable_engines
from medptq.engines.tensorrt_library import unusable_because
from medptq.errors import EngineError


def test_pytorch_is_always_there():
    assert "pytorch" in usable_engines()
    assert set(usable_engines()) <= set(engines())
    assert get_engine("pytorch").name == "pytorch"


def test_openvino_is_the_default_on_x86():
    pytest.importorskip("openvino")
    x86 = platform.machine() in ("x86_64", "AMD64")
    assert default_engine().name == ("openvino" if x86 else "pytorch")


def test_pytorch_is_the_default_without_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert "openvino" in engines()
    assert "openvino" not in usable_engines()
    assert default_engine().name == "pytorch"
    with pytest.raises(EngineError, match="pip install openvino") as error:
        get_engine("openvino")
    assert error.value.code == "engine.unavailable"


def test_tensorrt_says_why_it_cannot_be_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    unusable_because.cache_clear()
    assert "tensorrt" in engines()
    assert "tensorrt" not in usable_engines()
    with pytest.raises(EngineError, match="no NVIDIA GPU") as error:
        get_engine("tensorrt")
    assert error.value.code == "engine.unavailable"
    unusable_because.cache_clear()


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(EngineError, match="openvino or pytorch") as error:
        get_engine("tensorflow")
    assert error.value.code == "engine.unknown"
