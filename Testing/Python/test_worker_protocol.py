"""The worker's wire: what comes over it, whatever is sent, and when the worker ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

import medptq
from medptq.worker.wire import MOST_BYTES
from worker_client import COMMAND, Worker, wait_until_gone

# Prints as libraries do, from Python, past Python and from a process, once the worker has begun.
NOISE = """
import os, runpy, subprocess, sys, threading, time
def shout():
    while os.fstat(1) != os.fstat(2):
        time.sleep(0.01)
    for _ in range(50):
        print("noise from Python", flush=True)
        sys.__stdout__.write("more of it"); sys.__stdout__.flush()
        os.write(1, b"noise past Python")
        time.sleep(0.005)
    subprocess.run([sys.executable, "-c", "print('noise from a child')"])
    sys.stderr.write("stdin holds %r\\n" % os.read(0, 10))
threading.Thread(target=shout).start()
sys.argv = ["worker"]
runpy.run_module("medptq.worker", run_name="__main__")
"""

# Starts a worker on its own stdin and stdout, and then only lives.
LAUNCHER = """
import subprocess, sys, time
subprocess.Popen(sys.argv[1:])
time.sleep(600)
"""


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    with Worker(tmp_path_factory.mktemp("worker")) as started:
        yield started


def test_the_first_line_says_who_it_is(worker):
    assert worker.hello["method"] == "hello"
    assert worker.hello["params"] == {
        "pid": worker.process.pid,
        "medptq": medptq.__version__,
        "protocol": 1,
        "python": "{}.{}.{}".format(*sys.version_info[:3]),
    }


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"garbage", -32700),
        (b"\xff\xfe\x00", -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping"', -32700),
        (b'{"jsonrpc": "2.0", "id": NaN, "method": "ping"}', -32700),
        (b"[" * 100_000, -32700),
        (b"x" * (MOST_BYTES - 1), -32700),
        (b"x" * MOST_BYTES, -32700),
        (b"x" * 3 * MOST_BYTES, -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "' + b"p" * 9 * MOST_BYTES + b'"}', -32700),
        (b"[]", -32600),
        (b"null", -32600),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', -32600),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "ping"}', -32600),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_request_is_refused_and_the_next_one_served(worker, line, code):
    worker.write(line + b"\n")
    ping = worker.send("ping")
    refusal, answer = worker.next(), worker.next()
    assert (refusal["id"], refusal["error"]["code"]) == (None, code)
    assert (answer["id"], answer["result"]) == (ping, {"running": None, "queued": []})


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"method": "ping"}, -32600),
        ({"jsonrpc": "2.0"}, -32600),
        ({"jsonrpc": "2.0", "method": 1}, -32600),
        ({"jsonrpc": "2.0", "method": "eval"}, -32601),
        ({"jsonrpc": "2.0", "method": "__init__"}, -32601),
        ({"jsonrpc": "2.0", "method": "ping", "params": [1]}, -32602),
        ({"jsonrpc": "2.0", "method": "ping", "params": {"loud": True}}, -32602),
        ({"jsonrpc": "2.0", "method": "cancel", "params": {}}, -32602),
        ({"jsonrpc": "2.0", "method": "segment", "params": {"network": "n"}}, -32602),
        ({"jsonrpc": "2.0", "method": "load", "params": {"model": 7}}, -32602),
        ({"jsonrpc": "2.0", "method": "load", "params": {"model": ""}}, -32602),
        ({"jsonrpc": "2.0", "method": "load", "params": {"model": "a\0b"}}, -32602),
        ({"jsonrpc": "2.0", "method": "load", "params": {"model": "\ud800"}}, -32602),
    ],
    ids=str,
)
def test_a_request_that_is_wrong_is_refused_under_its_id(worker, message, code):
    worker.write(json.dumps({"id": "mine", **message}).encode() + b"\n")
    answer = worker.next()
    assert (answer["id"], answer["error"]["code"]) == ("mine", code)


def test_what_is_wrong_with_the_params_is_said(worker):
    def said(recipe):
        params = {"model": "m", "scans": "s", "output": "o", "recipe": recipe}
        return worker.error("quantize", **params)["message"]

    assert said({"patches": "many"}) == "params.recipe.patches must be integer"
    assert said({"recovery": 1}) == "params.recipe.recovery must be boolean"
    assert said({"spared": "all"}) == "params.recipe.spared must be array"
    assert "speed" in worker.error("ping", speed=1)["message"]


def test_notifications_get_no_answer(worker):
    for method in ("ping", "models", "nonsense"):
        worker.write(json.dumps({"jsonrpc": "2.0", "method": method}).encode() + b"\n")
    worker.write(b"\n  \r\n")
    worker.write(b'{"jsonrpc": "2.0", "method": "cancel", "params": {"id": 5}}\r\n')
    worker.write(b'{"jsonrpc": "2.0", "id": "\xc3\xa9", "method": "ping"}\r\n')
    assert worker.next()["id"] == "é"


def test_the_catalogue_is_listed_without_loading_pytorch(worker):
    models = {model["id"]: model for model in worker.call("models")["models"]}
    assert models["deepbet"]["licence"] == "MIT"
    if sys.platform == "linux":
        maps = f"/proc/{worker.process.pid}/maps"
        with open(maps) as file:  # noqa: PTH123
            assert "libtorch" not in file.read()


def test_nothing_that_is_printed_gets_on_the_wire(tmp_path):
    with Worker(tmp_path, command=(sys.executable, "-c", NOISE)) as worker:
        for _ in range(100):
            worker.call("ping")  # every line is checked to be a message
        worker.call("models")
        while "stdin holds b''" not in (printed := worker.stderr.read_text()):
            worker.call("ping")
        for noise in ("from Python", "more of it", "past Python", "from a child"):
            assert noise in printed


def test_it_ends_when_it_is_asked_to(tmp_path):
    with Worker(tmp_path) as worker:
        assert worker.call("shutdown") == {}
        assert worker.ends() == 0


def test_it_ends_with_stdin_and_does_not_serve_a_line_that_was_cut_off(tmp_path):
    with Worker(tmp_path) as worker:
        worker.write(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}')
        worker.process.stdin.close()
        assert worker.ends() == 0
        with pytest.raises(AssertionError, match="has ended"):
            worker.next()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_it_ends_on_sigterm_and_not_on_ctrl_c(tmp_path):
    with Worker(tmp_path) as worker:
        worker.process.send_signal(signal.SIGINT)
        worker.call("ping")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no thread is chosen by its number")
def test_it_ends_on_a_sigterm_that_another_thread_gets(tmp_path):
    """As when it comes just before the main thread sleeps, which Python then does not wake."""
    with Worker(tmp_path) as worker:
        worker.call("ping")
        pid = worker.process.pid
        threads = [thread.id for thread in psutil.Process(pid).threads() if thread.id != pid]
        os.kill(threads[0], signal.SIGTERM)
        assert worker.ends() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="the pipes are not handed on like this there")
def test_it_ends_with_the_launcher_that_started_it(tmp_path):
    command = (sys.executable, "-c", LAUNCHER, *COMMAND)
    with Worker(tmp_path, command=command) as worker:
        pid = worker.hello["params"]["pid"]
        assert pid != worker.process.pid
        worker.process.kill()  # stdin stays open: this test holds it
        wait_until_gone([pid])


def test_it_ends_with_the_program_behind_the_launcher(tmp_path):
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as program,
        Worker(tmp_path, "--parent", str(program.pid)) as worker,
    ):
        worker.call("ping")
        program.kill()
        assert worker.ends() == 0


def test_it_does_not_stay_for_a_program_that_is_gone(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as program:
        program.wait()
    with Worker(tmp_path, "--parent", str(program.pid), hello=False) as worker:
        assert worker.ends() == 0


def test_a_log_that_cannot_be_written_is_said(tmp_path):
    log = tmp_path / "nowhere" / "log.txt"
    with Worker(tmp_path / "w", "--log", str(log), hello=False) as worker:
        assert worker.ends() == 2
        assert "the log cannot be written" in worker.stderr.read_text()
