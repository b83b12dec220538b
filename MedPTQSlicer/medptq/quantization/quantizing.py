"""From a network and patches of unlabeled scans to a folder with its INT8 twin."""

from __future__ import annotations

import datetime
import importlib.metadata
import itertools
import platform
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
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.calibration import Calibration, CalibrationPatches, calibrate
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
from medptq.quantization.recipe import Recipe

_CHECKED_PATCHES = 2
_LIBRARIES = ("medptq", "numpy", "onnx", "onnx-ir", "torch", "SimpleITK")


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

    The manifest names the tool's versions, the recipe, the scale of each activation, the digests
    of scans and patches, the rewritten layers, how far INT8 agreed with FP32 on the first patches,
    and the SHA-256 of each file. It names no scan.

    Args:
        model: The network.
        patches: What it is calibrated on.
        output: The folder to be; it appears when everything in it is written.
        recipe: How to quantize.
        overwrite: Replace a folder of that name.
        reporter: Told of progress; may cancel.

    Raises:
        ModelError: The graph cannot be read.
        QuantizationError: There is nothing in the graph to quantize, or calibration failed.
        OutputError: The folder cannot be written.
        Cancelled: The user asked to stop.
    """
    with atomic_folder(output, overwrite=overwrite) as folder:
        fp32 = simplify(load_graph(model.onnx), input_shape=(1, model.channels, *model.patch_size))
        _write_graph(fp32, folder / FP32)

        observed = not_empty(place_for_openvino(ir.from_proto(fp32).graph))
        calibration = calibrate(fp32, observed.activations, patches, recipe, reporter)

        int8 = prepare_for_openvino(fp32)
        placement = int8.placement
        thresholds = {
            name: calibration.thresholds[int8.same_values.get(name, name)]
            for name in placement.activations
        }
        scales = insert_qdq(int8.model, placement, thresholds)
        quantized = ir.to_proto(int8.model)
        onnx.checker.check_model(quantized)
        _write_graph(quantized, folder / INT8)

        agreement = _agreement(fp32, quantized, patches, reporter)
        write_json(folder / CARD, card_of(model))
        manifest = {
            "format": FORMAT,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "versions": {
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in _LIBRARIES},
            },
            "recipe": recipe.to_json(),
            "placement": {
                "policy": "openvino",
                "activations": len(placement.inputs),
                "weights": len(placement.weights),
                "rewritten": list(int8.rewritten),
            },
            "calibration": _summary(calibration, patches.scan_digests, scales),
            "agreement_with_fp32": agreement,
            "files": {file.name: sha256_of(file) for file in sorted(folder.iterdir())},
        }
        write_json(folder / MANIFEST, manifest)
    return load_quantized_model(output)


def _agreement(
    fp32: onnx.ModelProto,
    int8: onnx.ModelProto,
    patches: CalibrationPatches,
    reporter: Reporter,
) -> dict[str, Any]:
    """Run both graphs in PyTorch on the first patches: does INT8 still say the same?"""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reference, quantized = GraphExecutor(fp32, device), GraphExecutor(int8, device)
    first = itertools.islice(patches, _CHECKED_PATCHES)
    count = min(patches.expected, _CHECKED_PATCHES)
    equal = voxels = checked = 0
    error = energy = 0.0
    with torch.inference_mode():
        for array in reporter.track(first, "Checking INT8 against FP32", total=count):
            patch = torch.from_numpy(array).to(device)
            checked += 1
            expected, found = reference.run(patch), quantized.run(patch)
            equal += int((expected.argmax(1) == found.argmax(1)).sum())
            voxels += expected.shape[0] * expected[0, 0].numel()
            error += float((expected - found).square().sum(dtype=torch.float64))
            energy += float(expected.square().sum(dtype=torch.float64))
    return {
        "patches": checked,
        "voxels_equal": equal / voxels,
        "relative_output_error": (error / energy) ** 0.5 if energy else 0.0,
    }


def _summary(
    calibration: Calibration, scan_digests: list[str], scales: dict[str, float]
) -> dict[str, Any]:
    return {
        "scans": len(scan_digests),
        "scans_sha256": scan_digests,
        "patches": calibration.patches,
        "patches_sha256": calibration.patches_sha256,
        "scales": scales,
        "thresholds": calibration.thresholds,
        "maxima": calibration.maxima,
    }


def _write_graph(model: onnx.ModelProto, path: Path) -> None:
    model.producer_name = "medptq"
    model.producer_version = medptq.__version__
    save_graph(model, path)
