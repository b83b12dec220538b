"""A library of a test's own, and the card of what is brought into it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def own_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have library and cache in a folder, and return where the library will be."""
    monkeypatch.setenv("MEDPTQ_CACHE", str(folder / "cache"))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(folder / "library é 中"))
    return folder / "library é 中"


def change_card(net: Path, **changes: object) -> None:
    card = json.loads(net.with_suffix(".json").read_text())
    net.with_suffix(".json").write_text(json.dumps({**card, **changes}))
