"""The scripts that train networks: splits, jobs, the queue, and a tiny one on made-up scans."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import medptq
from medptq.evaluate.metrics import dice
from medptq.models.card import model_of
from medptq.models.checkpoint import network_of

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT / "scripts"))

from train import run_queue  # noqa: E402
from train_data import DATASETS, Volumes, draw_batch, read_pairs  # noqa: E402
from train_network import train_job  # noqa: E402
from train_networks import JOBS, Job, card_of, nnunet_options  # noqa: E402

BRIGHT = 900.0


@pytest.fixture(autouse=True)
def _folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(tmp_path / "library"))


@pytest.mark.parametrize("name", DATASETS)
def test_the_parts_of_a_split_share_no_scan(name: str) -> None:
    split = DATASETS[name].split()
    assert list(split) == ["train", "validation", "test"]
    assert all(split.values())
    for one, other in itertools.combinations(split.values(), 2):
        assert not set(one) & set(other)
    assert all(len(set(names)) == len(names) for names in split.values())


@pytest.mark.shared_data
@pytest.mark.parametrize("name", DATASETS)
def test_the_splits_are_whole(name: str) -> None:
    dataset = DATASETS[name]
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    names = [name for part in dataset.split().values() for name in part]
    data = dataset.at(folder)
    assert all(data.label_map_of(name).is_file() for name in names)
    images = {data.image_of(name).paths[0] for name in names}
    assert images == set(next(iter(images)).parent.iterdir())
    pair = read_pairs(dataset, folder, names[:1])[0]
    labels = [label.value for label in model_of(card_of(_first_job(name)), Path(), "it").labels]
    assert set(np.unique(pair.labels)) == {0, *labels}


def _first_job(dataset: str) -> Job:
    return next(job for job in JOBS.values() if job.dataset.name == dataset)


@pytest.mark.parametrize("name", JOBS)
def test_every_job_has_a_card_that_its_network_takes(name: str) -> None:
    job = JOBS[name]
    model = model_of(card_of(job), Path(), "it")
    network, options = network_of(card_of(job), model, "it")
    assert (network, model.patch_size) == (job.architecture, job.patch)
    assert options.get("classes", model.classes) == model.classes


def test_patches_and_labels_stay_together() -> None:
    torch.manual_seed(0)
    labels = torch.zeros((2, 1, 24, 28, 20), dtype=torch.uint8)
    labels[:, :, 8:15, 4:14, 5:12] = 1
    volumes = Volumes(labels * 10.0, labels, torch.full((2,), -1.0))
    images, found = draw_batch(volumes, (20, 24, 20), 8)
    assert images.shape == found.shape == (8, 1, 20, 24, 20)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    for image, label in zip(images, found, strict=True):
        bright = image > (image.max() + image.min()) / 2
        both = (bright & (label > 0)).sum() * 2 / (bright.sum() + label.sum())
        assert both > 0.85
    assert not torch.equal(found[0], found[1])
    torch.manual_seed(0)
    again = draw_batch(volumes, (20, 24, 20), 8)
    torch.testing.assert_close(again[0], images)


def _write_scans(folder: Path, names: list[str]) -> None:
    random = np.random.default_rng(0)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number, name in enumerate(names):
        labels = np.zeros((15 + number % 3, 20, 14), dtype=np.uint8)
        first = int(random.integers(3, 7))
        labels[4:10, first : first + 5, 4:11] = 1
        labels[4:10, first + 5 : first + 10, 4:11] = 2
        voxels = random.normal(100, 10, labels.shape) + BRIGHT * labels
        for part, array in (("imagesTr", voxels.astype(np.float32)), ("labelsTr", labels)):
            image = sitk.GetImageFromArray(array)
            image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # RAS, as the data set's
            sitk.WriteImage(image, str(folder / part / f"{name}.nii.gz"))


def test_a_trained_network_segments_as_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = {"train": ["a", "b", "c"], "validation": ["d"], "test": ["e"]}
    description = json.loads((ROOT / "scripts/data_sets/hippocampus.json").read_text("utf-8"))
    description["split"] = "split.json"
    for name, content in (("split", split), ("hippocampus", description)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr("train_data.DATA_SETS", tmp_path)
    data = tmp_path / "data" / "hippocampus"
    _write_scans(data, ["a", "b", "c", "d", "e"])
    job = Job(
        *(DATASETS["hippocampus"], "tiny", "nnunet", (16, 24, 16), nnunet_options(8, 16, 16)),
        *(4, 5e-3),
    )
    report = train_job(job, data.parent, tmp_path / "out", seconds=60, steps=60)

    folder = tmp_path / "out" / "hippocampus-tiny"
    assert json.loads((folder / "training.json").read_text("utf-8")) == report
    assert report["steps"] == 60
    weights = torch.load(folder / "hippocampus-tiny.pth", weights_only=True)
    assert weights["encoder.stages.0.0.convs.0.conv.weight"].dtype == torch.float16
    scan = data / "imagesTr" / "e.nii.gz"
    [found] = medptq.segment(folder / "hippocampus-tiny.pth", scan, engine="pytorch")
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(data / "labelsTr" / "e.nii.gz")))
    scores = dice(truth, found.segmentation.labels, [1, 2])
    measured = report["dice"]["test"]["classes"]
    assert measured["Anterior hippocampus"] == pytest.approx(scores[1], abs=0.01)
    assert measured["Posterior hippocampus"] == pytest.approx(scores[2], abs=0.01)
    assert report["dice"]["test"]["mean"] > 0.5


def test_a_failure_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    ended: dict[str, int] = {}
    code = "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES']); sys.exit('{}' == 'bad')"
    failed = run_queue(
        ["one", "bad", "two", "three"],
        ["5", "7"],
        lambda name: [sys.executable, "-c", code.format(name)],
        tmp_path,
        lambda name, status, _: ended.update({name: status}),
    )
    assert failed == ["bad"]
    assert ended == {"one": 0, "bad": 1, "two": 0, "three": 0}
    seen = {(tmp_path / f"{name}.log").read_text("utf-8").strip() for name in ended}
    assert seen <= {"5", "7"}
