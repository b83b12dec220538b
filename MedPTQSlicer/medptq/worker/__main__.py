"""``python -m medptq.worker``: the worker, for a program that starts it; see the package."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import signal
import socket
import threading
import traceback
from pathlib import Path

from medptq.parent_watch import when_parent_dies
from medptq.worker.log import open_log
from medptq.worker.server import Server, end_process
from medptq.worker.wire import claim_stdio


def main() -> None:
    """Serve the program that started this process until it ends."""
    parser = argparse.ArgumentParser(prog="python -m medptq.worker", description=__doc__)
    parser.add_argument(
        "--parent",
        type=int,
        metavar="PID",
        help="end with this process, where it is not the one that starts the worker",
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep a log, without scans' names")
    options = parser.parse_args()
    _lead_a_group()
    try:
        log = open_log(options.log)
    except OSError as error:
        parser.error(f"the log cannot be written: {error.strerror}")
    server = Server(claim_stdio(), log)
    faulthandler.enable()
    when_parent_dies(
        lambda: server.stop("the parent has ended"),
        [] if options.parent is None else [options.parent],
    )
    # Ctrl-C reaches every process of the terminal; here the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _stop_on_sigterm(server)
    try:
        server.serve()
    except BaseException:
        traceback.print_exc()
        end_process(1)
    end_process(0)


def _stop_on_sigterm(server: Server) -> None:
    """Stop the server when SIGTERM comes, whatever the main thread does.

    A handler would not do: Python runs it on the main thread, which may be about to sleep as the
    signal comes, and then sleeps on, or hold the lock of the queue that is to be stopped.
    """
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)  # only so that it is written there

    def listen() -> None:
        while True:
            if signal.SIGTERM in reading.recv(1):
                server.stop("SIGTERM")

    threading.Thread(target=listen, name="sigterm", daemon=True).start()


def _lead_a_group() -> None:
    """Become the head of a process group, by which a client ends all that a dead worker left."""
    if os.name == "posix":
        with contextlib.suppress(OSError):  # it leads a whole session
            os.setpgid(0, 0)


if __name__ == "__main__":
    main()
