"""What every test stands on."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# How long an example takes depends on what else the machine does, which is no fault of the code.
hypothesis.settings.register_profile(
    "medptq",
    hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("medptq")

if sys.version_info < (3, 12):
    # PySide6 6.12 takes a reference of None with each call that returns nothing, and of True with
    # each signal that is emitted, as they are immortal from Python 3.12 on; before, Python aborts
    # after some thousand calls.
    for constant in (None, True, False):
        ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 40


@pytest.fixture(scope="session", autouse=True)
def _no_library_of_the_users(tmp_path_factory):
    """No test sees or changes the library of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDPTQ_LIBRARY", str(tmp_path_factory.mktemp("library")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _python_as_users_have_it():
    """No test needs what only developers set: processes write through, for one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PYTHON")]:
            if name != "PYTHONPATH":
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _medptq_is_no_distribution():
    """No test needs that medptq was installed: 3D Slicer imports it from the extension's folder."""
    found = importlib.metadata.Distribution.from_name

    def from_name(name: str) -> importlib.metadata.Distribution:
        if name == "medptq":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata.Distribution, "from_name", staticmethod(from_name))
        yield


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, no mirror; the folder that exported networks go to."""
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MEDPTQ_MIRROR", raising=False)
    return tmp_path / "cache" / "medptq-networks"


@pytest.fixture
def gui(tmp_path: Path) -> Iterator[Any]:
    """A session of Slicer's application as the stand-in plays it; see slicer_gui.Gui."""
    from slicer_gui import session

    yield from session(tmp_path, main_window=True)


@pytest.fixture
def gui_without_window(tmp_path: Path) -> Iterator[Any]:
    """A session as with --no-main-window: no window, no layout manager, no views."""
    from slicer_gui import session

    yield from session(tmp_path, main_window=False)


@pytest.fixture(scope="session")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The graph of a small network with what is hard for TensorRT; see tensorrt_networks."""
    from tensorrt_networks import Residual, plain_graph

    return plain_graph(Residual(), tmp_path_factory.mktemp("residual"))


@pytest.fixture(scope="session")
def quantized(residual: Any) -> Any:
    """The same with all its convolutions, additions and concatenations quantized."""
    from tensorrt_networks import quantized_graph

    return quantized_graph(residual)
