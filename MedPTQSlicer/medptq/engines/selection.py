"""The engines this program has, and the one to take where none is named."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping

from medptq.engines.openvino import OpenVINOEngine
from medptq.engines.protocol import Availability, Engine, Precision, Samples
from medptq.engines.pytorch import PyTorchEngine
from medptq.engines.tensorrt import TensorRTEngine
from medptq.errors import EngineError


@functools.cache
def _engines() -> dict[str, Engine]:
    every: tuple[Engine, ...] = (OpenVINOEngine(), PyTorchEngine(), TensorRTEngine())
    return {engine.name: engine for engine in every}


def engines() -> dict[str, Engine]:
    """Return every engine by name, usable here or not."""
    return dict(_engines())


def usable_engines() -> dict[str, Engine]:
    """Return the engines that this machine can run, by name."""
    return {name: engine for name, engine in _engines().items() if engine.availability().usable}


def native_ways() -> list[tuple[str, Precision]]:
    """Return every engine and precision that this machine runs natively, PyTorch's FP32 first."""
    ways = [
        (name, precision)
        for name, engine in usable_engines().items()
        for precision in engine.availability().precisions
    ]
    return sorted(ways, key=lambda way: (way[0] != "pytorch", way[0], way[1] != "fp32", way[1]))


def get_engine(name: str) -> Engine:
    """Return the engine of that name.

    Raises:
        EngineError: There is none, or it cannot be used here.
    """
    names = " or ".join(_engines())
    if name not in _engines():
        raise EngineError(
            "unknown",
            f"There is no engine called {name!r}",
            why="the name is not known",
            todo=f"Choose {names}",
        )
    engine = _engines()[name]
    require_usable(engine)
    return engine


def held_to(samples: Samples, engines: Mapping[str, Engine]) -> dict[str, Engine]:
    """Return the engines, where TensorRT holds what it builds against its graph on samples, too.

    Args:
        samples: Of scans that the network will run on; only asked for if something is built.
        engines: By name.
    """
    return {
        name: TensorRTEngine(samples=samples) if isinstance(engine, TensorRTEngine) else engine
        for name, engine in engines.items()
    }


def engine_to_measure_int8(name: str, samples: Samples) -> Engine:
    """Return the engine of that name, which runs INT8 networks in INT8 even where that is slower.

    It is for what INT8 costs. What it builds must not get into the cache.

    Args:
        name: The engine's.
        samples: As for :func:`held_to`.

    Raises:
        EngineError: There is none, or it cannot be used here.
    """
    engine = get_engine(name)
    if not isinstance(engine, TensorRTEngine):
        return engine
    return TensorRTEngine(measures_int8=True, samples=samples)


def require_usable(engine: Engine) -> Availability:
    """Return the engine's availability.

    Raises:
        EngineError: It cannot be used here.
    """
    availability = engine.availability()
    if not availability.usable:
        raise EngineError(
            "unavailable",
            f"The engine {engine.name} cannot be used here",
            why=availability.reason,
            todo="Choose another engine; medptq doctor lists those that work",
        )
    return availability


def default_engine() -> Engine:
    """Return the engine that is likely the fastest here.

    That is TensorRT where there is a GPU for it, else OpenVINO on x86, else PyTorch.
    """
    usable = usable_engines()
    if "tensorrt" in usable:
        return usable["tensorrt"]
    if "openvino" in usable and platform.machine() in ("x86_64", "AMD64"):
        return usable["openvino"]
    return usable["pytorch"]
