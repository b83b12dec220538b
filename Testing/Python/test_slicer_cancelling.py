"""Calibrations that are started and cancelled at random moments: no orphans, and no leftovers.

``MEDPTQ_CANCELLATIONS=100 python -m pytest -s Testing/Python/test_slicer_cancelling.py`` does a
hundred and prints how it went.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from slicer_worker import (  # noqa: F401 - some are fixtures
    data,
    job_of,
    launcher,
    left_in,
    until,
    workers,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals and shebangs")
COUNT = int(os.environ.get("MEDPTQ_CANCELLATIONS", "8"))
COLD_EVERY = 4  # of so many calibrations one finds no worker
HANGS_EVERY = 6  # of so many one finds that it hangs when it is to be cancelled
MOST_SECONDS = 2.0


@pytest.mark.timeout(60 + 10 * COUNT)
def test_cancelling_at_random_moments(
    launcher: Any,  # noqa: F811
    gui: Any,
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    random_one = random.Random(COUNT)  # noqa: S311
    client = launcher.client
    temporary = Path(gui.app.temporaryPath)
    launcher.run(job_of(client, "import", path=data / "net.onnx")).wait(60)
    voxels = np.random.default_rng(0).normal(40, 20, (96, 96, 96)).astype("f4")
    seconds: list[float] = []
    moments, too_late, kills = Counter[str](), 0, 0
    while len(seconds) < COUNT:
        number = len(seconds) + too_late
        if number % COLD_EVERY == 0:
            client.stop()
        job = _calibration(launcher, voxels, patches=random_one.choice([8, *[1_000_000] * 3]))
        if random_one.random() < 0.6:  # else it may not even have begun
            until(lambda: job.stage == "Calibrating" or job.state == "done")  # noqa: B023
        _process_events(random_one.uniform(0, MOST_SECONDS))
        if job.state == "done":
            too_late += 1
            continue
        moments[job.stage] += 1
        pid = client.pid
        if number % HANGS_EVERY == 1 and client.state == "busy":
            os.kill(pid, signal.SIGSTOP)
        started = time.monotonic()
        job.cancel()
        until(lambda: job.state != "running", 10)  # noqa: B023
        seconds.append(time.monotonic() - started)
        kills += client.pid != pid
        assert job.state == "cancelled"
        assert len(workers()) <= 2  # the worker and its launcher
        assert len(left_in(temporary)) <= 1  # the worker's own folder
    answer = launcher.run(job_of(client, "models")).wait(60)  # as the panel does, which shows them
    assert "brightness" in [model["id"] for model in answer["models"]]
    client.stop()
    print(
        f"\n{COUNT} calibrations cancelled, {too_late} more were done before, in {dict(moments)};"
    )
    print(f"{kills} workers did not stop in time, or hung, and were killed;")
    print(f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s;")
    print(f"{len(_orphans())} orphans, {len(_leftovers(tmp_path, temporary))} leftovers")
    assert _orphans() == []
    assert _leftovers(tmp_path, temporary) == []
    assert max(seconds) < 2.5


def _calibration(background: Any, voxels: Any, patches: int) -> Any:
    from MedPTQSlicerLib.jobFolder import jobFolder
    from MedPTQSlicerLib.jobs import Job
    from MedPTQSlicerLib.nrrd import writeNrrdSteps

    def steps() -> Any:
        with jobFolder() as folder:
            yield "Handing over the volumes"
            yield from writeNrrdSteps(voxels, np.eye(4), folder / "scan.nrrd")
            recipe = {"patches": patches}
            params = {"model": "brightness", "scans": folder, "recipe": recipe, "overwrite": True}
            yield background.client.request("quantize", **params)

    return background.run(Job("Calibrating", steps()))


def _process_events(seconds: float) -> None:
    import slicer

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.002)


def _orphans() -> list[list[str]]:
    """Return the commands of all processes of this machine that work for this one."""
    mine = ["--parent", str(os.getpid())]
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        is_worker = any(command[at : at + 2] == mine for at in range(len(command)))
        if is_worker and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(command)
    children = psutil.Process().children(recursive=True)
    return found + [child.cmdline() for child in children if child.is_running()]


def _leftovers(folder: Path, temporary: Path) -> list[str]:
    parts = [str(path) for path in folder.rglob("*") if ".medptq-part" in path.name]
    return parts + left_in(temporary)
