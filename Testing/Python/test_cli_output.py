"""Where what the command line prints cannot be written: it ends with a code, not with a traceback.

Every test runs the program, with its output going nowhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medptq.cli import program
from medptq.errors import QuantizationError

SCAN = 3
FOUND = ["cache"]
REFUSED = ["inspect", "/no/such/folder"]
FULL = Path("/dev/full")
NEEDS_FULL = pytest.mark.skipif(not FULL.exists(), reason=f"this system has no {FULL}")


@pytest.mark.parametrize("more", [(), ("--json",)])
@pytest.mark.parametrize(("command", "status"), [(FOUND, 1), (REFUSED, SCAN)])
def test_a_pipe_that_nobody_reads(command, status, more):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = _run([*command, *more], writing)
    finally:
        os.close(writing)
    # A refusal without --json goes to stderr alone.
    assert done.returncode == status
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


@NEEDS_FULL
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_full_disk(more):
    with FULL.open("wb") as full:
        done = _run([*FOUND, *more], full.fileno())
    assert done.returncode == 1
    assert done.stderr == b"The answer could not be printed: No space left on device.\n"


@NEEDS_FULL
def test_a_refusal_keeps_its_code_where_nothing_can_be_printed():
    with FULL.open("wb") as full:
        assert _run(REFUSED, full.fileno(), full.fileno()).returncode == SCAN


def test_a_structure_s_name_is_no_markup_where_nothing_agreed(monkeypatch, capsys):
    tried = {"name": "W8A8", "dice": 0.9, "passed": False, "milliseconds": 1.0, "megabytes": 1.0}
    least = {"name": "Lesion [/core]", "dice": 0.7}
    trials = [{**tried, "least_alike": least, "chosen": False, "recipe": {}}]
    error = QuantizationError("agreement", "a", why="b", todo="c", facts={"trials": trials})

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setitem(program._COMMANDS, "doctor", fail)
    assert program.main(["doctor"]) == error.exit_status
    assert "[/core]" in capsys.readouterr().err


def _run(
    command: list[str], stdout: int, stderr: int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "medptq", *command], stdout=stdout, stderr=stderr, check=False
    )
