"""Two networks and a data set to benchmark, and a cache of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from labeled_scans import write_data_set
from medptq.benchmarking.benchmark import benchmark
from medptq.progress import Reporter
from tiny_network import write_network

QUICK = ["fp32", "w8a8-tensor", "w4a4-tensor", "w4a4-adaptive"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks and a data set, and a cache that the tests share."""
    folder = tmp_path_factory.mktemp("benchmark")
    write_data_set(folder / "data")
    for name in ("one", "two"):
        path = write_network(folder / "networks", name)
        card = json.loads(path.with_suffix(".json").read_text("utf-8"))
        card["id"] = name
        card["title"] = "<b>Brightness</b> | 1"
        path.with_suffix(".json").write_text(json.dumps(card))
    return folder


@pytest.fixture(autouse=True)
def own_cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDPTQ_CACHE", str(place / "cache"))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(place / "library"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # for other processes, as below for this one


@pytest.fixture(scope="module", autouse=True)
def on_one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def networks_of(place: Path) -> list[str]:
    return [str(place / "networks" / f"{name}.onnx") for name in ("one", "two")]


def run_benchmark(place: Path, output: Path, networks: list[str] | None = None, **more: Any) -> Any:
    more.setdefault("recipes", QUICK)
    chosen = networks_of(place) if networks is None else networks
    return benchmark(chosen, place / "data" / "blocks.json", output, patches=3, **more)


def warnings_to(said: list[str]) -> Reporter:
    return Reporter(on_warning=said.append)
