"""TensorRT's library: whether it is there, which version, and what it says when something fails.

Nothing here imports TensorRT before it is asked for, and no other file imports it by itself.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any

import torch

from medptq.errors import EngineError
from medptq.installation.nvidia import nvidia_gpus

# Without it old drivers load all of TensorRT's kernels onto the GPU. CUDA reads it when it starts.
os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")

OLDEST = (8, 6)
"""The oldest version that is served; 10.12 is the first with all that strong typing needs."""

# What TensorRT's log says where the GPU's memory ran out; its calls then only return None.
_NO_MEMORY = re.compile(
    r"out of memory|outofmemory|could not be allocated|insufficient memory|not enough memory"
    r"|failed to allocate|memory allocation",
    re.IGNORECASE,
)
_TOLD = 4  # lines of TensorRT's log that are kept for an error


def import_tensorrt() -> Any:
    """Import TensorRT.

    Raises:
        ImportError: It is not installed.
        OSError: Its libraries cannot be loaded.
    """
    import tensorrt

    return tensorrt


@functools.cache
def unusable_because() -> str:
    """Say why TensorRT cannot be used here and what to do about it; "" if it can.

    A GPU that TensorRT cannot work with, or a driver too old for it, shows when a runtime is made.
    """
    if not torch.cuda.is_available():
        return (
            "PyTorch finds no NVIDIA GPU here; install NVIDIA's driver and a PyTorch with CUDA, "
            "or use the CPU"
        )
    try:
        trt = import_tensorrt()
        if version_of(trt) < OLDEST:
            return (
                f"TensorRT {trt.__version__} is too old; install it anew with: "
                "pip install 'tensorrt>=10.12,<12'"
            )
        torch.cuda.init()  # type: ignore[no-untyped-call]
        if trt.Runtime(log(trt)) is None:
            return "TensorRT does not work with this GPU and its driver; update the driver"
    except ImportError as error:
        return (
            f"TensorRT cannot be imported ({error}); install it with: "
            "pip install 'tensorrt>=10.12,<12'"
        )
    except Exception as error:  # a broken installation may raise anything
        return f"TensorRT does not work here ({error}); install it anew, or update the driver"
    return ""


def version_of(trt: Any) -> tuple[int, int]:
    """Return the library's major and minor version."""
    major, minor = str(trt.__version__).split(".")[:2]
    return int(major), int(minor)


def is_strongly_typed(trt: Any) -> bool:
    """Tell whether the graph's own types decide the precision, as from TensorRT 10 on.

    In 8.6 flags allow precisions and the builder chooses among them.
    """
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


@functools.cache
def gpu() -> str:
    """Describe the GPU by what decides whether an engine that was built for it fits another.

    That is its name, its compute capability, and the major version of its driver.
    """
    major, minor = torch.cuda.get_device_capability()
    name = torch.cuda.get_device_name()
    drivers = {found.driver.partition(".")[0] for found in nvidia_gpus()}
    driver = f", driver {drivers.pop()}" if len(drivers) == 1 else ""
    return f"{name}, compute capability {major}.{minor}{driver}"


@functools.cache
def log(trt: Any) -> Any:
    """Return the one logger of this process; TensorRT keeps the first that it is given."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()


def failure(errors: list[str]) -> Exception:
    """Return what a call of TensorRT failed of, from what it logged.

    Returns:
        ``MemoryError`` where memory ran out, else ``RuntimeError`` with its last words.
    """
    if any(_NO_MEMORY.search(error) for error in errors):
        return MemoryError("; ".join(errors[-_TOLD:]))
    words = [re.sub(r"^\S*?\d+: |\[[^\]]*\] ?", "", error).strip() for error in errors[-_TOLD:]]
    return RuntimeError("; ".join(filter(None, words)) or "TensorRT does not say why")


def cannot_build(why: str) -> EngineError:
    """Return the error for a network that TensorRT cannot build."""
    return EngineError(
        "build",
        "TensorRT cannot build this network",
        why=why,
        todo="Run it with the PyTorch engine instead",
    )
