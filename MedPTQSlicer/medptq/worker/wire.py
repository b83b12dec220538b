"""The two ends of the wire, out of every library's reach."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import BinaryIO

from medptq.worker.messages import PARSE_ERROR, ProtocolError

MOST_BYTES = 1 << 20
"""The longest line that is read; no request comes near it."""


class Wire:
    """Lines in and lines out.

    Args:
        incoming: What the client writes.
        outgoing: What the client reads.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._lock = threading.Lock()

    def read(self) -> bytes | None:
        """Return the next line, or None when the client has closed its end.

        A line that was cut off by the client's end is none.

        Raises:
            ProtocolError: The line is too long; it was passed over without being held.
        """
        line = self._incoming.readline(MOST_BYTES)
        if len(line) < MOST_BYTES or line.endswith(b"\n"):
            return line if line.endswith(b"\n") else None
        while line and not line.endswith(b"\n"):
            line = self._incoming.readline(MOST_BYTES)
        raise ProtocolError(PARSE_ERROR, f"The line is longer than {MOST_BYTES} bytes")

    def send(self, line: bytes) -> None:
        """Write a line, from any thread; nobody reads it if the client is gone."""
        # That it is gone, the end of stdin or the watch of the parent will tell.
        with self._lock, contextlib.suppress(OSError):
            self._outgoing.write(line)
            self._outgoing.flush()


def claim_stdio() -> Wire:
    """Take stdin and stdout for the wire, and leave the process others.

    Whatever is printed from here on, by Python, a C library or a process that is started, goes to
    stderr; whoever reads stdin finds it empty.
    """
    incoming, outgoing = os.dup(0), os.dup(1)  # not handed on to processes that are started
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Wire(os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb"))
