"""TensorRT: networks on NVIDIA GPUs, in FP32, FP16 and INT8.

An engine is built for one version, one GPU and one driver. One code serves TensorRT 8.6, 10 and 11;
what differs between them is asked of the library, not of its version.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from medptq.engines.checked_graph import checked_graph
from medptq.engines.memory import memory_as_error
from medptq.engines.protocol import (
    MOST_SAMPLES,
    Availability,
    BuildRequest,
    Precision,
    Samples,
    Session,
)
from medptq.engines.tensorrt_building import builder_given_back
from medptq.engines.tensorrt_checked_build import build_and_measure, build_checked
from medptq.engines.tensorrt_graph import with_input_shape
from medptq.engines.tensorrt_int8 import build_int8
from medptq.engines.tensorrt_library import (
    gpu,
    import_tensorrt,
    is_strongly_typed,
    unusable_because,
)
from medptq.engines.tensorrt_normalization import forms_for
from medptq.engines.tensorrt_plan import Plan
from medptq.engines.tensorrt_search import BuildChecked, build_fastest
from medptq.engines.tensorrt_session import TensorRTSession
from medptq.errors import EngineError, last_line
from medptq.progress import Reporter

_INT8_SINCE = (7, 5)
"""The compute capability from which GPUs multiply INT8 and FP16 matrices."""


class TensorRTEngine:
    """Builds networks for the NVIDIA GPU at hand, and runs them there.

    Args:
        seconds: How long ways to run a network are tried; see
            :func:`medptq.engines.tensorrt_search.build_fastest`.
        measures_int8: Builds INT8 even where FP16 is faster, for what it costs is to be measured;
            see :func:`medptq.engines.tensorrt_int8.build_int8`. Such builds must not get into the
            cache.
        samples: What a build is held against its graph on, beside noise and a phantom; only asked
            for if something is built, and not kept.
    """

    name = "tensorrt"

    def __init__(
        self,
        seconds: float = 300.0,
        *,
        measures_int8: bool = False,
        samples: Samples = tuple,
    ) -> None:
        self._seconds = seconds
        self._measures_int8 = measures_int8
        self._samples = samples

    def availability(self) -> Availability:
        """Say whether TensorRT is installed and works with the GPU."""
        reason = unusable_because()
        if reason:
            return Availability(False, "", "", (), reason)
        return Availability(
            usable=True,
            version=import_tensorrt().__version__,
            hardware=gpu(),
            precisions=_native_precisions(),
            on_gpu=True,
        )

    def build(self, request: BuildRequest, built: Path, reporter: Reporter) -> None:
        """Build the graph, check it against PyTorch, and write the engine to ``built``.

        Several forms of its normalizations, and for INT8 several choices of what runs in INT8,
        are built and timed, and the fastest is kept; see
        :func:`medptq.engines.tensorrt_search.build_fastest`.

        Raises:
            EngineError: TensorRT cannot build this graph, builds it wrongly, the GPU lacks the
                precision, INT8 is asked for a graph without Q/DQ nodes, or memory ran out.
            ModelError: The file is no usable graph.
            Cancelled: The user asked to stop.
        """
        if request.precision not in _native_precisions():
            raise EngineError(
                "precision",
                f"TensorRT cannot run {request.precision} here",
                why="this GPU has no native instructions for it",
                todo=f"Choose one of {', '.join(_native_precisions())}",
            )
        loaded = checked_graph(request)
        samples = [
            torch.from_numpy(patch) for patch in itertools.islice(self._samples(), MOST_SAMPLES)
        ]
        with (
            builder_given_back(),
            _as_engine_error(
                "build", "TensorRT cannot build this network", "Building the network for TensorRT"
            ),
        ):
            graph = with_input_shape(loaded, request.input_shape)
            typed = is_strongly_typed(import_tensorrt())
            forms = forms_for(graph, request.precision, typed=typed)
            if self._measures_int8 and request.precision == "int8":

                def build_at(level: int) -> BuildChecked:
                    return partial(build_and_measure, level=level, samples=samples)

                plan = build_int8(graph, forms, reporter, self._seconds, build_at)
            else:
                build = partial(build_checked, samples=samples)
                plan = build_fastest(
                    graph, request.precision, forms, reporter, self._seconds, build
                )
        built.write_bytes(plan.to_bytes())
        if request.precision == "int8" and plan.tried[0].placement == "none":
            reporter.warn(
                "On this GPU no layer of this network is faster in INT8: it runs in FP16."
            )

    def open(self, request: BuildRequest, built: Path) -> Session:
        """Load an engine that :meth:`build` wrote. Its checksum must have been verified.

        Raises:
            EngineError: The file is damaged or for another version or GPU, or memory ran out.
        """
        with _as_engine_error(
            "open", "TensorRT cannot load the built network", "Loading the network into TensorRT"
        ):
            session = TensorRTSession(Plan.from_bytes(built.read_bytes()))
        if session.input_shape != request.input_shape:
            session.close()
            raise EngineError(
                "open",
                "TensorRT cannot use the built network",
                why=f"it takes {session.input_shape}, not {request.input_shape}",
                todo="Build it again",
            )
        return session


@contextlib.contextmanager
def _as_engine_error(code: str, what: str, doing: str) -> Iterator[None]:
    try:
        with memory_as_error(doing):
            yield
    except (RuntimeError, ValueError) as error:
        todo = "Build it again" if code == "open" else "Run it with the PyTorch engine instead"
        raise EngineError(code, what, why=last_line(error), todo=todo) from error


def _native_precisions() -> tuple[Precision, ...]:
    if torch.cuda.get_device_capability() < _INT8_SINCE:
        return ("fp32",)
    return ("int8", "fp16", "fp32")
