"""Graphs that are kept: what has become of their files is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from medptq.models.card import EXAMPLE, model_of
from medptq.models.network_cache import cached_network, graph_digest
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter

MODEL = model_of(EXAMPLE, Path(), "The card")
WEIGHTS = "network.onnx.data"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))


class Maker:
    """Writes a graph whose weights lie in a file beside it, and counts how often."""

    def __init__(self) -> None:
        self.made = 0
        self.warnings: list[str] = []

    def get(self) -> Path:
        reporter = Reporter(on_warning=self.warnings.append)
        return cached_network(MODEL, "0" * 64, self._make, reporter).onnx

    def _make(self, model: SegmentationModel) -> dict[str, Any]:
        weights = onnx.numpy_helper.from_array(np.arange(999, dtype=np.float32), "w")
        graph = onnx.helper.make_graph([], "g", [], [], [weights])
        onnx.save_model(
            onnx.helper.make_model(graph),
            model.onnx,
            save_as_external_data=True,
            location=WEIGHTS,
        )
        self.made += 1
        return {"opset": 18}


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["network.onnx", WEIGHTS])
@pytest.mark.parametrize("damage", [flip_a_bit, cut_off, Path.unlink])
def test_a_changed_file_is_noticed_and_all_made_again(
    damage: Callable[[Path], None], name: str
) -> None:
    maker = Maker()
    path = maker.get()
    before = (path.read_bytes(), path.with_name(WEIGHTS).read_bytes())
    damage(path.with_name(name))

    assert maker.get() == path
    assert maker.made == 2
    assert "was damaged" in maker.warnings[0]
    assert (path.read_bytes(), path.with_name(WEIGHTS).read_bytes()) == before


def test_what_is_sound_is_kept_whatever_else_lies_there() -> None:
    maker = Maker()
    path = maker.get()
    path.with_name("desktop.ini").touch()
    assert maker.get() == path
    assert (maker.made, maker.warnings) == (1, [])
    assert graph_digest(path) is not None


@pytest.mark.parametrize(
    "record", ["", "[]", "{}", '{"sha256": "0"}', '{"sha256": 1, "beside": 1}']
)
def test_a_record_that_tells_nothing_is_no_proof(record: str) -> None:
    maker = Maker()
    path = maker.get()
    path.with_name("record.json").write_text(record)
    assert maker.get() == path
    assert maker.made == 2


def test_the_record_says_how_it_was_made() -> None:
    path = Maker().get()
    record = json.loads(path.with_name("record.json").read_text())
    assert record["opset"] == 18
    assert list(record["beside"]) == [WEIGHTS]
