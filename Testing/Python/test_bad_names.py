"""Names of files that are no text, that a terminal cannot show, or that look like markup.

Every test goes through the command line, as a user does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medptq.cli import main
from tiny_network import write_network, write_scan

SCAN, OUTPUT = 3, 7


@pytest.fixture
def network(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    return write_network(tmp_path / "network")


def segment(network: Path, scan: Path, output: Path, *more: str) -> int:
    command = ["segment", str(network), str(scan), "--output", str(output)]
    return main([*command, "--engine", "pytorch", *more])


@pytest.fixture
def in_latin_1(tmp_path):
    """A scan as an old disk or archive holds it: ITK ends the whole process over such a name."""
    path = tmp_path / "scans" / os.fsdecode(b"M\xfcller.nii.gz")
    written = write_scan(tmp_path / "scans" / "good.nii.gz")
    try:
        path.write_bytes(written.read_bytes())
    except OSError:
        pytest.skip("this system's file names are always text")
    return path


def test_a_scan_whose_name_is_no_text_is_refused(tmp_path, network, in_latin_1, capsys):
    assert segment(network, in_latin_1, tmp_path / "out.nii.gz", "--quiet") == SCAN
    assert "Rename it" in capsys.readouterr().err
    assert not (tmp_path / "out.nii.gz").exists()


def test_among_others_it_is_left_out(network, in_latin_1, capsys):
    assert main(["inspect", str(in_latin_1.parent), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["scans"] == 1
    [left_out] = answer["unusable"]
    assert "encoding" in left_out["why"]


def test_an_output_whose_path_is_no_text_is_refused_before_any_work(tmp_path, network, capsys):
    scan = write_scan(tmp_path / "scan.nii.gz")
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    assert segment(network, scan, folder / "out.nii.gz", "--quiet") == OUTPUT
    assert "plain letters" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize("letters", [230, 300])
def test_an_output_whose_name_is_too_long_is_refused_before_any_work(
    tmp_path, network, capsys, letters
):
    scan = write_scan(tmp_path / "scan.nii.gz")
    assert segment(network, scan, tmp_path / f"{'o' * letters}.nii.gz", "--quiet") == OUTPUT
    told = capsys.readouterr().err
    assert "Choose a shorter name" in told
    assert "Traceback" not in told
    assert not (tmp_path / "cache").exists()


def test_brackets_in_a_path_are_printed_as_they_are(tmp_path, network, capsys):
    scan = write_scan(tmp_path / "scan.nii.gz")
    output = tmp_path / "of [copy] [/o]" / "out.nii.gz"
    assert segment(network, scan, output, "--quiet") == 0
    assert str(output) in capsys.readouterr().out


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_letters_that_the_output_lacks_are_no_failure(tmp_path, network, more):
    scan = write_scan(tmp_path / "脑.nii.gz")
    command = ["segment", str(network), str(scan), "--output", str(tmp_path / "脑-out.nii.gz")]
    done = subprocess.run(
        [sys.executable, "-m", "medptq", *command, "--engine", "pytorch", *more],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "脑-out.nii.gz").exists()
    if more:
        assert "脑" in json.dumps(json.loads(done.stdout), ensure_ascii=False)
