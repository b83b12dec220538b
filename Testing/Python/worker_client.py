"""A client of a real worker process, for tests."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

Message = dict[str, Any]
PATIENCE_SECONDS = 60.0
COMMAND = (sys.executable, "-m", "medptq.worker")


class Worker:
    """A worker and all that it said so far; every line it writes must be a JSON-RPC message."""

    def __init__(
        self, folder: Path, *arguments: str, command: tuple[str, ...] = COMMAND, hello: bool = True
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.stderr = folder / "stderr.txt"
        with self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={
                    **os.environ,
                    "MEDPTQ_CACHE": str(folder / "cache"),
                    "MEDPTQ_LIBRARY": str(folder / "library"),
                },
            )
        self.seen: list[Message] = []
        self._came: queue.Queue[bytes | None] = queue.Queue()
        self._ids = iter(range(1, 1_000_000))
        threading.Thread(target=self._listen, daemon=True).start()
        self.hello = self.next() if hello else {}

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._came.put(line)
        self._came.put(None)

    def send(self, method: str, /, **params: Any) -> int:
        """Ask for something and return the request's id."""
        request_id = next(self._ids)
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        self.write(json.dumps(message).encode() + b"\n")
        return request_id

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def next(self, timeout: float = PATIENCE_SECONDS) -> Message:
        line = self._came.get(timeout=timeout)
        assert line is not None, "the worker has ended"
        assert line.endswith(b"\n")
        message = json.loads(line.decode("ascii"))
        assert message["jsonrpc"] == "2.0"
        self.seen.append(message)
        return message

    def until(self, is_it: Callable[[Message], bool], timeout: float = PATIENCE_SECONDS) -> Message:
        """Read on until a message comes that is it."""
        deadline = time.monotonic() + timeout
        while True:
            message = self.next(max(deadline - time.monotonic(), 0.01))
            if is_it(message):
                return message

    def answer(self, request_id: object, timeout: float = PATIENCE_SECONDS) -> Message:
        return self.until(lambda m: m.get("id") == request_id and "method" not in m, timeout)

    def call(self, method: str, /, **params: Any) -> Message:
        """Ask for something and return its result."""
        answer = self.answer(self.send(method, **params))
        assert "error" not in answer, answer
        return answer["result"]

    def error(self, method: str, /, **params: Any) -> Message:
        """Ask for something that fails and return the error."""
        return self.answer(self.send(method, **params))["error"]

    def told(self, method: str, request_id: int) -> list[Message]:
        """Return the params of the notifications on a request so far."""
        return [
            message["params"]
            for message in self.seen
            if message.get("method") == method and message["params"].get("id") == request_id
        ]

    def ends(self, timeout: float = 10.0) -> int:
        return self.process.wait(timeout)


def wait_until_gone(pids: list[int], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while left := [pid for pid in pids if _is_alive(pid)]:
        assert time.monotonic() < deadline, f"{left} still run"
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
