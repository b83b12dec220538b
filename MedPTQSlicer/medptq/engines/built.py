"""What the cache of built networks holds, as its small files tell: no engine is loaded for it.

It answers what a list of networks shows, at once: is this graph built for this machine? Before a
build is run, :mod:`medptq.engines.cache` checks it for good.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medptq.installation.nvidia import nvidia_gpus
from medptq.models.cache import cache_folder
from medptq.versions import installed_version

# The distribution on PyPI whose version decides what an engine builds.
_DISTRIBUTIONS = {"openvino": "openvino", "pytorch": "torch", "tensorrt": "tensorrt"}


@dataclass(frozen=True)
class BuiltFor:
    """What a network was built from and for; part of each entry of the cache.

    Attributes:
        graph: SHA-256 of the ONNX graph.
        engine: The engine's name.
        version: The version of the engine's library.
        precision: What it runs at.
        input_shape: (N, C, D, H, W).
        machine: A digest that tells machines of another kind; see :func:`machine_digest`.
    """

    graph: str
    engine: str
    version: str
    precision: str
    input_shape: tuple[int, ...]
    machine: str

    @classmethod
    def here(cls, graph: str, engine: str, precision: str, input_shape: Sequence[int]) -> BuiltFor:
        """Return what a build on this machine, with the libraries that are installed, is for."""
        version = installed_version(_DISTRIBUTIONS.get(engine, engine))
        shape = tuple(input_shape)
        return cls(graph, engine, version, precision, shape, machine_digest(engine))

    @property
    def is_for_here(self) -> bool:
        """Whether it was built for this machine, by the version that is installed."""
        return self == BuiltFor.here(self.graph, self.engine, self.precision, self.input_shape)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def entries() -> Iterator[tuple[Path, BuiltFor]]:
    """Yield the file of each entry in the cache and what it was built for; damaged ones are not."""
    for path in sorted(cache_folder("engines").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(path.read_text(encoding="utf-8"))
            built = dict(content["built_for"])
            yield path, BuiltFor(**{**built, "input_shape": tuple(built["input_shape"])})


def graphs_built_here() -> dict[str, set[str]]:
    """Return the precisions that each graph, by its SHA-256, is built in for this machine."""
    found: dict[str, set[str]] = {}
    for path, built in entries():
        if built.is_for_here and any(path.parent.glob(f"{path.stem}-*.blob")):
            found.setdefault(built.graph, set()).add(built.precision)
    return found


def remove_builds_of(graphs: set[str]) -> int:
    """Delete all that was built from these graphs, by their SHA-256, and return the bytes freed."""
    freed = 0
    for path, built in list(entries()):
        if built.graph in graphs:
            # The entry first: a blob without one is in nobody's way.
            for file in (path, *path.parent.glob(f"{path.stem}-*.blob")):
                with contextlib.suppress(OSError):
                    size = file.stat().st_size
                    file.unlink()
                    freed += size
    return freed


@functools.cache
def machine_digest(engine: str) -> str:
    """Return a digest of the system and what an engine runs on, the same on machines of one kind.

    That is the processor, and for TensorRT the GPUs and their driver, too.
    """
    kind = [platform.system(), platform.machine(), cpu_name()]
    if engine == "tensorrt":
        kind += [f"{gpu.name}, driver {gpu.driver.partition('.')[0]}" for gpu in nvidia_gpus()]
    return hashlib.sha256(json.dumps(kind).encode()).hexdigest()[:16]


def cpu_name() -> str:
    """Return the processor's name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
