"""From a recipe to a session that runs a network so."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from medptq.benchmarking.recipes import FP32, Built, Simulated, Way
from medptq.benchmarking.subject import Plan
from medptq.engines.protocol import Session
from medptq.engines.selection import engine_to_measure_int8, get_engine
from medptq.engines.simulated import SimulatedSession
from medptq.graph.loading import load_graph
from medptq.inference.networks import open_network, request_for
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.calibration import CalibrationPatches
from medptq.quantization.quantizing import quantize_model
from medptq.quantization.recipe import Recipe
from medptq.quantization.recovery.recovering import simulate_recovered
from medptq.quantization.simulation.simulating import simulate
from medptq.scans.preprocessing import Locator


class Opener:
    """Runs one network by any recipe, calibrated on the same patches for all.

    Args:
        model: The network.
        plan: Says which scans it is calibrated on.
        locate: Runs another model on a scan, for cards that crop to its result.
        reporter: Told of progress; may cancel.
    """

    def __init__(
        self, model: SegmentationModel, plan: Plan, locate: Locator, reporter: Reporter
    ) -> None:
        self._model = model
        self._plan = plan
        self._locate = locate
        self._reporter = reporter

    @contextlib.contextmanager
    def session(self, way: Way) -> Iterator[Session]:
        """Yield a session that runs the network in a way.

        Raises:
            ScanError: None of the scans to be calibrated on can be used.
            QuantizationError: It cannot be quantized so.
            EngineError: The engine cannot be used here, or cannot run it.
            Cancelled: The user asked to stop.
        """
        with contextlib.ExitStack() as stack:
            if isinstance(way, FP32):
                session = open_network(self._model, get_engine("pytorch"), "fp32", self._reporter)
            elif isinstance(way, Simulated):
                session = self._simulated(way)
            else:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="medptq-"))
                session = self._built(way, Path(folder))
            yield stack.enter_context(session)

    def _simulated(self, way: Simulated) -> Session:
        graph, patches, scheme = self._graph, self._patches, way.scheme
        if way.recovery is None:
            network = simulate(graph, scheme, patches, reporter=self._reporter)
        else:
            recovery = replace(way.recovery, seed=self._plan.seed)
            network = simulate_recovered(graph, scheme, patches, recovery, reporter=self._reporter)
        return SimulatedSession(network)

    def _built(self, way: Built, folder: Path) -> Session:
        # Before any work is done for it.
        engine = engine_to_measure_int8(way.engine, lambda: self._patches)
        recipe = replace(way.recipe, patches=self._plan.patches, seed=self._plan.seed)
        quantized = quantize_model(
            *(self._model, self._calibration(recipe), folder / "network"),
            recipe=recipe,
            reporter=self._reporter,
        )
        request, built = request_for(quantized, "int8"), folder / "built"
        engine.build(request, built, self._reporter)  # not by the cache: no one runs it again
        return engine.open(request, built)

    def _calibration(self, recipe: Recipe) -> CalibrationPatches:
        return CalibrationPatches(
            self._model, self._plan.calibration, recipe, self._locate, self._reporter
        )

    @cached_property
    def _graph(self) -> onnx.ModelProto:
        return load_graph(self._model.onnx)

    @cached_property
    def _patches(self) -> Sequence[NDArray[np.float32]]:
        return list(self._calibration(Recipe(patches=self._plan.patches, seed=self._plan.seed)))
