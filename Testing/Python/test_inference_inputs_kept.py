"""No scan is written over, no result taken for a scan, or for the result of another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import medptq
from medptq.answers import segment_answer
from medptq.artifacts import sha256_of
from medptq.errors import OutputError, ScanError
from medptq.inference.label_map_files import label_map_files
from medptq.progress import Reporter
from medptq.scans.finding import find_scans
from test_scans_dicom import write_series
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


@pytest.fixture
def patients(scans) -> Path:
    """The usual layout of a study, in which all patients' scans have one name."""
    for seed, patient in enumerate(("sub-01", "sub-02", "sub-03")):
        write_scan(scans.parent / "study" / patient / "anat" / "T1w.nii.gz", seed=seed)
    return scans.parent / "study"


def test_results_of_scans_of_one_name_lie_as_the_scans_do(scans, patients, tmp_path):
    segment(scans, patients, tmp_path / "out")
    written = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert [path.relative_to(tmp_path / "out") for path in written] == [
        Path(patient, "anat", "T1w.nii.gz") for patient in ("sub-01", "sub-02", "sub-03")
    ]
    before = {path: sha256_of(path) for path in written}
    (patients / "sub-01" / "anat" / "T1w.nii.gz").unlink()
    segment(scans, patients, tmp_path / "out")
    assert {path: sha256_of(path) for path in written} == before, "no one took another's place"


def test_a_result_tells_the_path_of_its_scan(scans, patients, tmp_path):
    [network] = scans.parent.glob("*.onnx")
    out = tmp_path / "out"
    found = medptq.segment(network, patients, out, engine="pytorch", precision="fp32")
    for scan in segment_answer(found)["scans"]:
        assert Path(scan["scan"]).relative_to(patients) == Path(scan["output"]).relative_to(out)


def test_a_warning_tells_which_of_the_scans_of_one_name_was_left_out(scans, patients):
    (patients / "sub-02" / "anat" / "T1w.nii.gz").write_bytes(b"damaged")
    warnings: list[str] = []
    [network] = scans.parent.glob("*.onnx")
    reporter = Reporter(on_warning=warnings.append)
    medptq.segment(network, patients, engine="pytorch", precision="fp32", reporter=reporter)
    place = Path("sub-02", "anat", "T1w.nii.gz")
    assert [said.startswith(f"{place} was left out") for said in warnings] == [True]


def names_of_results(folder: Path) -> list[str]:
    files = label_map_files(folder, find_scans(folder, Reporter()), Path("out"))
    return sorted(file.relative_to("out").as_posix() for file in files if file is not None)


def test_names_that_differ_stay_as_they_are(tmp_path):
    for name in ("x/a.nii.gz", "y/b.nrrd"):
        write_scan(tmp_path / name)
    assert names_of_results(tmp_path) == ["a.nii.gz", "b.nii.gz"]


def test_scans_that_differ_by_their_format_only_keep_it_in_their_results_names(tmp_path):
    for name in ("a.nii.gz", "a.nrrd", "b.mha"):
        write_scan(tmp_path / name)
    assert names_of_results(tmp_path) == ["a.nii.gz.nii.gz", "a.nrrd.nii.gz", "b.nii.gz"]


def test_series_of_one_name_are_told_apart_by_what_does_not_change(tmp_path):
    for patient in ("p1", "p2"):
        write_series(tmp_path / patient / "T1", [0, 1])
    assert names_of_results(tmp_path) == ["p1/T1.nii.gz", "p2/T1.nii.gz"]
    write_series(tmp_path / "p1" / "T1", [0, 1], series="1.2.3.5", prefix="b")
    two = ["p1/T1-IM98.nii.gz", "p1/T1-bIM98.nii.gz", "p2/T1.nii.gz"]
    assert names_of_results(tmp_path) == two
    write_series(tmp_path / "p1" / "T1", [0, 1], series="1.2.3.6", prefix="a")
    assert set(two) < set(names_of_results(tmp_path))
    write_scan(tmp_path / "p2" / "T1.nii.gz")
    assert {"p2/T1.nii.gz.nii.gz", "p2/T1-IM98.nii.gz"} < set(names_of_results(tmp_path))
    write_series(tmp_path, [0, 1])  # in the folder itself: its result is no further up
    assert f"{tmp_path.name}.nii.gz" in names_of_results(tmp_path)
