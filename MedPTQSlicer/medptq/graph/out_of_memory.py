"""Every library's way of saying that memory ran out."""

from __future__ import annotations

import errno

import torch

# What PyTorch's CPU allocator, OpenVINO, oneDNN and ITK write into their plain RuntimeErrors.
_SIGNS = (
    "bad_alloc",
    "can't alloc",
    "cannot allocate",
    "could not create a memory object",
    "failed to allocate",
    "not enough memory",
    "out of memory",
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it was raised from, says that memory ran out."""
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS):
            return True
        error = error.__cause__
    return False
