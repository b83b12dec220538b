"""Putting a trained network into the program, and that those in it are what the scripts make."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from medptq.artifacts import sha256_of
from medptq.errors import ModelError
from medptq.models import catalogue
from medptq.models.architectures.building import build_network
from medptq.models.card import model_of
from medptq.models.catalogue import CatalogueEntry, entries, entry, read_entry
from medptq.models.checkpoint import network_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import include_network
from train_networks import JOBS, card_of

ID = "hippocampus-t1"
JOB = include_network.INCLUDED[ID].job


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """What train_network.py writes, with weights by chance."""
    card = card_of(JOBS[JOB])
    torch.manual_seed(0)
    name, options = network_of(card, model_of(card, Path(), "it"), "it")
    folder = tmp_path / "trained" / JOB
    folder.mkdir(parents=True)
    torch.save(build_network(name, **options).half().state_dict(), folder / f"{JOB}.pth")
    record = {
        "date": "2026-02-03",
        "command": f"python /home/me/scripts/train_network.py {JOB} --data /data --output /out",
        "steps": 77,
        "pairs": {"train": 5, "test": 2},
        "dice": {"test": {"mean": 0.12345}},
    }
    (folder / f"{JOB}.json").write_text(json.dumps(card), encoding="utf-8")
    (folder / "training.json").write_text(json.dumps(record), encoding="utf-8")
    return folder.parent


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The folder of the program that the files are put into."""
    models = tmp_path / "models"
    (models / "networks").mkdir(parents=True)
    (models / "catalogue").mkdir()
    (models / "networks" / f"{ID}.LICENSE.txt").write_text("Terms")
    return models


def _written(models: Path) -> CatalogueEntry:
    return read_entry(models / "catalogue" / f"{ID}.json")


def test_weights_record_and_entry_are_written(trained: Path, models: Path) -> None:
    include_network.include(ID, trained, models)
    weights = models / "networks" / f"{ID}.pth"
    assert weights.read_bytes() == (trained / JOB / f"{JOB}.pth").read_bytes()
    found = _written(models)
    assert (found.id, found.is_included, found.download.file) == (ID, True, weights.name)
    assert found.download.sha256 == sha256_of(weights)
    told = f"scripts/train_network.py {JOB} --data ../shared/data --output trained (77 steps)"
    assert told in found.provenance.source
    assert found.provenance.source.endswith("Mean Dice on 2 others: 0.123")
    record = (models / "networks" / f"{ID}.training.json").read_text("utf-8")
    assert "/home/me" not in record
    include_network.include(ID, trained, models)  # once more, over what is there
    assert _written(models) == found


def test_what_does_not_fit_is_not_included(
    trained: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = trained / JOB / f"{JOB}.pth"
    with monkeypatch.context() as patch:
        patch.setattr(include_network, "MOST_BYTES", weights.stat().st_size)
        with pytest.raises(SystemExit, match="larger than"):
            include_network.include(ID, trained, models)
    (models / "networks" / f"{ID}.LICENSE.txt").rename(models / "terms")
    with pytest.raises(SystemExit, match="lacks hippocampus-t1"):
        include_network.include(ID, trained, models)
    (models / "terms").rename(models / "networks" / f"{ID}.LICENSE.txt")
    state = torch.load(weights, weights_only=True)
    torch.save({f"other.{name}": tensor for name, tensor in state.items()}, weights)
    with pytest.raises(ModelError):
        include_network.include(ID, trained, models)
    assert not (models / "networks" / f"{ID}.pth").exists()
    assert not list((models / "catalogue").iterdir())


def test_those_in_the_program_are_of_networks_that_can_be_trained_again() -> None:
    assert {found.id for found in entries() if found.is_included} == set(include_network.INCLUDED)
    for name, included in include_network.INCLUDED.items():
        found, card = entry(name), card_of(JOBS[included.job])
        assert found.card["network"] == card["network"]
        assert found.card["input"] == card["input"]
        assert found.card["preprocessing"] == card["preprocessing"]
        assert f"scripts/train_network.py {included.job} --data" in found.provenance.source
        assert found.download.sha256 == sha256_of(catalogue.INCLUDED / found.download.file)
