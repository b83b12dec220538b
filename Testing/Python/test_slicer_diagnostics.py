"""What is copied for a report, and what is kept out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from medptq.errors import MedPTQError
from medptq.installation.facts import facts
from MedPTQSlicerLib.computerCheck import ComputerReport
from MedPTQSlicerLib.computerVerdict import Verdict
from MedPTQSlicerLib.diagnostics import diagnosticsText, withoutPaths
from MedPTQSlicerLib.requirements import loadRequirements
from MedPTQSlicerLib.workerLaunch import WorkerPython

HOME = Path("/home/ann smith")
LOG = HOME / "tmp" / "MedPTQ-worker.log"


def _text(report: ComputerReport | None = None, log: str = "", stderr: str = "") -> str:
    return diagnosticsText(report, slicer="5.12.3", log=LOG, logText=log, stderr=stderr, home=HOME)


def test_the_home_folder_is_written_as_a_tilde() -> None:
    text = _text(log="/home/ann smith/data is not there")
    assert "Log: ~/tmp/MedPTQ-worker.log" in text
    assert "ann" not in text


@pytest.mark.parametrize(
    "line",
    [
        "itk: cannot read /data/Meier_Hans_1950/head.nii.gz at all",
        "'/data/Meier Hans 1950/head 1.nii.gz' is damaged",
        r"cannot read C:\scans\Meier Hans\head.nii.gz",
        "file:///data/Meier/head.nrrd",
        "[/data/Meier/head.nrrd]",
        "path=/data/Meier Hans",
        r"\\server\share\Meier\head.nrrd",
        "Meier_Hans.nii.gz: no image",
        "~/scans/Meier/1.dcm",
        "could not read Meier Hans T1.nii.gz",
        "Error in /data/scans/Hans, Meier",
        "file: /data/patients/Hans (Meier)/IM0001 is bad",
        r"C:\Users\x\Hans, Meier\IM1",
        "Meier_Hans/IM0001 is no DICOM",
        "/env/bin/python failed on /data/Hans Meier/sub",
        "/environment/Meier is no folder of a program",
        "../Meier",
    ],
)
def test_paths_of_patients_are_left_out(line: str) -> None:
    shown = withoutPaths(line, ["/env"])
    assert "Meier" not in shown
    assert shown == "<a line that names a file>"
    assert "Meier" not in _text(stderr=line)


@pytest.mark.parametrize(
    "line",
    [
        '  File "/env/lib/python3.12/site-packages/torch/nn.py", line 7, in run',
        "/env: it is full",
        "1/2 of it, and/or 3 m/s on CPU/GPU",
        "ImportError: DLL load failed while importing _C: GLIBCXX_3.4.30 was not found",
    ],
)
def test_what_programs_say_stays(line: str) -> None:
    assert withoutPaths(line, ["/env"]) == line


def test_of_an_error_about_a_file_its_kind_stays() -> None:
    line = "OSError: [Errno 28] No space left on device: '/data/Meier/x'"
    assert withoutPaths(line, ["/env"]) == "OSError: <a line that names a file>"


def test_all_that_the_check_knows_is_there() -> None:
    error = MedPTQError("start", "The worker did not start", why="it fell over", todo="Look")
    verdict = Verdict("red", error.what, error.why, error.todo, also=("Little memory is free: x.",))
    python = WorkerPython(Path("/env/bin/python"), isSlicers=False)
    report = ComputerReport(verdict, python, facts(), error=error)
    text = _text(report, log="a\nb", stderr="c")
    assert "RED: The worker did not start\nit fell over\nLook\n" in text
    assert "in 3D Slicer 5.12.3" in text
    assert "medptq.start: The worker did not start: it fell over. Look." in text
    assert "Also: Little memory is free" in text
    assert "Python: /env/bin/python, chosen by the user" in text
    for requirement in loadRequirements():
        assert f"  {requirement.name} " in text


def test_without_a_check_it_says_so_and_long_logs_are_cut() -> None:
    text = _text(log="\n".join(f"line {n}" for n in range(1000)))
    assert "was not checked" in text
    assert "line 999" in text
    assert "line 900\n" not in text
