"""Graphs that were made once and are kept: exported from PyTorch, or taken out of an archive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from medptq.artifacts import atomic_folder, sha256_of, write_json
from medptq.models.cache import cache_folder
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter

EXPORT_VERSION = 1
"""Raised when :mod:`medptq.models.export` writes another graph for the same network."""

_GRAPH = "network.onnx"
_RECORD = "record.json"


def cached_network(
    model: SegmentationModel,
    sha256: str,
    make: Callable[[SegmentationModel], dict[str, Any]],
    reporter: Reporter,
) -> SegmentationModel:
    """Return the model with a graph that lies in the cache, after making it if it does not.

    Args:
        model: What the card says; its ``onnx`` is not looked at.
        sha256: Of the file that the graph is made from.
        make: Writes the graph to the ``onnx`` of the model that it is given, checks it, and
            returns what is worth recording of how it was made. It may use that folder as it works.
        reporter: Warned if the cached graph was damaged.

    Raises:
        OutputError: The cache cannot be written. And whatever ``make`` raises.
    """
    cached = replace(model, onnx=cached_graph(model, sha256))
    folder = cached.onnx.parent
    if folder.is_dir():
        if _is_sound(folder):
            return cached
        reporter.warn(f"{folder} was damaged, so it is made again.")
    with atomic_folder(folder, overwrite=True) as part:
        record = make(replace(model, onnx=part / _GRAPH))
        write_json(part / _RECORD, record | _digests(part))
    return cached


def cached_graph(model: SegmentationModel, sha256: str) -> Path:
    """Return where :func:`cached_network` keeps the graph of a network; it need not be there."""
    return cache_folder("networks") / _key(model, sha256) / _GRAPH


def graph_digest(graph: Path) -> str | None:
    """Return the SHA-256 that was recorded of a graph in the cache, or None if there is none."""
    recorded = _recorded(graph.parent)
    return recorded["sha256"] if recorded is not None and graph.is_file() else None


def _key(model: SegmentationModel, sha256: str) -> str:
    """Name the folder after all that the graph, and its fitting the card, depend on."""
    depends_on = [EXPORT_VERSION, sha256, model.channels, model.patch_size, model.classes]
    digest = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()
    return f"{model.id}-{digest[:16]}"


def _digests(folder: Path) -> dict[str, Any]:
    """Return the SHA-256 of the graph, and of the files beside it that hold its large weights."""
    beside = sorted(path for path in folder.iterdir() if path.name not in (_GRAPH, _RECORD))
    return {
        "sha256": sha256_of(folder / _GRAPH),
        "beside": {path.name: sha256_of(path) for path in beside},
    }


def _recorded(folder: Path) -> dict[str, Any] | None:
    """Return what :func:`_digests` was when the graph was made; None if that cannot be told."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        # Where nothing is said to lie beside it, all is in one file.
        return {"sha256": str(record["sha256"]), "beside": dict(record.get("beside", {}))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_sound(folder: Path) -> bool:
    recorded = _recorded(folder)
    if recorded is None:
        return False
    try:
        # Not what others, such as a file manager, have put there since.
        return recorded["sha256"] == sha256_of(folder / _GRAPH) and all(
            digest == sha256_of(folder / name) for name, digest in recorded["beside"].items()
        )
    except OSError:
        return False
