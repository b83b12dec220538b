"""What this machine has that matters to inference."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from medptq.engines.built import cpu_name
from medptq.installation.nvidia import Gpu, nvidia_gpus
from medptq.models.cache import cache_root

# The processor's abilities that decide how fast networks run, by PyTorch's names for them.
_INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512_f": "AVX512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
}


@dataclass(frozen=True)
class Machine:
    """What the engines run on.

    Attributes:
        system: Operating system and its version.
        cpu: The processor's name.
        cores: Physical cores.
        memory_gb: Main memory.
        free_memory_gb: Main memory that is free now.
        instructions: The processor's vector and matrix instructions that matter to networks.
        gpus: The NVIDIA GPUs.
        cache: The folder where built networks are kept.
        free_disk_gb: Space that is free there.
    """

    system: str
    cpu: str
    cores: int
    memory_gb: float
    free_memory_gb: float
    instructions: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    cache: Path
    free_disk_gb: float


def describe_machine() -> Machine:
    """Describe the machine that this program runs on."""
    memory = psutil.virtual_memory()
    cache = cache_root()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return Machine(
        system=platform.platform(terse=True),
        cpu=cpu_name(),
        cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        memory_gb=memory.total / 1e9,
        free_memory_gb=memory.available / 1e9,
        instructions=_instructions(),
        gpus=nvidia_gpus(),
        cache=cache,
        free_disk_gb=shutil.disk_usage(existing).free / 1e9,
    )


def _instructions() -> tuple[str, ...]:
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # not in PyTorch 2.6
    if capabilities is None:
        return (torch.backends.cpu.get_cpu_capability(),)
    found = capabilities()
    return tuple(name for key, name in _INSTRUCTIONS.items() if found.get(key))
