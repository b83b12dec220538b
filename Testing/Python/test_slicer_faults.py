"""What goes wrong with the worker in Slicer: it is said, nothing is left, the next one works."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from medptq.errors import Cancelled, OutputError
from slicer_worker import (  # noqa: F401 - some are fixtures
    HELLO,
    LONG,
    data,
    failure_of,
    is_calibrating,
    job_of,
    launcher,
    left_in,
    next_one_works,
    quantize,
    run_instead,
    slicer_worker,
    until,
    workers,
)
from worker_client import wait_until_gone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals and shebangs")
HOST = Path(__file__).with_name("slicer_that_dies.py")


def _calibrating(background: Any, data: Path, output: Path) -> Any:  # noqa: F811
    params = quantize(data, output, **LONG)
    job = background.run(job_of(background.client, "quantize", **params))
    until(is_calibrating(job))
    return job


def _behind_it(background: Any) -> Any:
    """Start a job that waits for the one that runs."""
    queued = background.run(job_of(background.client, "release"))
    until(lambda: queued.stage == "Waiting for other work")
    return queued


# The worker ends


@pytest.mark.parametrize("started_by", ["launcher", "slicer_worker"])
def test_the_worker_is_killed_in_the_middle(
    request: pytest.FixtureRequest,
    data: Path,  # noqa: F811
    tmp_path: Path,
    started_by: str,
) -> None:
    background = request.getfixturevalue(started_by)
    job = _calibrating(background, data, tmp_path / "int8")
    queued = _behind_it(background)
    os.kill(background.client.pid, signal.SIGKILL)
    error = failure_of(job, "worker.killed", 2)
    assert "memory" in error.why
    assert "smaller" in error.todo
    assert "released" in queued.wait(60)  # it had not begun, so the next worker did it
    assert background.jobs == []
    next_one_works(background)


def test_the_launcher_is_killed_and_its_worker_goes_with_it(
    launcher: Any,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    job = _calibrating(launcher, data, tmp_path / "int8")
    pids = workers()
    assert len(pids) == 2
    psutil.Process(launcher.client.pid).parent().kill()
    failure_of(job, "worker.killed", 2)
    wait_until_gone(pids, 1)
    next_one_works(launcher)


@pytest.mark.parametrize(
    ("how", "code", "why"),
    [
        ("os.kill(os.getpid(), 9)", "worker.killed", "memory"),
        ("os.kill(os.getpid(), 15)", "worker.ended", "SIGTERM"),
        ("import faulthandler; faulthandler.enable(); faulthandler._sigsegv()", "worker.ended", "a"
         " library crashed in it (Segmentation fault)"),
        ("raise SystemError('no luck')", "worker.ended", "status 1: SystemError: no luck"),
        ("sys.exit(3)", "worker.ended", "status 3"),
        ("os.close(1)", "worker.ended", "status 0"),
    ],
)  # fmt: skip
def test_how_it_ended_is_told(
    slicer_worker: Any,  # noqa: F811
    tmp_path: Path,
    how: str,
    code: str,
    why: str,
) -> None:
    beat = 'say(method="heartbeat", params={"id": 1, "stage": "Starting", "elapsed_seconds": 0})'
    run_instead(tmp_path, f"{HELLO}\nhello(1)\nsys.stdin.readline()\n{beat}\n{how}\n")
    job = slicer_worker.run(job_of(slicer_worker.client, "models"))
    assert why in failure_of(job, code, 20).why


def test_what_a_dead_worker_has_started_is_ended_too(slicer_worker: Any, tmp_path: Path) -> None:  # noqa: F811
    code = f"""{HELLO}
import subprocess
os.setpgid(0, 0)  # as medptq.worker does
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
hello(1)
sys.stdin.readline()
say(method="warning", params={{"id": 1, "text": str(child.pid)}})
time.sleep(0.1)
os.kill(os.getpid(), 9)
"""
    run_instead(tmp_path, code)
    job = slicer_worker.run(job_of(slicer_worker.client, "models"))
    failure_of(job, "worker.killed", 20)
    wait_until_gone([int(job.warnings[0])], 1)


def test_a_comparison_whose_worker_is_killed_leaves_none_of_its_processes(
    launcher: Any,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    network = tmp_path / "net.onnx"
    shutil.copy(data / "net.onnx", network)
    card = json.loads((data / "net.json").read_text())
    card["input"]["overlap"] = 0.9  # takes minutes
    network.with_suffix(".json").write_text(json.dumps(card))
    int8 = tmp_path / "int8"
    launcher.run(job_of(launcher.client, "quantize", **quantize(data, int8, patches=4))).wait(60)
    scan = data / "large" / "head.nii.gz"
    params = {"model": network, "quantized": int8, "scan": scan, "output": tmp_path / "report"}
    job = launcher.run(job_of(launcher.client, "compare", **params))
    until(lambda: len(workers()) == 3)  # a process that segments, to be measured
    pids = workers()
    os.kill(launcher.client.pid, signal.SIGKILL)
    failure_of(job, "worker.killed", 2)
    wait_until_gone(pids, 1)
    assert not (tmp_path / "report").exists()


def test_the_real_worker_leads_a_group(slicer_worker: Any) -> None:  # noqa: F811
    slicer_worker.run(job_of(slicer_worker.client, "models")).wait(60)
    assert os.getpgid(slicer_worker.client.pid) == slicer_worker.client.pid


# The worker hangs


def test_a_worker_that_hangs_is_noticed_and_can_be_cancelled(
    launcher: Any,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from MedPTQSlicerLib import workerClient

    monkeypatch.setattr(workerClient, "STALL_SECONDS", 3)
    job = _calibrating(launcher, data, tmp_path / "int8")
    queued = _behind_it(launcher)
    hung = workers()
    os.kill(launcher.client.pid, signal.SIGSTOP)
    until(lambda: job.isStalled, 8)
    assert "wait, or cancel" in job.notice
    assert job.notice in "\n".join(job.log)
    assert not queued.isStalled
    os.kill(launcher.client.pid, signal.SIGCONT)
    until(lambda: not job.isStalled, 5)
    assert job.notice == ""
    os.kill(launcher.client.pid, signal.SIGSTOP)
    started = time.monotonic()
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait(5)
    assert time.monotonic() - started < 2
    wait_until_gone(hung, 1)
    assert "released" in queued.wait(60)


def test_what_a_worker_says_while_it_is_killed_is_not_heard(
    launcher: Any,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from MedPTQSlicerLib import childProcess

    job = _calibrating(launcher, data, tmp_path / "int8")
    queued = _behind_it(launcher)
    worker, really = launcher.client.pid, childProcess.killTree
    os.kill(worker, signal.SIGSTOP)

    def slowly(pid: int) -> None:
        # It is told to end, as when its launcher is gone, and has time to say so.
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGCONT)
        time.sleep(0.5)
        monkeypatch.setattr(childProcess, "killTree", really)
        really(pid)

    monkeypatch.setattr(childProcess, "killTree", slowly)
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait(5)
    assert "released" in queued.wait(60)


@pytest.mark.parametrize("milliseconds", [1000, 0])  # 0: a second passes whenever nothing else does
def test_a_worker_that_hangs_while_idle_is_noticed_by_the_next_request(
    launcher: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    milliseconds: int,
) -> None:
    from MedPTQSlicerLib import workerClient

    monkeypatch.setattr(workerClient, "STALL_SECONDS", 1)
    next_one_works(launcher)
    launcher.client._clock.setInterval(milliseconds)
    hung = workers()
    os.kill(launcher.client.pid, signal.SIGSTOP)
    job = launcher.run(job_of(launcher.client, "models"))
    until(lambda: job.isStalled, 5)
    job.cancel()
    until(lambda: job.state == "cancelled", 1)
    later = launcher.run(job_of(launcher.client, "models"))
    assert "models" in later.wait(60)
    wait_until_gone(hung, 1)


def test_a_hung_worker_does_not_outlive_slicer(launcher: Any) -> None:  # noqa: F811
    next_one_works(launcher)
    pids = workers()
    os.kill(launcher.client.pid, signal.SIGSTOP)
    launcher.stop()
    wait_until_gone(pids, 0.1)


# Files


def test_there_is_no_place_for_files(
    slicer_worker: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from MedPTQSlicerLib import jobFolder

    monkeypatch.setattr(jobFolder, "_roots", lambda: [Path("/proc"), Path("/proc/self")])
    job = slicer_worker.run(job_of(slicer_worker.client, "models"))
    with pytest.raises(OutputError, match="no place for temporary files") as raised:
        job.wait(5)
    assert raised.value.code == "output.unwritable"
    monkeypatch.undo()
    next_one_works(slicer_worker)


def test_the_disk_is_full_while_a_volume_is_handed_over(
    slicer_worker: Any,  # noqa: F811
    gui: Any,
) -> None:
    import numpy as np

    from MedPTQSlicerLib.jobFolder import jobFolder
    from MedPTQSlicerLib.jobs import Job
    from MedPTQSlicerLib.nrrd import writeNrrdSteps

    def steps() -> Any:
        with jobFolder() as folder:
            yield from writeNrrdSteps(np.zeros((64, 256, 256), "f4"), np.eye(4), folder / "s.nrrd")

    # A disk that is full after 10 MB, as far as this process is concerned.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, before[1]))
    try:
        job = slicer_worker.run(Job("Handing over", steps()))
        with pytest.raises(OutputError, match="Free some space"):
            job.wait(10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left_in(Path(gui.app.temporaryPath)) == []


def test_the_log_cannot_be_written(slicer_worker: Any) -> None:  # noqa: F811
    slicer_worker.client.logFile.mkdir()
    next_one_works(slicer_worker)
    assert list(slicer_worker.client.logFile.iterdir()) == []
    slicer_worker.client.logFile.rmdir()


# Slicer ends


def test_slicer_is_killed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    folder = Path("Slicer", "tmp")
    command = [sys.executable, str(HOST), str(tmp_path), str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pids = [int(pid) for pid in host.stdout.readline().split()]
        assert len(pids) == 2  # a launcher and the worker
        assert [name for name in left_in(tmp_path / folder) if name.startswith("medptq-job-")]
        host.kill()
    wait_until_gone(pids, 5)
    left = left_in(tmp_path / folder)
    assert len(left) == 2  # the job's folder and the worker's, which the next Slicer removes
    with subprocess.Popen([*command, "next"], stdout=subprocess.PIPE, text=True) as after:
        assert after.communicate(timeout=60)[0].split() == ["removed"]
    assert left_in(tmp_path / folder) == []
