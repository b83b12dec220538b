"""The worker's log: what it did and when, and nothing that could name a patient."""

from __future__ import annotations

import logging
import logging.handlers
import traceback
from collections.abc import Iterator
from pathlib import Path

_MOST_BYTES = 1_000_000
_OLD_FILES = 1
_MOST_CAUSES = 10


def open_log(path: Path | None) -> logging.Logger:
    """Return the log; what it is told is dropped where no file is named.

    Raises:
        OSError: The file cannot be written.
    """
    log = logging.getLogger("medptq.worker")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler: logging.Handler = logging.NullHandler()
    if path is not None:
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=_MOST_BYTES, backupCount=_OLD_FILES, encoding="utf-8"
        )
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    log.addHandler(handler)
    return log


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what caused it, what caused that, and so on, as far as it is of use."""
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def where(error: BaseException) -> str:
    """Return the traceback of an error and its causes without their texts, which may name files."""
    parts: list[str] = []
    for cause in causes_of(error):
        frames = traceback.extract_tb(cause.__traceback__)
        lines = [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        parts.append("\n".join([type(cause).__name__, *lines]))
    return "\ncaused by ".join(parts)
