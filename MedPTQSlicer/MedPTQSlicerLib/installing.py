"""Doing what a plan says, and nothing else."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from MedPTQSlicerLib.installErrors import InstallationError, pipError, requireUnchanged
from MedPTQSlicerLib.installPlan import InstallPlan
from MedPTQSlicerLib.installPlanning import PIP, PIP_OPTIONS
from MedPTQSlicerLib.jobFolder import jobFolder
from MedPTQSlicerLib.programRun import ProgramRequest
from MedPTQSlicerLib.pythonProbe import probeSteps
from MedPTQSlicerLib.workerCall import CallListener
from MedPTQSlicerLib.workerClient import WorkerClient
from MedPTQSlicerLib.workerLaunch import workerEnvironment

_RAW_PROGRESS_SINCE = Version("24.1")
_SURE_FRACTION = 0.05  # of the download, from which on the time that is left is told
_FILE = re.compile(r"^(?:Downloading|Using cached|Processing) .*?([\w.]+)-\d[^/\\\s]*\.whl(?!\.)")
_BYTES = re.compile(r"^Progress (\d+) of (\d+)$")


def installSteps(plan: InstallPlan, client: WorkerClient) -> Generator[Any, Any, None]:
    """Install what a plan says; the steps of a job.

    All is downloaded first, and checked against the plan. Until then nothing is changed, and the
    job can be cancelled at any time. Then it is installed from the downloaded files, which needs
    no network and is not broken off, as half an installation is worse than either.

    Args:
        plan: What a user has agreed to.
        client: The worker, which is ended first, and held until all is installed: it must not
            hold files that are replaced, nor load half of what is there.

    Raises:
        InstallationError: ``busy`` - the worker is at work, or another installation runs;
            ``changed`` - NumPy or SimpleITK is not what it was; or pip failed.
    """
    _requireQuiet(client)
    with jobFolder() as folder:
        downloads = folder / "downloads"
        done = yield _downloadRequest(plan, folder, downloads)
        if done["exitCode"] != 0:
            raise pipError(done["output"] + done["errors"], "Nothing was installed")
        _requireQuiet(client)
        with client.held():
            done = yield _installRequest(plan, folder, downloads)
        if done["exitCode"] != 0:
            raise pipError(done["output"] + done["errors"], "The installation did not finish")
    after = yield from probeSteps(plan.python)
    requireUnchanged(plan.facts, after)


def _requireQuiet(client: WorkerClient) -> None:
    packaging = slicerPackaging()
    if client.state in ("starting", "busy"):
        why = "the worker is at work"
    elif client.isHeld or (packaging is not None and packaging.isPipInstallInProgress()):
        why = "another installation runs"
    else:
        return
    raise InstallationError(
        "busy",
        "Nothing was installed",
        why=why,
        todo="Wait for it to end, or cancel it, and try again",
    )


def _downloadRequest(plan: InstallPlan, folder: Path, downloads: Path) -> ProgramRequest:
    # By address: no index is asked again, which could answer something else than was planned.
    wanted = folder / "download.txt"
    wanted.write_text(plan.downloadLines(), encoding="utf-8")
    pip = Version(plan.facts.packages["pip"])
    bar = "raw" if pip >= _RAW_PROGRESS_SINCE else "off"
    options = (*PIP_OPTIONS, "--no-deps", "--progress-bar", bar)
    where = ("--requirement", str(wanted), "--dest", str(downloads))
    return ProgramRequest(
        "Downloading",
        plan.python.path,
        (*PIP, "download", *options, *where),
        workerEnvironment(plan.python, folder),
        folder,
        onLine=DownloadProgress(plan).onLine,
    )


def _installRequest(plan: InstallPlan, folder: Path, downloads: Path) -> Any:
    wanted = folder / "install.txt"
    wanted.write_text(plan.installLines(), encoding="utf-8")
    stage = f"Installing {len(plan.packages)} packages, which is not broken off"
    options = (*PIP_OPTIONS, "--no-user", "--no-deps", "--no-warn-script-location")
    where = ("--no-index", "--find-links", str(downloads), "--requirement", str(wanted))
    if plan.python.isSlicers and slicerPackaging() is not None:
        return SlicerPipRequest(stage, (*options, *where))
    return ProgramRequest(
        stage,
        plan.python.path,
        (*PIP, "install", *options, *where),
        workerEnvironment(plan.python, folder),
        folder,
        isBreakable=False,
    )


def slicerPackaging() -> Any:
    """Return ``slicer.packaging``, which Slicer has from 5.12 on, or None."""
    try:
        import slicer.packaging
    except ImportError:
        return None
    return slicer.packaging


@dataclass(frozen=True)
class SlicerPipRequest:
    """pip in Slicer's own Python, run by ``slicer.packaging``, so that nobody else does meanwhile.

    See :class:`MedPTQSlicerLib.programRun.ProgramRequest` for how it is used.
    """

    stage: str
    arguments: Sequence[str]  # after "pip install"
    isBreakable = False

    def send(self, listener: CallListener) -> SlicerPipRequest:
        """Start it; the listener is told of its end later."""
        lines: list[str] = []
        listener.onStage(self.stage, None, None)
        slicerPackaging().pip_install(
            list(self.arguments),
            blocking=False,
            show_progress=False,
            logCallback=lines.append,
            completedCallback=lambda exitCode: listener.onResult(
                {"exitCode": int(exitCode), "output": "\n".join(lines), "errors": ""}
            ),
        )
        return self

    def cancel(self) -> None:
        """Do nothing: an installation is not broken off."""


class DownloadProgress:
    """Reads from what pip prints how much of a plan has arrived.

    Args:
        plan: What is downloaded.
        clock: Tells the seconds.
    """

    def __init__(self, plan: InstallPlan, clock: Callable[[], float] = time.monotonic) -> None:
        self._sizes = {package.name: package.sizeBytes or 0 for package in plan.packages}
        self._versions = {package.name: package.version for package in plan.packages}
        self._total = plan.downloadBytes
        self._arrived: dict[str, int] = {}
        self._current = ""
        self._clock = clock
        self._started = clock()

    def onLine(self, line: str, listener: CallListener) -> None:
        """Take note of a line, and tell the listener how far the download is."""
        named = _FILE.match(line.strip())
        name = canonicalize_name(named[1]) if named else ""
        if name in self._sizes and name != self._current:
            if self._current:
                self._arrived[self._current] = self._sizes[self._current]
            self._current = name
        counted = _BYTES.match(line)
        if counted and self._current:
            self._arrived[self._current] = min(int(counted[1]), self._sizes[self._current])
        if self._current and (named or counted):
            stage = f"Downloading {self._current} {self._versions[self._current]}"
            listener.onStage(stage, *self._progress())

    def _progress(self) -> tuple[float | None, float | None]:
        if not self._total:
            return None, None
        fraction = sum(self._arrived.values()) / self._total
        if fraction < _SURE_FRACTION:
            return fraction, None
        seconds = self._clock() - self._started
        return fraction, seconds * (1 - fraction) / fraction
