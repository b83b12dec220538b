"""Ending a process with all that it has started, on Windows; elsewhere it is done for real."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.mark.parametrize("fault", [None, FileNotFoundError(), subprocess.TimeoutExpired("", 2)])
def test_on_windows_the_tree_has_ended_before_its_root_is_ended(
    monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    from MedPTQSlicerLib import processTree

    run: list[Any] = []

    def taskkill(command: list[str], *, timeout: float, **_: Any) -> None:
        run.append((command, timeout))
        if fault is not None:
            raise fault

    def popen(*_: Any, **__: Any) -> None:
        raise AssertionError("it was not waited for")

    windows = {"run": taskkill, "Popen": popen, "CREATE_NO_WINDOW": 0x08000000}
    known = {name: getattr(subprocess, name) for name in ("DEVNULL", "TimeoutExpired")}
    monkeypatch.setattr(processTree, "subprocess", SimpleNamespace(**known, **windows))
    monkeypatch.setattr(processTree, "sys", SimpleNamespace(platform="win32"))
    processTree.killTree(4711)
    assert run == [(["taskkill", "/PID", "4711", "/T", "/F"], 2)]
