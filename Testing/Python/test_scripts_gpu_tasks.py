"""How on_gpus.py shares a given time of some GPUs among processes, and when it does not begin."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu_check  # noqa: E402
import gpu_tasks  # noqa: E402
from gpu_tasks import Lane, Task, Tasks  # noqa: E402
from on_gpus import PARTS, Plan, put_included, require  # noqa: E402

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals to groups of processes")

# Counts up in a file as long as it runs, so that one sees when it did.
COUNTING = """
import pathlib, sys, time
path, until = pathlib.Path(sys.argv[1]), int(sys.argv[2])
for number in range(until):
    with path.open("a") as file:
        file.write(f"{time.monotonic()}\\n")
    time.sleep(0.02)
"""
STARTING = """
import subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]])
"""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(gpu_tasks, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(gpu_tasks, "_LOOK_EVERY", 0.02)


@pytest.fixture
def counting(tmp_path):
    """Return a command that counts in a file of a name, by itself or in a process it starts."""
    script, starting = tmp_path / "counting.py", tmp_path / "starting.py"
    script.write_text(COUNTING, encoding="utf-8")
    starting.write_text(STARTING, encoding="utf-8")

    def command(name: str, until: int = 10_000, *, in_a_child: bool = False) -> list[str]:
        own = [str(script), str(tmp_path / name), str(until)]
        return [sys.executable, *([str(starting)] if in_a_child else []), *own]

    return command


def run(tmp_path: Path, *lanes: Lane, seconds: float = 20.0) -> list[str]:
    return Tasks(lanes, seconds, tmp_path / "logs").run()


def shell(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def times(path: Path) -> list[float]:
    return [float(line) for line in path.read_text(encoding="utf-8").splitlines()]


def is_still(path: Path) -> bool:
    """Tell whether nothing counts in a file any more."""
    before = path.read_text(encoding="utf-8")
    time.sleep(0.2)
    return before == path.read_text(encoding="utf-8")


def test_a_task_begins_when_its_file_is_there_and_the_others_do_not_wait_for_it(tmp_path):
    made, order = tmp_path / "made", tmp_path / "order"
    note = f"open({str(order)!r}, 'a').write"
    waiting = Task("waiting", shell(f"{note}('needs ' + open({str(made)!r}).read())"), needs=[made])
    other = Task("other", shell(f"{note}('other ')"))
    making = Task(
        "making",
        shell(
            "import os, time; time.sleep(0.5); open('part', 'w').write('it'); "
            f"os.rename('part', {str(made)!r})".replace("'part'", repr(str(tmp_path / "part")))
        ),
    )
    assert run(tmp_path, Lane([waiting, other], ["1"], 1), Lane([making], ["0"], 1)) == []
    assert order.read_text(encoding="utf-8") == "other needs it"


def test_what_lacks_a_file_that_never_comes_is_told_at_the_end(tmp_path, capsys):
    lane = Lane([Task("never", shell(""), needs=[tmp_path / "absent"])], ["0"], 1)
    started = time.monotonic()
    assert run(tmp_path, lane) == []
    assert time.monotonic() - started < 10
    assert f"never: not begun, it needs {tmp_path / 'absent'}" in capsys.readouterr().out


def test_a_lane_waits_for_the_tasks_that_it_comes_after(tmp_path):
    order = tmp_path / "order"
    note = f"open({str(order)!r}, 'a').write"
    first = Lane([Task("a", shell(f"import time; time.sleep(0.4); {note}('a')"))], ["0"], 1)
    then = Lane([Task("b", shell(f"{note}('b')"))], ["0"], 1, after=["a"])
    assert run(tmp_path, then, first) == []
    assert order.read_text(encoding="utf-8") == "ab"


def test_a_task_beyond_its_limit_is_killed_with_what_it_started(tmp_path, counting, capsys):
    late = Task("late", counting("count", in_a_child=True), limit=1.0)
    assert run(tmp_path, Lane([late], ["0"], 1)) == ["late"]
    assert times(tmp_path / "count")
    assert is_still(tmp_path / "count")
    assert "late: killed at its limit, after 1 s" in capsys.readouterr().out


def test_what_a_task_leaves_behind_is_killed(tmp_path, counting):
    leaving = Task("leaving", shell(f"import subprocess; subprocess.Popen({counting('count')})"))
    waiting = Task("waiting", shell("import time; time.sleep(0.5)"))
    assert run(tmp_path, Lane([leaving, waiting], ["0"], 1)) == []
    assert not (tmp_path / "count").exists() or is_still(tmp_path / "count")


def test_others_stop_while_one_runs_alone_and_go_on_with_their_time(tmp_path, counting, capsys):
    alone = tmp_path / "alone"
    code = (
        "import time; began = time.monotonic(); time.sleep(2.5); "
        f"open({str(alone)!r}, 'w').write(f'{{began}}\\n{{time.monotonic()}}\\n')"
    )
    begun = tmp_path / "count"
    lanes = (
        # It counts for some 0.6 s: too long for its limit if the time that it is stopped counted.
        Lane([Task("counting", counting("count", 30, in_a_child=True), limit=2.8)], ["1"], 1),
        Lane([Task("alone", shell(code), needs=[begun], is_alone=True)], ["0"], 1),
        Lane([Task("later", counting("later", 1), needs=[begun])], ["1"], 1, after=["alone"]),
    )
    assert run(tmp_path, *lanes) == []
    began, ended = times(alone)
    counted = times(begun)
    assert len(counted) == 30
    assert not [moment for moment in counted if began < moment < ended]
    assert [moment for moment in counted if moment > ended]
    assert "alone: begins on GPU 0, alone" in capsys.readouterr().out


def test_nothing_begins_beside_what_runs_alone(tmp_path, counting):
    alone = Task("alone", counting("alone", 30), is_alone=True)
    lanes = (Lane([alone], ["0"], 1), Lane([Task("other", counting("other", 1))], ["1"], 1))
    assert run(tmp_path, *lanes) == []
    assert times(tmp_path / "other")[0] > times(tmp_path / "alone")[-1]


def test_all_is_killed_when_the_time_is_up(tmp_path, counting, capsys):
    tasks = [Task(name, counting(name, in_a_child=True)) for name in ("one", "two", "three")]
    started = time.monotonic()
    assert run(tmp_path, Lane(tasks, ["0", "0"], 1), seconds=1.5) == []
    assert time.monotonic() - started < 5
    assert is_still(tmp_path / "one")
    assert is_still(tmp_path / "two")
    out = capsys.readouterr().out
    assert "one: ended unfinished after" in out
    assert "three: not begun" in out


def test_all_is_killed_when_it_is_interrupted(tmp_path, counting, monkeypatch):
    def interrupt(seconds: float) -> None:
        while not (tmp_path / "count").exists():
            os.sched_yield()
        raise KeyboardInterrupt

    lane = Lane([Task("counting", counting("count"))], ["0"], 1)
    with monkeypatch.context() as patch:
        patch.setattr(gpu_tasks.time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, lane)
    assert is_still(tmp_path / "count")


def test_what_fails_is_told_and_the_others_go_on(tmp_path, capsys):
    bad = Task("bad", shell("import sys; sys.exit('it is broken')"))
    good = Task("good", shell(f"open({str(tmp_path / 'good')!r}, 'w')"))
    assert run(tmp_path, Lane([bad, good], ["0"], 1)) == ["bad"]
    assert (tmp_path / "good").exists()
    out = capsys.readouterr().out
    assert "bad: failed with 1 after 0 s\n            it is broken" in out
    assert "good: done in 0 s" in out


def test_a_process_knows_its_gpu_its_threads_and_its_time(tmp_path):
    code = (
        "import os, sys; print(*(os.environ[name] for name in "
        "('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS', 'MORE')), *sys.argv[1:])"
    )
    task = Task("it", shell(code), until=70.4, total="--total", spare=30.0)
    logs = tmp_path / "logs"
    assert Tasks([Lane([task], ["5,7"], 3)], 100.0, logs, {"MORE": "x"}).run() == []
    assert (logs / "it.log").read_text(encoding="utf-8") == "5,7 3 x --total 40\n"


# What on_gpus.py makes of it.


def options(tmp_path: Path, *gpus: str, parts: Sequence[str] = PARTS) -> argparse.Namespace:
    data, work = tmp_path / "data", tmp_path / "work"
    return argparse.Namespace(
        seconds=1330.0, gpus=list(gpus), parts=list(parts), data=data, work=work
    )


@pytest.mark.parametrize("gpus", [["0"], ["0", "1"], ["0", "1", "2", "3"]])
def test_every_task_has_a_name_of_its_own_and_only_one_process_writes_a_results_file(
    tmp_path, gpus
):
    lanes = Plan(options(tmp_path, *gpus), (sys.executable,), compiles=True).lanes()
    tasks = [task for lane in lanes for task in lane.tasks]
    assert len({task.name for task in tasks}) == len(tasks)
    assert {name for lane in lanes for name in lane.after} < {task.name for task in tasks}
    [building] = [lane for lane in lanes if lane.tasks[0].name == "build"]
    assert [task.name for task in building.tasks] == ["build", "timing"]
    assert len(building.places) == 1
    assert set(building.after) == {"whole-volume", "prepare"}
    # What else runs on the first GPU waits for what is timed there.
    sharing = [lane for lane in lanes if set(lane.places) & {"0"} and len(lane.tasks) > 1]
    assert all("whole-volume" in lane.after for lane in sharing)


def test_the_parts_are_all_that_is_done_and_each_uses_all_gpus_alone(tmp_path):
    def planned(*parts: str) -> dict[str, Lane]:
        lanes = Plan(options(tmp_path, "0", "1", parts=parts), ("python",), compiles=True).lanes()
        found = {task.name: lane for lane in lanes for task in lane.tasks}
        assert {name for lane in lanes for name in lane.after} <= set(found)
        return found

    every, parts = planned(*PARTS), [planned(part) for part in PARTS]
    alone = [name for part in parts for name in part]
    assert sorted(every) == sorted([*alone, "prepare"])  # while whole volumes are timed
    volumes, speed, accuracy = parts
    assert list(volumes) == ["whole-volume"]
    commands = {
        task.name: " ".join(task.command)
        for part in (every, *parts)
        for lane in part.values()
        for task in lane.tasks
    }
    assert "--gpus 0 1 --steps build" in commands["build"]
    assert "--builds 5" in commands["build"]
    assert "--steps prepare --gpus 1 " in commands["prepare"]
    assert list(speed["build"].after) == []
    assert commands["train"].count(" 0") == commands["train"].count(" 1") > 1
    assert set(accuracy["simulation-parity"].places) == {"0", "1"}
    assert accuracy["simulation-parity"].after == ("train",)


def test_the_included_networks_are_put_beside_the_trained_ones(tmp_path):
    put_included(tmp_path)
    put_included(tmp_path)  # what is there stays
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"hippocampus-nnunet-small", "ixi2mm_dlmuse-nnunet-small"}
    for name in names:
        files = {path.name for path in (tmp_path / name).iterdir()}
        assert files == {f"{name}.pth", f"{name}.json", "training.json"}


def test_without_gpus_it_ends_with_a_sentence(tmp_path):
    for name in ("hippocampus", "ixi2mm_dlmuse"):
        (tmp_path / "data" / name).mkdir(parents=True)
    command = [
        *(sys.executable, str(BENCHMARKS / "on_gpus.py"), "--seconds", "60", "--gpus", "98", "99"),
        *("--data", str(tmp_path / "data"), "--work", str(tmp_path / "work")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Nothing was started: of the GPUs 98, 99 PyTorch")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "work").exists()


def test_a_check_that_crashes_ends_it_with_a_sentence(tmp_path, monkeypatch):
    for name in ("hippocampus", "ixi2mm_dlmuse"):
        (tmp_path / "data" / name).mkdir(parents=True)
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n", encoding="utf-8")
    crashing.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(crashing))
    with pytest.raises(SystemExit, match=r"Nothing was started: .* crashed \(SIGSEGV\)"):
        require(options(tmp_path, "0"))


def test_without_the_data_sets_it_ends_with_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match="there is no data set hippocampus in"):
        require(options(tmp_path, "0"))


def test_without_tensorrt_the_check_says_why(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    said = gpu_check.what_is_missing(["0", "1"])
    assert said.startswith("Nothing was started: TensorRT cannot be used, as it says: ")
