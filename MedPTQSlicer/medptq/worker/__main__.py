"""``python -m medptq.worker``: the worker, for a program that starts it; see the package."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import signal
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
    # On a thread, as the handler may interrupt the main thread while it holds the queue's lock.
    signal.signal(
        signal.SIGTERM,
        lambda *_: threading.Thread(target=server.stop, args=["SIGTERM"]).start(),
    )
    try:
        server.serve()
    except BaseException:
        traceback.print_exc()
        end_process(1)
    end_process(0)


def _lead_a_group() -> None:
    """Become the head of a process group, by which a client ends all that a dead worker left."""
    if os.name == "posix":
        with contextlib.suppress(OSError):  # it leads a whole session
            os.setpgid(0, 0)


if __name__ == "__main__":
    main()
