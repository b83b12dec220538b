"""Ctrl-C, a kill at any moment: nothing is left that is half-written and later believed."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from medptq.cli import main
from medptq.cli.console import Terminal
from medptq.errors import Cancelled
from medptq.progress import Progress
from medptq.quantization.quantized_model import load_quantized_model
from tiny_network import write_network, write_scan


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def network(tmp_path):
    return write_network(tmp_path / "network")


def _quantize(network: Path, scans: Path, output: Path, *more: str) -> int:
    command = ["quantize", str(network), "--scans", str(scans), "--output", str(output)]
    return main([*command, "--patches", "2", "--quiet", *more])


def _remains(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".medptq-part" in path.name]


def _start(tmp_path: Path, network: Path, output: Path) -> subprocess.Popen[str]:
    command = ["quantize", str(network), "--scans", str(tmp_path / "scans"), "--patches", "4000"]
    return subprocess.Popen(
        [sys.executable, "-m", "medptq", *command, "--output", str(output)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MEDPTQ_CACHE": str(tmp_path / "cache")},
    )


def _until_calibrating(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Calibrating"):
            return
    raise AssertionError("it ended before it calibrated")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_cleanly(tmp_path, network, number):
    for seed in range(2):
        write_scan(tmp_path / "scans" / f"{seed}.nii", shape=(64, 64, 64), seed=seed)
    process = _start(tmp_path, network, tmp_path / "out")
    _until_calibrating(process)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Stopped" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
    assert _remains(tmp_path) == []


class Stderr(io.StringIO):
    """Is interrupted in its first line; refuses, as Python's own, to be written to within it."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.writer: int | None = None
        self.is_interrupted = False

    def write(self, text: str) -> int:
        if self.writer == threading.get_ident():
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")
        with self.lock:
            self.writer = threading.get_ident()
            try:
                if not self.is_interrupted:
                    self.is_interrupted = True
                    signal.raise_signal(signal.SIGINT)
                return super().write(text)
            finally:
                self.writer = None


def test_ctrl_c_within_a_line_stops_too(monkeypatch):
    stderr = Stderr()
    monkeypatch.setattr(sys, "stderr", stderr)
    with Terminal(quiet=False) as terminal:
        terminal.reporter.report(Progress("Working", 0, 2, None))
        with pytest.raises(Cancelled):
            terminal.reporter.check()
        for _ in range(100):
            if "press Ctrl-C again" in stderr.getvalue():
                break
            time.sleep(0.05)
    assert stderr.getvalue().startswith("Working 0% ...")
    assert "press Ctrl-C again" in stderr.getvalue()


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0])
def test_a_kill_leaves_nothing_that_is_believed(tmp_path, network, seconds, capsys):
    for seed in range(2):
        write_scan(tmp_path / "scans" / f"{seed}.nii", shape=(64, 64, 64), seed=seed)
    output = tmp_path / "out"
    process = _start(tmp_path, network, output)
    _until_calibrating(process)
    time.sleep(seconds)
    process.kill()
    process.communicate(timeout=60)
    assert not output.exists()
    assert _quantize(network, tmp_path / "scans", output) == 0
    assert load_quantized_model(output).manifest["calibration"]["patches"] == 2
    assert _remains(tmp_path) == [], "what the killed run left is cleared away by the next"


def test_a_kill_while_writing_leaves_the_old_folder_or_the_new_one(tmp_path, network):
    """Killed between any two file operations of a replacement, the folder is whole."""
    scan = write_scan(tmp_path / "scans" / "0.nii")
    output = tmp_path / "out"
    assert _quantize(network, scan, output) == 0
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from medptq.cli import main\n"
        "left = int(sys.argv[1])\n"
        "def counted(real):\n"
        "    def call(*args, **kwargs):\n"
        "        global left\n"
        "        left -= 1\n"
        "        if left < 0: os._exit(9)\n"
        "        return real(*args, **kwargs)\n"
        "    return call\n"
        "os.fsync = counted(os.fsync)\n"
        "Path.rename, Path.replace = counted(Path.rename), counted(Path.replace)\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    arguments = ["quantize", str(network), "--scans", str(scan), "--output", str(output)]
    arguments += ["--patches", "2", "--overwrite", "--quiet"]
    ends = []
    for operations in (0, 3, 4, 5, 6, 7):
        done = subprocess.run(
            [sys.executable, "-c", script, str(operations), *arguments], check=False
        )
        ends.append(done.returncode)
        load_quantized_model(output)
    assert ends[0] == 9, "it was killed"
    assert ends[-1] == 0, "it was not"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such pipes")
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_has_seen_enough_gets_no_traceback(more):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "medptq", "models", "--quiet", *more]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, b"")
