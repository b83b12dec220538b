"""The NVIDIA GPUs, as their driver describes them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU.

    Attributes:
        name: Its name.
        driver: Version of its driver.
        memory_mb: Its memory, in MiB.
        free_memory_mb: What of it is free now, in MiB.
    """

    name: str
    driver: str
    memory_mb: int
    free_memory_mb: int


def nvidia_gpus() -> tuple[Gpu, ...]:
    """Ask the driver for its GPUs; there are none where it does not work."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = "--query-gpu=name,driver_version,memory.total,memory.free"
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed command
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()  # the program is there, a working driver is not
    return _parse_gpus(answer)


def _parse_gpus(answer: str) -> tuple[Gpu, ...]:
    gpus = []
    for line in answer.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[2].isdigit() and fields[3].isdigit():
            gpus.append(Gpu(fields[0], fields[1], int(fields[2]), int(fields[3])))
    return tuple(gpus)
