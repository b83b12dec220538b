"""Results as plain values for JSON: what ``--json`` prints, and what the worker answers."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import medptq
from medptq.errors import MedPTQError
from medptq.versions import installed_version

if TYPE_CHECKING:  # some of them import PyTorch, which a list of models must not wait for
    from medptq.benchmarking.benchmark import Benchmark
    from medptq.engines.doctor import Diagnosis
    from medptq.evaluate.results import Comparison
    from medptq.evaluate.sensitivity_study import SensitivityStudy
    from medptq.housekeeping import ModelState
    from medptq.inference.networks import Network
    from medptq.inference.scan_by_scan import SegmentedScan
    from medptq.models.segmentation_model import SegmentationModel
    from medptq.quantization.quantized_model import QuantizedModel
    from medptq.scans.inspecting import ScanFolder

Answer: TypeAlias = dict[str, Any]

_LIBRARIES = ("torch", "openvino", "onnx", "onnx-ir", "numpy", "scipy", "SimpleITK", "monai")


def models_answer(states: Iterable[ModelState]) -> Answer:
    """Return ``models``, a list of what each network is and what of it is on this machine.

    With the ``library``'s folder, and the size of the cache, ``cache_mb``.
    """
    from medptq.models.cache import cache_size
    from medptq.models.library import library_root

    return {
        "models": [_model_answer(state) for state in states],
        "cache_mb": cache_size() / 1e6,
        "library": str(library_root()),
    }


def architectures_answer() -> Answer:
    """Return ``architectures``, a list of the networks that a checkpoint's card can name."""
    from medptq.models.architectures.registry import ARCHITECTURES

    return {
        "architectures": [
            {
                "name": entry.name,
                "title": entry.title,
                "million_parameters": entry.published.millions if entry.published else None,
                "licence": entry.licence,
                "source": entry.source,
                "citation": entry.citation,
            }
            for entry in ARCHITECTURES.values()
        ]
    }


def _model_answer(state: ModelState) -> Answer:
    card: Mapping[str, Any] = state.card or {}
    twin = state.int8
    return {
        "id": state.id,
        **{name: card.get(name, "") for name in ("title", "task", "modality", "region")},
        "structures": [label["name"] for label in card.get("labels", ())],
        "size_mb": state.size_bytes / 1e6 or None,
        **{name: card.get(name, "") for name in ("licence", "source", "citation")},
        "card": state.card,
        "origin": state.origin,
        "downloaded": state.downloaded,
        "int8": None
        if twin is None
        else {
            "folder": str(twin.folder),
            "created": twin.created,
            "scans": twin.scans,
            "agreement_with_fp32": dict(twin.agreement_with_fp32),
            "ready": twin.ready,
            "mb": twin.size_bytes / 1e6,
        },
        "fp32_ready": state.fp32_ready,
        "problem": state.problem,
        "untested": state.untested,
    }


def import_answer(model: SegmentationModel) -> Answer:
    """Return the ``id`` that an imported network goes by, and its ``title``."""
    return {"id": model.id, "title": model.title}


def freed_answer(freed_bytes: int) -> Answer:
    """Return how much was deleted, ``freed_mb``."""
    return {"freed_mb": freed_bytes / 1e6}


def inspect_answer(found: ScanFolder) -> Answer:
    """Return how many ``scans`` can be used, and of what kind they are.

    ``formats`` counts them by format; ``spacing_mm`` and ``shape`` are the least and the largest
    along (K, J, I), null where there are none; ``unusable`` is a list of {what, why}.
    """
    return {
        "scans": found.scans,
        "formats": dict(found.formats),
        "unusable": [{"what": what, "why": why} for what, why in found.unusable],
        "spacing_mm": _range(found.spacings),
        "shape": _range(found.shapes),
        "size_mb": found.size_bytes / 1e6,
    }


def _range(values: Sequence[Sequence[float]]) -> list[list[float]] | None:
    if not values:
        return None
    along = list(zip(*values, strict=True))
    return [[min(numbers) for numbers in along], [max(numbers) for numbers in along]]


def doctor_answer(diagnosis: Diagnosis) -> Answer:
    """Return ``machine``, ``engines`` with their proofs, and the ``default`` engine.

    With the ``python`` that runs this {version, executable}, the ``versions`` of the libraries that
    matter ("" for one that is not installed), the ``library``'s folder, and ``cache_mb``.
    """
    from medptq.models.cache import cache_size
    from medptq.models.library import library_root

    machine = {**asdict(diagnosis.machine), "cache": str(diagnosis.machine.cache)}
    return {
        **asdict(diagnosis),
        "machine": machine,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "versions": {
            "medptq": medptq.__version__,
            **{name: installed_version(name) for name in _LIBRARIES},
        },
        "library": str(library_root()),
        "cache_mb": cache_size() / 1e6,
    }


def network_answer(network: Network) -> Answer:
    """Return the ``card`` of a loaded network, its sizes, and how it was quantized, if it was."""
    from medptq.inference.networks import model_of
    from medptq.models.card import card_of
    from medptq.quantization.quantized_model import QuantizedModel

    model = model_of(network)
    answer: Answer = {
        "card": card_of(model),
        "fp32_mb": _megabytes(model.onnx),
        "quantized": None,
    }
    if isinstance(network, QuantizedModel):
        answer["quantized"] = {
            **quantize_answer(network),
            "recipe": network.recipe.to_json(),
            "created": network.manifest["created"],
        }
    return answer


def quantize_answer(made: QuantizedModel) -> Answer:
    """Return where a quantized network lies, what it was made from and how well it agrees.

    ``search`` has all recipes that were tried, if it was quantized so; else it is null.
    """
    calibration = made.manifest["calibration"]
    return {
        "output": str(made.folder),
        "scans": calibration["scans"],
        "patches": calibration["patches"],
        "fp32_mb": _megabytes(made.model.onnx),
        "int8_mb": _megabytes(made.int8),
        "agreement_with_fp32": made.manifest["agreement_with_fp32"],
        "search": made.manifest.get("search"),
    }


def sensitivity_answer(study: SensitivityStudy, output: str) -> Answer:
    """Return what was found of each layer, as in sensitivity.json, with its folder."""
    return {"output": output, **study.to_json()}


def segment_answer(results: Sequence[SegmentedScan]) -> Answer:
    """Return what ran, and for each of the ``scans`` its path, label map and seconds.

    ``scan`` is the path as it was found, of a DICOM series that of its first slice. The answer goes
    to whoever asked, and into no log.
    """
    rows = []
    for result in results:
        seconds = {"load": result.load_seconds, **asdict(result.segmentation.seconds)}
        total = sum(seconds.values())
        rows.append(
            {
                "scan": str(result.path),
                "output": str(result.output),
                "volume_seconds": {**seconds, "total": total},
            }
        )
    return {"engine": results[0].engine, "precision": results[0].precision, "scans": rows}


def compare_answer(comparison: Comparison, output: str) -> Answer:
    """Return the comparison as in report.json, with the folder that it was written to."""
    from medptq.evaluate.results import to_json

    return {"output": output, **to_json(comparison)}


def benchmark_answer(done: Benchmark, output: str) -> Answer:
    """Return the tables as in benchmark.json, the folder, and what was and was not measured now."""
    from medptq.benchmarking.writing import to_json

    return {
        "output": output,
        "measured": done.measured,
        "failures": [
            {"network": failure.network, "recipe": failure.recipe, "error": str(failure.error)}
            for failure in done.failures
        ],
        **to_json(done.tables),
    }


def error_answer(error: MedPTQError) -> Answer:
    """Return a failure's code, its whole sentence, the sentence's parts, and its facts."""
    return {
        **error.facts,
        "code": error.code,
        "message": str(error),
        "what": error.what,
        "why": error.why,
        "todo": error.todo,
    }


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6
