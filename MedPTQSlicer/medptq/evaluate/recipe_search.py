"""The cheapest recipe that leaves a network saying what it says in FP32: tried out, not guessed.

What a network costs depends on the graph that a recipe makes of it, and is measured: milliseconds
of a patch on the engine that runs it here, and where those are alike, the size of its file. How
far it agrees with FP32 depends on the numbers in it, and is measured on patches of scans that it
was not calibrated on. So the cheapest kind of graph is tried first, by all that may help it; a
dearer kind only where none of that was enough, and as long as it is cheaper than floating point.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medptq.artifacts import remove_folder, sha256_of
from medptq.engines.built import remove_builds_of
from medptq.engines.protocol import Engine, Precision, Session
from medptq.engines.selection import held_to, usable_engines
from medptq.errors import EngineError, QuantizationError
from medptq.evaluate.formats import milliseconds
from medptq.evaluate.latency import measure_latency
from medptq.evaluate.trial import ALIKE, Trial, name_of
from medptq.graph.external_data import stored_bytes
from medptq.inference.choosing import choose
from medptq.inference.networks import Network, graph_of, open_network
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.agreement import LabelTally, labels_of, least_alike
from medptq.quantization.calibration import KeptPatches
from medptq.quantization.quantized_model import QuantizedModel
from medptq.quantization.quantizing import quantize_model
from medptq.quantization.recipe import OBSERVERS, Recipe
from medptq.quantization.simulation.simulating import Patches

_WARMUP, _RUNS, _MAX_SECONDS = 2, 50, 12.0


class RecipeSearch:
    """Tries recipes on a network, from the cheapest up. Use it as a context manager.

    Args:
        model: The network.
        patches: What it is calibrated and recovered on.
        checked: Patches of other scans, on which it is held against FP32.
        least_agreement: The mean Dice with FP32's labels that is asked.
        recipe: The first to be tried.
        reporter: Told of progress; may cancel.

    Attributes:
        trials: What was tried so far, and before it what floating point costs.
        engine: Name of the engine that ran it; "" before the first.
    """

    def __init__(
        self,
        model: SegmentationModel,
        patches: KeptPatches,
        checked: Patches,
        least_agreement: float,
        recipe: Recipe,
        reporter: Reporter,
    ) -> None:
        self.trials: list[Trial] = []
        self.engine = ""
        self._model = model
        self._patches = patches
        self._checked = checked
        self._least = least_agreement
        self._recipe = recipe
        self._reporter = reporter
        self._engines = held_to(lambda: checked, usable_engines())
        # How little a recipe that is only tried agrees is what the table tells.
        self._unwarned = Reporter(on_progress=reporter.report, cancelled=reporter.cancelled)
        self._expected: list[torch.Tensor] = []
        self._kept: dict[str, QuantizedModel] = {}
        self._chosen = ""
        self._made = 0
        self._folder = tempfile.TemporaryDirectory(prefix="medptq-")

    def __enter__(self) -> RecipeSearch:
        return self

    def __exit__(self, *_: object) -> None:
        """Delete what was not taken."""
        for name, made in self._kept.items():
            if name != self._chosen:
                remove_builds_of({sha256_of(made.int8)})
        self._folder.cleanup()

    def run(self, most_sensitive: Callable[[], Sequence[str]]) -> QuantizedModel:
        """Return the network by the cheapest recipe that passes; it lies in a temporary folder.

        Args:
            most_sensitive: Returns the layers, the most sensitive first; only called where it is
                needed.

        Raises:
            QuantizationError: ``quantize.agreement`` - none passes; its facts have the trials.
            EngineError: No engine here runs INT8.
            Cancelled: The user asked to stop.
        """
        try:
            for recipe in self._recipes(most_sensitive):
                self._reporter.check()
                self._try(recipe)
        except (EngineError, QuantizationError) as error:
            if not self._passed():
                raise
            self._reporter.warn(f"No other recipe was tried: {error}")
        passed = self._passed()
        if not passed:
            raise self._nothing_passed()
        chosen = passed[0]
        for trial in passed[1:]:
            if trial.cheaper_than(chosen):
                chosen = trial
        self.trials = [replace(trial, chosen=trial is chosen) for trial in self.trials]
        self._chosen = chosen.name
        floating = [trial for trial in self.trials if trial.recipe is None and trial.passed]
        fastest = min(floating, key=lambda trial: trial.milliseconds)
        if fastest.milliseconds < (1 - ALIKE) * chosen.milliseconds:
            self._reporter.warn(
                f"{fastest.name} is faster here, {fastest.milliseconds:.1f} ms a patch instead of "
                f"{chosen.milliseconds:.1f}: what INT8 gains is the size of the file."
            )
        return self._kept[chosen.name]

    def _passed(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.passed and trial.recipe is not None]

    def _recipes(self, most_sensitive: Callable[[], Sequence[str]]) -> Iterator[Recipe]:
        """Yield what is to be tried next, as what was tried so far tells."""
        asked = replace(self._recipe, weight_bits=8, activation_bits=8, recovery=False, spared=())
        yield asked
        eight = self.trials[-1]
        whole = eight.recipe or asked
        fewer = replace(whole, weight_bits=4)
        cost = self._cost_of(fewer)
        # It runs in the same kernels, so that a shorter time would be chance: its file must speak.
        if cost.megabytes < (1 - ALIKE) * eight.megabytes and not eight.cheaper_than(cost):
            for recipe in (fewer, replace(fewer, recovery=True)):
                yield recipe
                if self.trials[-1].passed:
                    return
        else:
            self.trials.append(cost)
        if eight.passed:
            return
        # Which observer agrees best has been measured if that was asked for.
        names = () if asked.observer == "agreement" else OBSERVERS
        others = [replace(whole, observer=name) for name in names if name != whole.observer]
        by_channel = replace(whole, activation_granularity="channel", observer="agreement")
        for recipe in (*others, by_channel, replace(whole, recovery=True)):
            yield recipe
            if self.trials[-1].passed:
                return
        yield from self._sparing(most_sensitive())

    def _sparing(self, layers: Sequence[str]) -> Iterator[Recipe]:
        eights = [trial for trial in self.trials if trial.recipe and trial.recipe.weight_bits == 8]
        best = max(eights, key=lambda trial: trial.dice or 0.0).recipe
        floating = [trial for trial in self.trials if trial.recipe is None]
        count = 1
        while best is not None and count < len(layers):
            yield replace(best, spared=tuple(layers[:count]))
            last = self.trials[-1]
            if last.passed or not all(last.cheaper_than(trial) for trial in floating):
                return
            count *= 2

    def _try(self, recipe: Recipe) -> None:
        made = self._quantize(recipe, self._patches.beside(self._checked))
        if recipe.observer == "agreement":
            recipe = replace(recipe, observer=made.manifest["calibration"]["observer"])
        name = name_of(recipe)
        if not self.engine:
            self.engine = choose(made, self._engines, "int8", self._reporter).engine
            self._measure_floating_point(made)
        trial = self._measure(made, "int8", name, recipe)
        self.trials.append(trial)
        if trial.passed:
            self._kept[name] = made
        else:
            _remove(made)

    def _cost_of(self, recipe: Recipe) -> Trial:
        """Measure what a kind of graph costs, whatever the numbers in it."""
        made = self._quantize(recipe, self._patches.beside(self._checked[:1], most=1))
        trial = self._measure(made, "int8", name_of(recipe), recipe)
        _remove(made)
        return replace(trial, dice=None, voxels_equal=None, least_alike=None, passed=False)

    def _quantize(self, recipe: Recipe, patches: KeptPatches) -> QuantizedModel:
        self._made += 1
        stage = f"Recipe {self._made}: {name_of(recipe)}"
        folder = Path(self._folder.name, f"{self._made}")
        [made] = [
            quantize_model(self._model, patches, folder, recipe=recipe, reporter=self._unwarned)
            for _ in self._reporter.track([recipe], stage)
        ]
        return made

    def _measure_floating_point(self, made: QuantizedModel) -> None:
        """Keep what FP32 says of the patches, and measure what floating point costs here."""
        engine = self._engines[self.engine]
        with open_network(made, engine, "fp32", self._reporter) as session:
            for patch in self._checked:
                self._reporter.check()
                # At most some hundred classes: a byte or two each.
                self._expected.append(_labels(session, patch).to(torch.int16))
        if not any(bool(labels.any()) for labels in self._expected):
            raise QuantizationError(
                "agreement",
                f"{self._model.title} was not quantized",
                why="in FP32 it finds nothing in the scans that are kept apart, so there is "
                "nothing that a recipe could agree with",
                todo="Give more scans, and such as show what it looks for",
            )
        others = [p for p in engine.availability().precisions if p not in ("int8", "fp32")]
        for precision in (*others, "fp32"):
            trial = self._measure(made, precision, precision.upper(), None)
            # FP32 is what the others are held against, even if two runs of it differ in a bit.
            self.trials.append(replace(trial, passed=trial.passed or precision == "fp32"))

    def _measure(
        self, made: QuantizedModel, precision: Precision, name: str, recipe: Recipe | None
    ) -> Trial:
        engine: Engine = self._engines[self.engine]
        network: Network = made
        tally = LabelTally()
        with open_network(network, engine, precision, self._reporter) as session:
            for patch, expected in zip(self._checked, self._expected, strict=True):
                self._reporter.check()
                tally.add(expected.long(), _labels(session, patch))
            batch = torch.from_numpy(self._checked[0]).to(session.device)
            latency = measure_latency(
                lambda: session.run(batch).flatten()[:1].cpu(),  # waits for the device
                warmup=_WARMUP,
                runs=_RUNS,
                max_seconds=_MAX_SECONDS,
            )
        return Trial(
            name=name,
            recipe=recipe,
            dice=tally.dice,
            voxels_equal=tally.voxels_equal,
            least_alike=least_alike(tally.structures, self._model.labels),
            milliseconds=latency.min,
            megabytes=stored_bytes(graph_of(network, precision)) / 1e6,
            passed=tally.dice >= self._least,
        )

    def _nothing_passed(self) -> QuantizationError:
        tried = [
            trial for trial in self.trials if trial.recipe is not None and trial.dice is not None
        ]
        nearest = max(tried, key=lambda trial: trial.dice or 0.0)
        floating = min(
            (trial for trial in self.trials if trial.recipe is None and trial.passed),
            key=lambda trial: trial.milliseconds,
        )
        least = math.floor((nearest.dice or 0.0) * 1e4) / 1e4
        return QuantizationError(
            "agreement",
            f"{self._model.title} was not quantized",
            why=f"of {len(tried)} recipes none agrees with FP32 to a mean Dice of {self._least:g}; "
            f"the nearest, {nearest.name}, reaches {least:.4f} "
            f"({milliseconds(nearest.milliseconds)} a patch, {floating.name} "
            f"{milliseconds(floating.milliseconds)})",
            todo=f"Stay with {floating.name}, ask for less with --least-agreement {least:.4f}, or "
            "give more scans",
            facts={"trials": [trial.to_json() for trial in self.trials]},
        )


def _labels(session: Session, patch: Any) -> torch.Tensor:
    return labels_of(session.run(torch.from_numpy(patch).to(session.device))).cpu()


def _remove(made: QuantizedModel) -> None:
    """Delete a network that is not taken, and what was built of it."""
    remove_builds_of({sha256_of(made.int8)})
    remove_folder(made.folder)
