"""The user's scans are never written over, and results are never taken for scans."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import medptq
from medptq.artifacts import sha256_of
from medptq.errors import OutputError, ScanError
from tiny_network import write_network, write_scan


@pytest.fixture
def scans(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    write_network(tmp_path)
    for name in ("a", "b"):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz")
    return tmp_path / "scans"


def segment(scans: Path, scan: Path, output: Path) -> list[str]:
    [network] = scans.parent.glob("*.onnx")
    found = medptq.segment(
        network, scan, output, engine="pytorch", precision="fp32", overwrite=True
    )
    return [each.name for each in found]


@pytest.mark.parametrize("several", [True, False])
def test_no_scan_is_replaced_by_its_label_map(scans, several):
    before = {path.name: sha256_of(path) for path in scans.iterdir()}
    scan = scans if several else scans / "a.nii.gz"
    with pytest.raises(OutputError, match="it is the scan that is to be segmented"):
        segment(scans, scan, scan)
    assert {path.name: sha256_of(path) for path in scans.iterdir()} == before


def test_a_scan_is_known_by_another_name_too(scans, tmp_path):
    os.link(scans / "a.nii.gz", tmp_path / "linked.nii.gz")
    with pytest.raises(OutputError, match="it is the scan"):
        segment(scans, scans / "a.nii.gz", tmp_path / "linked.nii.gz")


def test_label_maps_within_the_folder_are_no_scans(scans):
    for _ in range(2):
        assert segment(scans, scans, scans / "labels") == ["a", "b"]
    assert {path.name for path in (scans / "labels").iterdir()} == {"a.nii.gz", "b.nii.gz"}
    with pytest.raises(ScanError, match="all that there is lies in"):
        segment(scans, scans.parent, scans)
