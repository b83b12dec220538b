"""Jobs: steps that go on by themselves on Qt's event loop, and what observers are told."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

import pytest

from medptq.errors import Cancelled, MedPTQError, ModelError, ScanError


@pytest.fixture(autouse=True)
def _slicer(gui_without_window: Any) -> None:
    """All of it must work without a main window."""


def _job(steps: Any, **more: Any) -> Any:
    from MedPTQSlicerLib.jobs import Job

    return Job("Title", steps, **more)


def _forever() -> Any:
    while True:
        yield


def _raises(error: BaseException) -> Any:
    yield
    raise error


class _Unbreakable:
    """A request, and its call, that is not broken off."""

    def __init__(self) -> None:
        self.isBreakable = False

    def send(self, listener: Any) -> Any:
        self.listener = listener
        listener.onStage("Installing", None, None)
        return self

    def cancel(self) -> None:
        raise AssertionError("it must not be broken off")


@pytest.mark.parametrize("code", [0, 1])
def test_what_cannot_be_broken_off_tells_how_it_ends_though_it_was_cancelled(code: int) -> None:
    import slicer

    request = _Unbreakable()

    def steps() -> Any:
        answer = yield request
        if answer["exitCode"]:
            raise ScanError("full", "It did not finish", why="the disk is full", todo="Wait")
        return "checked"

    job = _job(steps()).start()
    told: list[bool] = []
    job.observe(changed=lambda job: told.append(job.canBeCancelled))
    while job.stage != "Installing":
        slicer.app.processEvents()
    assert told[-1] is job.canBeCancelled is False
    job.cancel()
    request.listener.onResult({"exitCode": code})
    if code:
        with pytest.raises(ScanError, match="the disk is full"):
            job.wait(5)
    else:
        assert job.wait(5) == "checked"
    assert job.canBeCancelled


def test_steps_run_one_by_one_between_other_events() -> None:
    import qt

    order: list[str] = []

    def steps() -> Any:
        order.append("first")
        qt.QTimer.singleShot(0, lambda: order.append("other"))
        yield
        order.append("second")
        yield "Named"
        return 7

    job = _job(steps())
    assert (job.state, job.stage, order) == ("running", "", [])
    assert job.start() is job
    assert order == []  # it begins with the next event
    assert job.wait() == 7
    assert order == ["first", "other", "second"]
    assert (job.state, job.result, job.error, job.stage) == ("done", 7, None, "Named")
    assert [line.partition(" ")[2] for line in job.log] == ["Named", "Done"]
    ended = job.elapsedSeconds
    time.sleep(0.01)
    assert job.elapsedSeconds == ended > 0
    assert job.wait() == 7


def test_a_failure_is_kept_and_raised() -> None:
    failure = ScanError("empty", "It cannot be used", why="it is empty", todo="Take another")
    job = _job(_raises(failure)).start()
    with pytest.raises(ScanError) as raised:
        job.wait()
    assert raised.value is job.error is failure
    assert (job.state, job.result) == ("failed", None)
    assert "Failed: It cannot be used: it is empty. Take another." in job.log[-1]
    assert "scan.empty" in job.details


def test_a_fault_becomes_a_sentence_and_keeps_its_traceback_for_the_report() -> None:
    job = _job(_raises(KeyError("nonsense"))).start()
    with pytest.raises(MedPTQError, match="a fault in the extension"):
        job.wait()
    assert job.error.code == "medptq.unexpected"
    assert "KeyError" in job.error.why
    assert "Traceback" not in str(job.error)
    assert "Traceback" in job.details
    assert "raise error" in job.details


def test_cancelling_unwinds_the_steps() -> None:
    undone: list[str] = []

    def steps() -> Any:
        try:
            yield from _forever()
        finally:
            undone.append("steps")

    job = _job(steps(), cleanUp=lambda: undone.append("job")).start()
    with pytest.raises(TimeoutError, match=r"longer than 0\.05 s"):
        job.wait(0.05)
    assert job.state == "running"
    job.cancel()
    job.cancel()
    assert job.state == "running"  # it ends with the next event
    with pytest.raises(Cancelled):
        job.wait()
    assert (job.state, undone) == ("cancelled", ["steps", "job"])
    assert isinstance(job.error, Cancelled)
    job.cancel()
    assert job.state == "cancelled"


def test_a_job_can_be_cancelled_before_it_begins() -> None:
    begun: list[bool] = []

    def steps() -> Any:
        begun.append(True)
        yield

    started, never_started = _job(steps()).start(), _job(steps())
    for job in (started, never_started):
        job.cancel()
        with pytest.raises(Cancelled):
            job.wait()
    assert begun == []


def test_steps_that_ended_before_they_could_be_cancelled_are_done() -> None:
    def steps() -> Any:
        job.cancel()
        return "done"
        yield

    job = _job(steps()).start()
    assert job.wait() == "done"


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (None, "done"),
        (ModelError("x", "It", why="y", todo="z"), "failed"),
        (RuntimeError(), "failed"),
        (Cancelled(), "cancelled"),
    ],
)
def test_cleaning_up_comes_once_and_before_anybody_is_told(outcome: Any, state: str) -> None:
    order: list[str] = []

    def steps() -> Any:
        yield
        if outcome is not None:
            raise outcome

    def clean_up() -> None:
        order.append(job.state)

    job = _job(steps(), cleanUp=clean_up)
    job.observe(finished=lambda told: order.append(told.state))
    job.start()
    with contextlib.suppress(MedPTQError):
        job.wait()
    assert order == ["running", state]


def test_observers_are_told_until_they_stop() -> None:
    told: list[Any] = []
    job = _job(_two_stages())
    stop = job.observe(changed=lambda job: told.append(job.stage), finished=told.append)
    forget = job.observe(changed=lambda _: pytest.fail("told"), finished=pytest.fail)
    forget()
    forget()
    job.start().wait()
    assert told == ["One", "Two", "Two", job]
    stop()
    late: list[Any] = []
    job.observe(finished=late.append)()
    assert late == [job]  # at once, as it has ended
    assert told[-1] is job


def _two_stages() -> Any:
    yield "One"
    yield "Two"


def test_what_observers_and_cleaning_up_raise_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []

    def fail(*_: Any) -> None:
        raise ValueError("an observer's fault")

    job = _job(_two_stages(), cleanUp=fail)
    job.observe(changed=fail, finished=fail)
    job.observe(finished=told.append)
    with caplog.at_level(logging.ERROR):
        job.start().wait()
    assert told == [job]
    assert job.state == "done"
    assert "an observer's fault" in caplog.text


def test_waiting_within_a_callback_or_in_anothers_steps_is_safe() -> None:
    inner = _job(_two_stages())
    seen: list[Any] = []

    def steps() -> Any:
        yield
        seen.append(inner.start().wait())
        yield
        return "outer"

    outer = _job(steps())
    outer.observe(finished=lambda job: seen.append(job.wait()))
    assert outer.start().wait() == "outer"
    assert seen == [None, "outer"]


def test_waiting_for_oneself_is_a_fault_and_no_hang() -> None:
    def steps() -> Any:
        yield
        job.wait()

    job = _job(steps()).start()
    with pytest.raises(MedPTQError, match="RuntimeError"):
        job.wait(5)


def test_the_log_stays_short() -> None:
    job = _job(_stages(2000)).start()
    job.wait()
    assert len(job.log) == 500
    assert job.log[-1].endswith("Done")


def _stages(count: int) -> Any:
    for number in range(count):
        yield f"Stage {number}"


def test_jobs_without_requests_need_no_worker_and_stop_with_slicer() -> None:
    from MedPTQSlicerLib.background import background

    jobs = [background().run(_job(_forever())) for _ in range(2)]
    done = background().run(_job(_two_stages()))
    done.wait()
    assert background().jobs == jobs
    background().stop()  # without the event loop
    assert [job.state for job in jobs] == ["cancelled"] * 2
    assert background().jobs == []
    assert background().client.state == "stopped"
