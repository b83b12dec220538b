"""The worker's client with real processes: asking, queueing, cancelling, and what is printed."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from medptq.errors import Cancelled, MedPTQError, ModelError
from medptq.worker.server import PROTOCOL
from slicer_worker import (  # noqa: F401 - some are fixtures
    HELLO,
    LONG,
    data,
    failure_of,
    is_calibrating,
    job_of,
    launcher,
    next_one_works,
    quantize,
    run_instead,
    slicer_worker,
    until,
    workers,
)

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs programs with a shebang")


def test_the_protocol_is_the_workers() -> None:
    from MedPTQSlicerLib import workerClient

    assert workerClient.PROTOCOL == PROTOCOL


def test_the_first_request_starts_a_worker_and_the_next_finds_it_warm(launcher: Any) -> None:  # noqa: F811
    client = launcher.client
    assert (client.state, client.pid, workers()) == ("stopped", None, [])
    job = launcher.run(job_of(client, "models"))
    until(lambda: job.stage == "Starting the worker")
    assert client.state == "starting"
    assert "deepbet" in [model["id"] for model in job.wait(60)["models"]]
    assert client.state == "ready"
    pid = client.pid
    assert psutil.Process(pid).parent().parent().pid == os.getpid()  # the launcher is between
    before = time.monotonic()
    launcher.run(job_of(client, "models")).wait(60)
    assert time.monotonic() - before < 5
    assert client.pid == pid
    assert "protocol 1" in client.logFile.read_text()
    client.stop()
    assert (client.state, client.pid, workers()) == ("stopped", None, [])


@pytest.mark.parametrize("fails", [False, True])
def test_no_worker_is_started_while_it_is_held(launcher: Any, fails: bool) -> None:  # noqa: F811
    client = launcher.client
    next_one_works(launcher)
    pending = launcher.run(job_of(client, "models"))
    with contextlib.suppress(ZeroDivisionError), client.held():
        assert (client.state, workers()) == ("stopped", [])
        error = failure_of(launcher.run(job_of(client, "models")), "worker.installing", 5)
        assert "packages are being installed" in error.why
        assert (client.state, workers()) == ("stopped", [])
        if fails:
            raise ZeroDivisionError
    assert pending.state in ("cancelled", "failed")
    next_one_works(launcher)


def test_an_error_comes_back_as_medptq_raised_it(slicer_worker: Any) -> None:  # noqa: F811
    job = slicer_worker.run(job_of(slicer_worker.client, "load", model="no-such"))
    with pytest.raises(ModelError, match="no-such") as raised:
        job.wait(60)
    assert raised.value.code == "model.unknown"
    assert raised.value.what
    assert raised.value.why
    assert raised.value.todo
    refused = slicer_worker.run(job_of(slicer_worker.client, "load", model="m", loud=True))
    with pytest.raises(MedPTQError, match="did not accept"):
        refused.wait(60)
    unknown = slicer_worker.run(job_of(slicer_worker.client, "eval"))
    with pytest.raises(MedPTQError, match="no such method"):
        unknown.wait(60)


def test_several_requests_of_a_job_are_asked_one_after_the_other(slicer_worker: Any) -> None:  # noqa: F811
    from MedPTQSlicerLib.jobs import Job

    client = slicer_worker.client

    def steps() -> Any:
        models = yield client.request("models")
        yield
        try:
            yield client.request("load", model="no-such")
        except ModelError as error:
            return [model["id"] for model in models["models"]], error.code

    ids, code = slicer_worker.run(Job("Two", steps())).wait(60)
    assert "deepbet" in ids
    assert code == "model.unknown"


@posix_only
def test_whoever_is_told_may_wait_for_the_next_answer(slicer_worker: Any, tmp_path: Path) -> None:  # noqa: F811
    code = f"""{HELLO}
hello({PROTOCOL})
ids = [json.loads(sys.stdin.readline())["id"] for _ in range(3)]
lines = [json.dumps({{"jsonrpc": "2.0", "id": id, "result": {{"id": id}}}}) for id in ids]
os.write(1, "".join(line + "\\n" for line in lines).encode())  # all at once
time.sleep(600)
"""
    run_instead(tmp_path, code)
    jobs = [slicer_worker.run(job_of(slicer_worker.client, "models")) for _ in range(3)]
    order: list[int] = []
    for job, other in zip(jobs, [jobs[1], jobs[2], jobs[0]], strict=True):

        def wait(_: Any, other: Any = other) -> None:
            order.append(other.wait(5)["id"])

        job.observe(finished=wait)
    for job in jobs:
        job.wait(20)
    until(lambda: len(order) == 3)
    assert order == [1, 3, 2]  # the innermost first
    slicer_worker.client.stop()


def test_calibrating_tells_how_far_it_is(slicer_worker: Any, data: Path, tmp_path: Path) -> None:  # noqa: F811
    job = job_of(slicer_worker.client, "quantize", **quantize(data, tmp_path / "int8", patches=4))
    seen: list[tuple[str, float | None]] = []
    job.observe(changed=lambda job: seen.append((job.stage, job.fraction)))
    result = slicer_worker.run(job).wait(120)
    assert Path(result["output"]) == tmp_path / "int8"
    assert ("Calibrating", 1.0) in seen
    assert any(stage == "Calibrating" and fraction == 0 for stage, fraction in seen)
    assert any(line.endswith("Calibrating") for line in job.log)
    assert job.log[-1].endswith("Done")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "bad.nii.gz").write_bytes(b"rubbish")
    os.link(data / "scans" / "0.nii.gz", tmp_path / "scans" / "good.nii.gz")
    params = quantize(data, tmp_path / "int8", patches=4) | {"scans": tmp_path / "scans"}
    job = slicer_worker.run(job_of(slicer_worker.client, "quantize", **params))
    result = job.wait(120)
    assert job.warnings == result["warnings"]
    assert "bad.nii.gz" in job.warnings[0]
    assert job.warnings[0] in "\n".join(job.log)


def test_requests_queue_and_each_can_be_cancelled(
    launcher: Any,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    client = launcher.client
    long = launcher.run(job_of(client, "quantize", **quantize(data, tmp_path / "int8", **LONG)))
    until(is_calibrating(long))
    first, second = (launcher.run(job_of(client, "release")) for _ in range(2))
    until(lambda: second.stage == "Waiting for other work")
    assert (client.state, launcher.jobs) == ("busy", [long, first, second])
    started = time.monotonic()
    first.cancel()
    until(lambda: first.state == "cancelled")
    assert (long.state, second.state) == ("running", "running")
    long.cancel()
    assert "released" in second.wait(2)
    assert time.monotonic() - started < 2
    assert long.state == "cancelled"
    with pytest.raises(Cancelled):
        long.wait()
    assert not (tmp_path / "int8").exists()
    assert launcher.jobs == []
    assert client.state == "ready"


def test_cancelling_at_once_does_no_harm_to_the_worker(launcher: Any, monkeypatch: Any) -> None:  # noqa: F811
    from MedPTQSlicerLib import workerClient

    monkeypatch.setattr(workerClient, "_CANCEL_MS", 100)
    client = launcher.client
    launcher.run(job_of(client, "models")).wait(60)
    pid = client.pid
    request = client.request("models")
    job = job_of(client, "models")
    call = request.send(job)
    call.cancel()
    call.cancel()
    until(lambda: job.state == "cancelled", 1)
    assert client.state == "ready"
    time.sleep(0.2)
    launcher.run(job_of(client, "models")).wait(60)
    assert client.pid == pid


def test_what_is_sent_as_the_worker_becomes_ready_is_sent_once(launcher: Any) -> None:  # noqa: F811
    client = launcher.client
    first = launcher.run(job_of(client, "models"))
    until(lambda: client.state == "starting")
    answers: list[Any] = []

    class Listener:
        def __getattr__(self, name: str) -> Any:
            return lambda *args, **_: name in ("onResult", "onError") and answers.append(args[0])

    def ask(process: Any, params: Any) -> None:
        for _ in range(2):
            client.request("models").send(Listener())
        greet(process, params)

    greet, client._onHello = client._onHello, ask
    assert "models" in first.wait(60)
    until(lambda: len(answers) == 2)
    assert all("models" in answer for answer in answers)


def test_cancelling_while_the_worker_starts(launcher: Any) -> None:  # noqa: F811
    job = launcher.run(job_of(launcher.client, "models"))
    until(lambda: launcher.client.state == "starting")
    job.cancel()
    until(lambda: job.state == "cancelled", 1)
    later = launcher.run(job_of(launcher.client, "models"))
    assert "models" in later.wait(60)


@posix_only
def test_what_is_printed_on_stdout_breaks_nothing(slicer_worker: Any, tmp_path: Path) -> None:  # noqa: F811
    code = f"""{HELLO}
os.write(1, b"a banner\\n\\n{{\\xff\\xfe\\n[1, 2]\\n7\\nnull\\n" + b"[" * 100_000 + b"\\n")
hello({PROTOCOL})
for line in sys.stdin:
    request = json.loads(line)
    say(method="progress", params=None)
    say(method="unheard-of", params={{"id": request["id"]}})
    say(id=None, error={{"code": 1}})
    say(id=[1], result={{}})
    say(id=99, result={{}})
    result = {{"text": "x" * 300_000}}
    answer = json.dumps({{"jsonrpc": "2.0", "id": request["id"], "result": result}})
    for start in range(0, len(answer), 50_000):
        os.write(1, answer[start:start + 50_000].encode())
        time.sleep(0.01)
    os.write(1, b"\\n")
"""
    run_instead(tmp_path, code)
    for _ in range(2):
        job = slicer_worker.run(job_of(slicer_worker.client, "models"))
        assert job.wait(20) == {"text": "x" * 300_000}


@posix_only
def test_what_is_printed_on_stderr_is_kept_in_part_and_not_shown(
    slicer_worker: Any,  # noqa: F811
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    code = f"""{HELLO}
hello({PROTOCOL})
for line in sys.stdin:
    for _ in range(400):
        os.write(2, b"noise " * 1000 + b"\\n")
    os.write(2, b"\\xff the end\\n")
    say(id=json.loads(line)["id"], result={{}})
"""
    run_instead(tmp_path, code)
    client = slicer_worker.client
    slicer_worker.run(job_of(client, "models")).wait(20)
    until(lambda: client.stderr.endswith("the end\n"))
    assert len(client.stderr) <= 65536
    client.stop()
    assert client.stderr.endswith("the end\n")
    assert "noise" not in capfd.readouterr().out
