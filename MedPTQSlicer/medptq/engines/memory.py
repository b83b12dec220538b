"""One error for every library's way of running out of memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from medptq.errors import EngineError

OUT_OF_MEMORY = "engine.memory"

# What PyTorch's CPU allocator and OpenVINO write into their plain RuntimeErrors.
_SIGNS = ("bad_alloc", "can't allocate memory", "not enough memory", "out of memory")


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
    except EngineError:
        raise
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise EngineError(
            "memory",
            f"{doing} did not succeed",
            why="this machine has not enough free memory for it",
            todo="Close other programs, or use a machine with more memory",
        ) from error


def _is_out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        if isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS):
            return True
        error = error.__cause__
    return False
