"""What every inference engine offers, whatever it runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from medptq.progress import Reporter

Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "int8"]

Samples: TypeAlias = Callable[[], Iterable[NDArray[np.float32]]]
"""Makes patches of scans as a network takes them, float32 [1, C, D, H, W]."""

MOST_SAMPLES = 2
"""How many of them a build is held against its graph on, at most."""


@dataclass(frozen=True)
class Availability:
    """Whether an engine can be used here.

    Attributes:
        usable: True if it can.
        version: The library's version, or "" if it is not installed.
        hardware: What it would run on, in words; part of the key of cached builds.
        precisions: What it runs at native speed here, the preferred one first.
        reason: If it cannot be used, why, and what to do about it.
        on_gpu: Whether it runs on a GPU, whose memory is its own.
    """

    usable: bool
    version: str
    hardware: str
    precisions: tuple[Precision, ...]
    reason: str = ""
    on_gpu: bool = False


@dataclass(frozen=True)
class BuildRequest:
    """What is to be built.

    Attributes:
        onnx: The graph: FP32, or with Q/DQ nodes for INT8.
        precision: The precision to run it at.
        input_shape: (N, C, D, H, W), static.
    """

    onnx: Path
    precision: Precision
    input_shape: tuple[int, int, int, int, int]


class Session(Protocol):
    """A built network, loaded and ready to run. Use it as a context manager.

    Implementations name this class as their base, to share the context manager.

    Attributes:
        input_shape: (N, C, D, H, W) that :meth:`run` takes; N is the largest batch.
        device: Where it takes its input and leaves its output.
    """

    input_shape: tuple[int, int, int, int, int]
    device: torch.device

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        """Run the network once.

        Args:
            batch: float32 [n, C, D, H, W] on :attr:`device`, with n up to N.

        Returns:
            Output [n, classes, D, H, W], floating point, on :attr:`device`. It is only valid
            until the next call: copy what must outlive it.
        """
        ...

    def layer_precisions(self) -> Mapping[str, int]:
        """Count the layers that do the arithmetic by the precision that they really run in.

        Returns:
            Convolutions, transposed convolutions and matrix products by precision
            (``{"int8": 18, "bf16": 2}``), as the engine itself reports them.
        """
        ...

    def close(self) -> None:
        """Release the network's memory; the session cannot be used again."""
        ...

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Engine(Protocol):
    """Turns ONNX graphs into sessions. Building and opening are apart, so builds can be cached."""

    name: str

    def availability(self) -> Availability:
        """Say whether this engine can be used on this machine, and how."""
        ...

    def build(self, request: BuildRequest, built: Path, reporter: Reporter) -> None:
        """Compile the graph for this machine and write the result to the file ``built``.

        Raises:
            EngineError: The engine cannot build this graph.
        """
        ...

    def open(self, request: BuildRequest, built: Path) -> Session:
        """Load what :meth:`build` wrote for the same request.

        Raises:
            EngineError: The file does not fit this engine, version or machine.
        """
        ...
