from __future__ import annotations

import platform
import sys

import pytest

from medptq.engines.selection import default_engine, engines, get_engine, usable_engines
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


def test_tensorrt_is_a_known_name_that_cannot_be_used_yet():
    with pytest.raises(EngineError, match="no TensorRT engine yet") as error:
        get_engine("tensorrt")
    assert error.value.code == "engine.unavailable"


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(EngineError, match="openvino or pytorch") as error:
        get_engine("tensorflow")
    assert error.value.code == "engine.unknown"
