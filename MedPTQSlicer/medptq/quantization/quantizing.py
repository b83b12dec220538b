"""From a network and patches of unlabeled scans to a folder with its INT8 twin."""

from __future__ import annotations

import datetime
import functools
import hashlib
import itertools
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch

import medptq
from medptq.artifacts import atomic_folder, sha256_of, write_json
from medptq.graph.executor import GraphExecutor
from medptq.graph.external_data import save_graph
from medptq.graph.loading import load_graph
from medptq.graph.simplify import simplify
from medptq.models.card import card_of
from medptq.models.segmentation_model import Label, SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.agreement import Tally, least_alike
from medptq.quantization.calibration import Calibration, CalibrationPatches, calibrate
from medptq.quantization.observer_choice import choose_observer
from medptq.quantization.placement import place_for_openvino
from medptq.quantization.preparing import not_empty, prepare_for_openvino
from medptq.quantization.qdq import insert_qdq
from medptq.quantization.quantized_model import (
    CARD,
    FORMAT,
    FP32,
    INT8,
    MANIFEST,
    QuantizedModel,
    load_quantized_model,
)
from medptq.quantization.recipe import ObserverName, Recipe
from medptq.quantization.recovery.recovering import simulate_recovered
from medptq.quantization.scheme import scheme_of
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import Patches, observe, simulate
from medptq.quantization.writing import write_quantized
from medptq.versions import installed_version

_CHECKED_PATCHES = 3
_LIBRARIES = ("numpy", "onnx", "onnx-ir", "torch", "SimpleITK")


def quantize_model(
    model: SegmentationModel,
    patches: CalibrationPatches,
    output: Path,
    *,
    recipe: Recipe = Recipe(),  # noqa: B008 - it is frozen
    overwrite: bool = False,
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> QuantizedModel:
    """Calibrate a network and write its folder: fp32.onnx, int8.onnx, model.json, manifest.json.

    The manifest names the tool's versions, the recipe, the observer that was chosen and why, the
    scale of each activation, the digests of scans and patches, the rewritten layers, how far INT8
    agreed with FP32 on patches that calibration did not see (if the scans have more than it saw)
    and in which structure the least, and the SHA-256 of each file. It names no scan.

    Args:
        model: The network.
        patches: What it is calibrated on.
        output: The folder to be; it appears when everything in it is written.
        recipe: How to quantize.
        overwrite: Replace a folder of that name.
        reporter: Told of progress; may cancel.

    Raises:
        ModelError: The graph cannot be read.
        QuantizationError: There is nothing in the graph to quantize, calibration failed, or the
            recipe spares a layer that there is not.
        OutputError: The folder cannot be written.
        Cancelled: The user asked to stop.
    """
    with atomic_folder(output, overwrite=overwrite) as folder:
        fp32 = simplify(load_graph(model.onnx), input_shape=(1, model.channels, *model.patch_size))
        _write_graph(fp32, folder / FP32)
        make = _plainly if recipe.is_plain else _in_few_bits
        made = make(fp32, patches, recipe, reporter)
        onnx.checker.check_model(made.graph)
        _write_graph(made.graph, folder / INT8)
        digests = patches.scan_digests
        agreement = _agreement(fp32, made.graph, patches, model.labels, reporter)
        write_json(folder / CARD, card_of(model))
        manifest = {
            "format": FORMAT,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "versions": {
                "python": platform.python_version(),
                "medptq": medptq.__version__,
                **{name: installed_version(name) for name in _LIBRARIES},
            },
            "recipe": recipe.to_json(),
            "placement": {"policy": "openvino", **made.placement},
            "calibration": {
                "scans": len(digests),
                "scans_sha256": digests,
                **made.calibration,
            },
            "agreement_with_fp32": agreement,
            "files": {file.name: sha256_of(file) for file in sorted(folder.iterdir())},
        }
        write_json(folder / MANIFEST, manifest)
    return load_quantized_model(output)


@dataclass(frozen=True)
class _Made:
    """A quantized graph, and what the manifest says of it."""

    graph: onnx.ModelProto
    placement: dict[str, Any]
    calibration: dict[str, Any]


def _plainly(
    fp32: onnx.ModelProto, patches: CalibrationPatches, recipe: Recipe, reporter: Reporter
) -> _Made:
    """Quantize by a plain recipe: a few patches and one weight in memory at a time."""
    observed = not_empty(place_for_openvino(ir.from_proto(fp32).graph))
    calibration = calibrate(fp32, observed.activations, patches, reporter)

    @functools.lru_cache(maxsize=1)  # mostly the one that is asked for first is taken
    def by(observer: ObserverName) -> _Made:
        return _with_ranges(fp32, calibration, observer, recipe.percentile)

    if recipe.observer != "agreement":
        return by(recipe.observer)
    observer, dice = choose_observer(lambda one: by(one).graph, calibration.shown, reporter)
    made = by(observer)
    made.calibration["dice_by_observer"] = dice
    return made


def _with_ranges(
    fp32: onnx.ModelProto, calibration: Calibration, observer: ObserverName, percentile: float
) -> _Made:
    int8 = prepare_for_openvino(fp32)
    placement = int8.placement
    thresholds = calibration.thresholds(observer, percentile)
    chosen = {name: thresholds[int8.same_values.get(name, name)] for name in placement.activations}
    scales = insert_qdq(int8.model, placement, chosen)
    return _Made(
        ir.to_proto(int8.model),
        {
            "activations": len(placement.inputs),
            "weights": len(placement.weights),
            "rewritten": list(int8.rewritten),
        },
        {
            "observer": observer,
            "patches": calibration.patches,
            "patches_sha256": calibration.patches_sha256,
            "scales": scales,
            "thresholds": thresholds,
            "maxima": calibration.maxima,
        },
    )


def _in_few_bits(
    fp32: onnx.ModelProto, patches: CalibrationPatches, recipe: Recipe, reporter: Reporter
) -> _Made:
    """Quantize by way of a simulated network, which is looked at on all patches at a time."""
    kept = list(reporter.track(patches, "Preparing patches", total=patches.expected))
    network, ranges = _simulated(fp32, kept, recipe, reporter)
    graph, scales = write_quantized(network)
    layers = network.layers.values()
    bits = [
        (layer.weight.full.numel(), layer.scheme.weight_bits)
        for layer in layers
        if layer.weight is not None
    ]
    return _Made(
        graph,
        {
            "activations": sum(len(layer.edges) for layer in layers),
            "weights": len(bits),
            "weight_bytes": sum(count for count, _ in bits),
            "weight_bytes_if_packed": math.ceil(sum(count * each for count, each in bits) / 8),
            "rewritten": list(network.graph.rewritten),
        },
        {
            **ranges,
            "patches": len(kept),
            "patches_sha256": hashlib.sha256(b"".join(patch.data for patch in kept)).hexdigest(),
            "scales": scales,
        },
    )


def _simulated(
    fp32: onnx.ModelProto, patches: Patches, recipe: Recipe, reporter: Reporter
) -> tuple[SimulatedNetwork, dict[str, Any]]:
    """Return the network, and what the manifest says of how its ranges were chosen."""
    scheme, spared = scheme_of(recipe), dict.fromkeys(recipe.spared)
    if recipe.observer != "agreement" or not scheme.signed:
        make = simulate_recovered if recipe.recovery else simulate
        network = make(fp32, scheme, patches, overrides=spared, reporter=reporter)
        return network, {"observer": scheme.observer}
    # What few bits of the weights cost before recovery would hide what ranges cost.
    judged = replace(scheme, weight_bits=8, fitted_weights=False) if recipe.recovery else scheme
    observed = observe(fp32, judged, patches, overrides=spared, reporter=reporter)
    by = functools.lru_cache(maxsize=1)(observed.simulated)
    observer, dice = choose_observer(
        lambda one: write_quantized(by(one))[0], observed.shown, reporter
    )
    ranges = {"observer": observer, "dice_by_observer": dice}
    if not recipe.recovery:
        return by(observer), ranges
    scheme = replace(scheme, observer=observer)
    network = simulate_recovered(fp32, scheme, patches, overrides=spared, reporter=reporter)
    return network, ranges


def _agreement(
    fp32: onnx.ModelProto,
    int8: onnx.ModelProto,
    patches: CalibrationPatches,
    labels: Sequence[Label],
    reporter: Reporter,
) -> dict[str, Any]:
    """Run both graphs in PyTorch on patches that were held out: does INT8 still say the same?

    Where the scans yield none beside those of the calibration, the first of those have to do.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reference, quantized = GraphExecutor(fp32, device), GraphExecutor(int8, device)
    chosen = list(patches.held_out(_CHECKED_PATCHES))
    held_out = bool(chosen)
    if not held_out:
        chosen = list(itertools.islice(patches, _CHECKED_PATCHES))
    tally = Tally()
    with torch.inference_mode():
        for array in reporter.track(chosen, "Checking INT8 against FP32"):
            patch = torch.from_numpy(array).to(device)
            tally.add(reference.run(patch), quantized.run(patch))
    found = tally.result()
    return {
        "patches": len(chosen),
        "held_out": held_out,
        "voxels_equal": found.voxels_equal,
        "dice": found.dice,
        "relative_output_error": found.output_error,
        "least_alike": least_alike(found.structures, labels),
    }


def _write_graph(model: onnx.ModelProto, path: Path) -> None:
    model.producer_name = "medptq"
    model.producer_version = medptq.__version__
    save_graph(model, path)
