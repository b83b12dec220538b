"""Downloading a wheel from the Python package index, through pip.

pip knows the user's index, mirrors, proxy, certificates and credentials, wherever they are
configured; anything else would have to guess them. No code of a wheel is run: it is only
downloaded, and source distributions, whose set-up would be run, are not taken.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.version import Version

from medptq.errors import ModelError
from medptq.models.catalogue import Release
from medptq.models.checksum import require_checksum
from medptq.progress import Reporter

_RAW_PROGRESS_SINCE = Version("24.1")
_PROGRESS = re.compile(r"^Progress (\d+) of (\d+)$", re.MULTILINE)
_POLL_SECONDS = 0.1


def download_release(release: Release, sha256: str, target: Path, reporter: Reporter) -> None:
    """Download a release's wheel to ``target``.

    Args:
        release: Package and version.
        sha256: What the wheel must hash to; pip passes over those that do not.
        target: Where it shall lie, under the wheel's own name; its folder exists.
        reporter: Told of the progress, asked for cancellation.

    Raises:
        ModelError: ``model.offline``, ``model.download`` or ``model.checksum``; see
            :func:`medptq.models.download.fetch`.
        OSError: It cannot be written.
    """
    pinned = f"{release.package}=={release.version}"
    with tempfile.TemporaryDirectory(prefix="pip-", dir=target.parent) as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text(f"{pinned} --hash=sha256:{sha256}\n", encoding="utf-8")
        log = Path(folder) / "pip.log"
        status = _run_pip(wanted, log, reporter)
        wheel = Path(folder) / target.name
        if status != 0 or not wheel.is_file():
            raise _failure(log.read_text(encoding="utf-8", errors="replace"), pinned, target)
        require_checksum(wheel, sha256, target.name)
        wheel.replace(target)


def _run_pip(wanted: Path, log: Path, reporter: Reporter) -> int:
    command = [sys.executable, "-m", "pip", "download", "--no-input"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    command += ["--ignore-requires-python", "--require-hashes", "--requirement", str(wanted)]
    command += ["--dest", str(wanted.parent), "--progress-bar", _progress_bar()]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - no shell, and the names are checked
            command,
            cwd=wanted.parent,  # "python -m" would import a pip.py of the working directory
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        try:
            for _ in reporter.track(_percents(process, log, reporter), "Downloading", 100):
                pass
            return process.wait()
        finally:
            process.kill()
            process.wait()


def _percents(process: subprocess.Popen[bytes], log: Path, reporter: Reporter) -> Iterator[int]:
    """Yield each percent that arrived, until pip ends."""
    percent = 0
    while True:
        ended = process.poll() is not None
        reports = _PROGRESS.findall(log.read_text(encoding="utf-8", errors="replace"))
        done, total = map(int, reports[-1]) if reports else (0, 0)
        while total and percent < 100 * done // total:
            percent += 1
            yield percent
        if ended:
            if process.returncode == 0:  # a pip before 24.1 reports no progress on the way
                yield from range(percent + 1, 101)
            return
        reporter.check()
        time.sleep(_POLL_SECONDS)


def _progress_bar() -> str:
    try:
        version = Version(metadata.version("pip"))
    except metadata.PackageNotFoundError:
        return "off"  # running it will say so
    return "raw" if version >= _RAW_PROGRESS_SINCE else "off"


def _failure(output: str, pinned: str, target: Path) -> ModelError:
    """Say in one sentence why pip failed."""
    by_hand = (
        f'run "pip download --no-deps {pinned}" on another computer and put {target.name}'
        f" at {target}"
    )
    if "No module named pip" in output:
        return ModelError(
            "download",
            f"{pinned} could not be downloaded",
            why=f"{sys.executable} has no pip",
            todo=f'Run "{sys.executable} -m ensurepip", or {by_hand}',
        )
    if "DO NOT MATCH THE HASHES" in output:
        return ModelError(
            "checksum",
            f"{target.name} was not taken",
            why="the package index serves a file with another SHA-256",
            todo=f"Check which index pip is configured with, or {by_hand}",
        )
    lines = output.splitlines()
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return ModelError(
        "offline",
        f"{pinned} could not be downloaded",
        why=f'pip says "{errors[0].rstrip(".")}"' if errors else "pip failed without a word",
        todo=f"Connect to the network and check pip's index and proxy, or {by_hand}",
    )
