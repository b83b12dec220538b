"""Whether this Python can do on these GPUs what on_gpus.py begins: a check of seconds.

    python scripts/benchmarks/gpu_check.py 0 1

Says what is missing, if anything is. In a process of its own, as importing these libraries may
fail in any way, and what asks a GPU holds some of its memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_NOT_STARTED = "Nothing was started"


def what_is_missing(gpus: Sequence[str]) -> str:
    """Return a sentence that says what is missing and what to do, or ``""``.

    Args:
        gpus: As ``CUDA_VISIBLE_DEVICES`` counts them; to be called before PyTorch is imported.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    try:
        import pytest  # noqa: F401
        import torch

        from medptq.engines.selection import engines
    except Exception as error:  # a broken installation may raise anything
        return (
            f"{_NOT_STARTED}: {sys.executable} cannot import what is needed "
            f"({type(error).__name__}: {error}). Run this with the Python that medptq is "
            "installed for, or install it: pip install -e '.[test,tensorrt]'."
        )
    found = torch.cuda.device_count()
    if found != len(gpus):
        return (
            f"{_NOT_STARTED}: of the GPUs {', '.join(gpus)} PyTorch {torch.__version__} finds "
            f"{found}. See what nvidia-smi lists, and name those with --gpus."
        )
    tensorrt = engines()["tensorrt"].availability()
    if not tensorrt.usable:
        return f"{_NOT_STARTED}: TensorRT cannot be used, as it says: {tensorrt.reason}."
    return ""


if __name__ == "__main__":
    raise SystemExit(what_is_missing(sys.argv[1:]) or 0)
