"""Results as plain values for JSON: what ``--json`` prints, and what the worker answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from medptq.errors import MedPTQError

if TYPE_CHECKING:  # some of them import PyTorch, which a list of models must not wait for
    from medptq.api import SegmentedScan
    from medptq.engines.doctor import Diagnosis
    from medptq.evaluate.results import Comparison
    from medptq.inference.networks import Network
    from medptq.models.catalogue import CatalogueEntry
    from medptq.quantization.quantized_model import QuantizedModel

Answer: TypeAlias = dict[str, Any]


def models_answer(entries: Iterable[CatalogueEntry]) -> Answer:
    """Return the catalogue: ``models``, a list of what each is and where it comes from."""
    rows = [
        {
            "id": entry.id,
            "title": entry.title,
            "task": entry.task,
            "modality": entry.modality,
            "region": entry.region,
            "structures": [label["name"] for label in entry.card["labels"]],
            "size_mb": entry.download.size_mb,
            "licence": entry.provenance.licence,
            "source": entry.provenance.source,
            "citation": entry.provenance.citation,
        }
        for entry in entries
    ]
    return {"models": rows}


def doctor_answer(diagnosis: Diagnosis) -> Answer:
    """Return ``machine``, ``engines`` with their proofs, and the ``default`` engine."""
    machine = {**asdict(diagnosis.machine), "cache": str(diagnosis.machine.cache)}
    return {**asdict(diagnosis), "machine": machine}


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
    """Return where a quantized network lies, what it was made from and how well it agrees."""
    calibration = made.manifest["calibration"]
    return {
        "output": str(made.folder),
        "scans": calibration["scans"],
        "patches": calibration["patches"],
        "fp32_mb": _megabytes(made.model.onnx),
        "int8_mb": _megabytes(made.int8),
        "agreement_with_fp32": made.manifest["agreement_with_fp32"],
    }


def segment_answer(results: Sequence[SegmentedScan]) -> Answer:
    """Return what ran, and for each of the ``scans`` its label map and the seconds it took."""
    rows = []
    for result in results:
        seconds = {"load": result.load_seconds, **asdict(result.segmentation.seconds)}
        total = sum(seconds.values())
        rows.append({"output": str(result.output), "volume_seconds": {**seconds, "total": total}})
    return {"engine": results[0].engine, "precision": results[0].precision, "scans": rows}


def compare_answer(comparison: Comparison, output: str) -> Answer:
    """Return the comparison as in report.json, with the folder that it was written to."""
    from medptq.evaluate.results import to_json

    return {"output": output, **to_json(comparison)}


def error_answer(error: MedPTQError) -> Answer:
    """Return a failure's code, its whole sentence, and the sentence's parts."""
    return {
        "code": error.code,
        "message": str(error),
        "what": error.what,
        "why": error.why,
        "todo": error.todo,
    }


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6
