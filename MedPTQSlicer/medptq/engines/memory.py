"""One error for every library's way of running out of memory."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

from medptq.errors import EngineError, MedPTQError
from medptq.graph.out_of_memory import is_out_of_memory

OUT_OF_MEMORY = "engine.memory"


@contextlib.contextmanager
def memory_as_error(doing: str) -> Iterator[None]:
    """Raise ``EngineError("memory")`` where the block runs out of memory.

    Args:
        doing: What is being done, for a person to read (``"Running the network"``).

    Raises:
        EngineError: With the code :data:`OUT_OF_MEMORY`. Other errors pass unchanged.
    """
    try:
        yield
    except MedPTQError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise EngineError(
            "memory",
            f"{doing} did not succeed",
            why="this machine has not enough free memory for it",
            todo="Close other programs, crop the scan to what matters, or use a machine with more"
            " memory",
        ) from error


def let_go_of_what_it_holds(error: BaseException) -> None:
    """Free what the frames of a traceback refer to, whole networks among it; its lines stay."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
