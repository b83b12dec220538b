"""The cache: where it lies, what is in it, and that clearing it spares what is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from medptq.models.cache import cache_folder, cache_root, cache_size, clear_cache


def test_the_environment_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("MEDPTQ_CACHE")
    assert "medptq" in cache_root().parts


def test_it_is_measured_and_cleared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path))
    assert (cache_size(), clear_cache()) == (0, 0)

    for part, name, size in (("downloads", "a.whl", 10), ("networks", "n/network.onnx", 5)):
        path = cache_folder(part) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * size)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "mine.txt").write_text("keep")

    assert cache_size() == 15
    assert clear_cache() == 15
    assert cache_size() == 0
    assert [path.name for path in tmp_path.rglob("*")] == ["downloads", "mine.txt"]
