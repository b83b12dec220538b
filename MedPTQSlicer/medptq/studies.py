"""The verbs that try out what quantization does to a network before it is relied on."""

from __future__ import annotations

import datetime
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from medptq.artifacts import atomic_folder, refuse_losing, require_free, write_json
from medptq.engines.memory import memory_as_error
from medptq.errors import QuantizationError, ScanError
from medptq.evaluate.recipe_search import RecipeSearch
from medptq.evaluate.sensitivity_report import SENSITIVITY_FILES, write_sensitivity
from medptq.evaluate.sensitivity_study import SensitivityStudy
from medptq.graph.loading import load_graph
from medptq.inference.locating import locator
from medptq.inference.networks import Network, plain_model
from medptq.inference.sessions import SessionPool
from medptq.progress import Reporter
from medptq.quantization.calibration import KeptPatches
from medptq.quantization.distributions import distributions_of
from medptq.quantization.quantized_model import (
    MANIFEST,
    QuantizedModel,
    load_quantized_model,
    require_place,
)
from medptq.quantization.recipe import LEAST_AGREEMENT, Recipe
from medptq.quantization.sensitivity import affordable, layers_scheme, sensitivity_of
from medptq.quantization.simulation.simulating import simulate
from medptq.quantization.twins import place_of_twin
from medptq.scans.finding import find_scans
from medptq.scans.sources import ScanSource

_SILENT = Reporter()
_STANDARD = Recipe()
_PATCHES = 8


def sensitivity(
    model: Network | str | Path,
    scans: str | Path,
    output: str | Path,
    *,
    weight_bits: int = 8,
    activation_bits: int = 8,
    patches: int | None = None,
    overwrite: bool = False,
    reporter: Reporter = _SILENT,
) -> SensitivityStudy:
    """Measure what the quantization of each layer costs a network, and write it down.

    Each layer is quantized alone, and all layers but it, in simulation; its weights and inputs
    are looked at before and after. The folder gets ``sensitivity.html``, ``.json`` and ``.csv``.

    Args:
        model: The network, or what :func:`medptq.load_model` takes.
        scans: A folder of unlabeled scans, or one.
        output: The folder to write.
        weight_bits: From 2 to 8.
        activation_bits: From 2 to 8.
        patches: How many of the patches that scales are learned from the agreement with FP32 is
            measured on. None for as many as take some minutes on this machine, and at least one.
        overwrite: Replace the folder.
        reporter: Told of progress and of scans that were left out; may cancel.

    Raises:
        ScanError: No scan can be used.
        ModelError: The network cannot be used.
        QuantizationError: There is nothing in it to quantize.
        EngineError: ``engine.memory`` - memory does not suffice.
        OutputError: The folder is there already or cannot be written.
        Cancelled: The user asked to stop.

    Example:
        >>> study = sensitivity("deepbet", "scans/", "deepbet-layers")  # doctest: +SKIP
        >>> study.sensitivity.layers[0].layer                           # doctest: +SKIP
        '/decoder/out/Conv'
    """
    recipe = Recipe(patches=_PATCHES, weight_bits=weight_bits, activation_bits=activation_bits)
    if patches is not None and patches < 1:
        raise QuantizationError(
            "recipe",
            "The layers were not measured",
            why=f"agreement cannot be measured on {patches} patches",
            todo="Give at least 1, or none",
        )
    require_free(Path(output), overwrite=overwrite)
    refuse_losing(Path(output), SENSITIVITY_FILES)
    plain = plain_model(model, reporter)
    sources = find_scans(Path(scans), reporter)
    started = time.monotonic()
    with (
        memory_as_error(f"Measuring the layers of {plain.title}"),
        SessionPool() as pool,
        locator(pool, reporter) as locate,
    ):
        kept = KeptPatches(plain, sources, recipe, locate, reporter)
        scheme = layers_scheme(recipe)
        network = simulate(load_graph(plain.onnx), scheme, kept.patches, reporter=reporter)
        measured = kept.patches[: patches or affordable(network, kept.patches)]
        study = SensitivityStudy(
            model_id=plain.id,
            model_title=plain.title,
            scheme=scheme,
            scans=len(kept.scan_digests),
            calibration_patches=len(kept.patches),
            patches=len(measured),
            sensitivity=sensitivity_of(network, measured, reporter),
            distributions=distributions_of(network, measured, reporter),
            date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            seconds=time.monotonic() - started,
        )
    write_sensitivity(study, Path(output), overwrite=overwrite)
    return study


def auto_quantize(
    model: Network | str | Path,
    scans: str | Path,
    output: str | Path | None = None,
    *,
    least_agreement: float = LEAST_AGREEMENT,
    recipe: Recipe = _STANDARD,
    overwrite: bool = False,
    reporter: Reporter = _SILENT,
) -> QuantizedModel:
    """Quantize a network by the cheapest recipe that leaves it saying what it says in FP32.

    A quarter of the scans is kept apart; on patches of these each recipe is held against FP32.
    See :mod:`medptq.evaluate.recipe_search`. The manifest's ``search`` has all that was tried.

    Args:
        model: As for :func:`medptq.quantize`, like what follows.
        scans: A folder of at least two scans.
        output: The folder to write, or None for the library.
        least_agreement: The mean Dice with FP32's labels, over the structures, that is asked.
        recipe: Says how many patches it is calibrated on, and the first observer to be tried.
        overwrite: Replace the folder, or the twin in the library.
        reporter: Told of progress and of scans that were left out; may cancel.

    Raises:
        ScanError: No scan can be used, or there is but one.
        QuantizationError: ``quantize.agreement`` - no recipe agrees so far; its ``facts`` have
            all that was tried, as ``search`` has it.
        ModelError: The network cannot be used.
        EngineError: No engine here runs INT8, or memory does not suffice.
        OutputError: The folder is there already or cannot be written.
        Cancelled: The user asked to stop.

    Example:
        >>> int8 = auto_quantize("deepbet", "scans/", "deepbet-int8")       # doctest: +SKIP
        >>> [trial["name"] for trial in int8.manifest["search"]["trials"]]  # doctest: +SKIP
        ['BF16', 'FP32', 'W8A8, mse', 'W4A8, mse']
    """
    if not 0 < least_agreement <= 1:
        raise QuantizationError(
            "recipe",
            "The recipe cannot be used",
            why=f"a mean Dice of {least_agreement:g} is not above 0 and at most 1",
            todo="Correct it and try again",
        )
    plain = plain_model(model, reporter)
    folder = Path(output) if output is not None else place_of_twin(plain)
    require_place(folder, overwrite=overwrite)
    calibrating, checking = _parted(find_scans(Path(scans), reporter), recipe.seed)
    with (
        memory_as_error(f"Quantizing {plain.title}"),
        SessionPool() as pool,
        locator(pool, reporter) as locate,
    ):
        patches = KeptPatches(plain, calibrating, recipe, locate, reporter)
        fewer = replace(recipe, patches=max(recipe.patches // 2, 1))
        checked = KeptPatches(plain, checking, fewer, locate, reporter)

        def most_sensitive() -> list[str]:
            graph, scheme = load_graph(plain.onnx), layers_scheme(recipe)
            network = simulate(graph, scheme, patches.patches, reporter=reporter)
            measured = patches.patches[: affordable(network, patches.patches)]
            return [row.layer for row in sensitivity_of(network, measured, reporter).layers]

        with RecipeSearch(
            plain, patches, checked.patches, least_agreement, recipe, reporter
        ) as search:
            made = search.run(most_sensitive)
            found = {
                "least_agreement": least_agreement,
                "engine": search.engine,
                "scans": len(checked.scan_digests),
                "patches": len(checked.patches),
                "trials": [trial.to_json() for trial in search.trials],
            }
            with atomic_folder(folder, overwrite=overwrite) as part:
                shutil.copytree(made.folder, part, dirs_exist_ok=True)
                write_json(part / MANIFEST, {**made.manifest, "search": found})
    return load_quantized_model(folder)


def _parted(sources: list[ScanSource], seed: int) -> tuple[list[ScanSource], list[ScanSource]]:
    """Return scans to calibrate on, and others to measure the agreement on: a quarter of all."""
    if len(sources) < 2:
        raise ScanError(
            "too-few",
            "The recipe cannot be chosen",
            why="there is one scan, and agreement is measured on others than are calibrated on",
            todo="Give at least two scans, or quantize without --auto",
        )
    order = [int(n) for n in np.random.default_rng(seed).permutation(len(sources))]
    apart = set(order[: max(1, round(len(sources) / 4))])
    return (
        [source for n, source in enumerate(sources) if n not in apart],
        [source for n, source in enumerate(sources) if n in apart],
    )
