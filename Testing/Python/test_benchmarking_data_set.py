"""Descriptions of data sets, and the pairs that they lead to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from labeled_scans import describe, write_channels, write_data_set, write_pair
from medptq.benchmarking.data_set import HeldPairs, read_data_set
from medptq.errors import ScanError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def test_a_pair_is_read_as_it_was_written(tmp_path):
    data = read_data_set(write_data_set(tmp_path, nsd_tolerance_mm=2))
    assert data.nsd_tolerance_mm == 2.0
    assert data.split == {"train": ["scan0", "scan1", "scan2"], "test": ["scan3", "scan4", "scan5"]}
    pair = data.read("scan4")
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "labels" / "scan4.nii.gz")))
    assert np.array_equal(pair.labels, truth)
    assert pair.scan.spacing == (2.0, 1.5, 1.0)


def test_the_scans_may_lie_elsewhere(tmp_path):
    write_data_set(tmp_path / "scans")
    (tmp_path / "split.json").write_text(json.dumps({"train": ["scan0"], "test": ["scan1"]}))
    path = describe(tmp_path)
    with pytest.raises(ScanError):
        read_data_set(path).read("scan1")
    assert read_data_set(path, tmp_path / "scans").read("scan1").labels.max() == 2


def test_without_a_split_all_that_is_there_is_shared_out(tmp_path):
    path = write_data_set(tmp_path, split=None)
    data = read_data_set(path)
    parts = data.split["train"], data.split["test"]
    assert sorted([*parts[0], *parts[1]]) == [f"scan{number}" for number in range(6)]
    assert (len(parts[0]), len(parts[1])) == (2, 4)
    assert read_data_set(path) == data, "and always the same way"


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("{}.nii.gz", "{}_seg.nii.gz"),
        ("./{}.nii.gz", "{}_seg.nii.gz"),
        ("{}/t1.nii.gz", "{}/labels.nii.gz"),
        ("[a] b/{}/t1.nii.gz", "[a] b/labels/{}.nii.gz"),
    ],
)
def test_without_a_split_what_has_no_label_map_is_no_pair(tmp_path, image, label):
    names = [f"case {number}" for number in range(5)]
    for name in [*names, "unlabeled", ".hidden"]:
        write_pair(tmp_path, "pair", 0)
        for part, template in (("images", image), ("labels", label)):
            path = tmp_path / template.replace("{}", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if (part, name) != ("labels", "unlabeled"):
                shutil.copy(tmp_path / part / "pair.nii.gz", path)
    data = read_data_set(describe(tmp_path, image=image, label=label, split=None))
    assert sorted([*data.split["train"], *data.split["test"]]) == names
    assert data.read(data.split["test"][0]).labels.max() == 2


def test_a_pair_that_is_calibrated_on_is_not_tested(tmp_path):
    path = write_data_set(tmp_path)
    (tmp_path / "split.json").write_text(json.dumps({"train": ["scan0"], "test": ["scan0"]}))
    with pytest.raises(ScanError, match="twice"):
        read_data_set(path)


def test_groups_give_labels_the_cards_values(tmp_path):
    write_pair(tmp_path, "scan0", 0, labels=(40, 7))
    (tmp_path / "split.json").write_text(json.dumps({"train": ["scan1"], "test": ["scan0"]}))
    groups = tmp_path / "groups.json"
    groups.write_text(json.dumps({"0 nothing": [0], "1 bright": [40, 41], "2 very bright": [7]}))
    data = read_data_set(describe(tmp_path, groups="groups.json"))
    raw = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "labels" / "scan0.nii.gz")))
    expected = np.select([raw == 40, raw == 7], [1, 2], 0)
    assert np.array_equal(data.read("scan0").labels, expected)
    groups.write_text(json.dumps({"0 nothing": [0], "1 bright": [40]}))
    with pytest.raises(ScanError) as caught:
        data.read("scan0")
    assert "none of the groups" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"name": None}, '"name"'),
        ({"image": 3}, '"image"'),
        ({"image": "images/scan.nii.gz"}, "for the name of a pair"),
        ({"label": "{}/{}.nii.gz"}, "for the name of a pair"),
        ({"nsd_tolerance_mm": "1"}, "no distance"),
        ({"nsd_tolerance_mm": -1}, "no distance"),
        ({"labels": "x"}, 'unknown field "labels"'),
        ({"split": "missing.json"}, "cannot be read"),
        ({"split": "images/scan0.nii.gz"}, "is no JSON"),
        ({"split": "blocks.json"}, '"train"'),
    ],
)
def test_a_wrong_description_is_refused_by_what_is_wrong(
    tmp_path: Path, fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(ScanError) as caught:
        read_data_set(write_data_set(tmp_path, **fields))
    assert caught.value.code == "scan.data-set"
    assert why in str(caught.value)


def test_labels_on_another_grid_are_refused(tmp_path):
    data = read_data_set(write_data_set(tmp_path))
    path = str(tmp_path / "labels" / "scan3.nii.gz")
    moved = sitk.ReadImage(path)
    moved.SetOrigin((0.0, 0.0, 0.0))
    sitk.WriteImage(moved, path)
    with pytest.raises(ScanError) as caught:
        data.read("scan3")
    assert caught.value.code == "scan.reference"


@pytest.mark.parametrize("value", [65537, -1])
def test_labels_that_would_become_others_are_refused(tmp_path, value):
    data = read_data_set(write_data_set(tmp_path))
    path = str(tmp_path / "labels" / "scan3.nii.gz")
    labels = sitk.Cast(sitk.ReadImage(path), sitk.sitkInt32)
    labels[1, 1, 1] = value
    sitk.WriteImage(labels, path)
    with pytest.raises(ScanError, match="from 0 to 65535") as caught:
        data.read("scan3")
    assert caught.value.code == "scan.reference"


def test_a_scan_without_the_structure_has_an_empty_label_map(tmp_path):
    data = read_data_set(write_data_set(tmp_path))
    path = str(tmp_path / "labels" / "scan3.nii.gz")
    sitk.WriteImage(sitk.ReadImage(path) * 0, path)
    assert data.read("scan3").labels.max() == 0


def test_pairs_are_read_once(tmp_path):
    data = read_data_set(write_data_set(tmp_path))
    pairs = HeldPairs(data, data.split["test"])
    first = list(pairs.with_channels(1))
    for name in data.split["test"]:
        (tmp_path / "images" / f"{name}.nii.gz").unlink()
    again = list(pairs.with_channels(1))
    assert [pair.scan.name for pair in again] == [pair.scan.name for pair in first]
    assert len(pairs) == 3


def test_a_pair_is_held_for_networks_of_its_channels(tmp_path):
    data = read_data_set(write_data_set(tmp_path))
    write_channels(tmp_path / "images" / "scan4.nii.gz")
    assert data.read("scan4", channels=2).scan.array.shape[0] == 2
    pairs = HeldPairs(data, ["scan4"])
    [pair] = pairs.with_channels(2)
    assert next(pairs.with_channels(2)) is pair
    with pytest.raises(ScanError) as caught:
        list(pairs.with_channels(1))
    assert caught.value.code == "scan.channels"


@pytest.mark.parametrize(
    "path", sorted((SCRIPTS / "data_sets").glob("*.json")), ids=lambda p: p.stem
)
def test_our_own_descriptions_can_be_read(path):
    data = read_data_set(path)
    assert data.name == path.stem
    assert not set(data.split["train"]) & set(data.split["test"])
