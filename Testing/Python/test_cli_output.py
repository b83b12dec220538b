"""Where what the command line prints cannot be written: it ends with a code, not with a traceback.

Every test runs the program, with its output going nowhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCAN = 3
FOUND = ["cache"]
REFUSED = ["inspect", "/no/such/folder"]


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_full_disk(more):
    with Path("/dev/full").open("wb") as full:
        done = _run([*FOUND, *more], full.fileno())
    assert done.returncode == 1
    assert done.stderr == b"The answer could not be printed: No space left on device.\n"


def _run(command: list[str], stdout: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "medptq", *command],
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )
