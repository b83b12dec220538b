"""A network under test, and the fingerprints of what its cells are made from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import medptq
from medptq.artifacts import sha256_of
from medptq.benchmarking.data_set import DataSet
from medptq.benchmarking.recipes import BenchmarkRecipe
from medptq.engines.cache import graph_digest
from medptq.errors import ScanError
from medptq.graph.loading import load_graph
from medptq.inference.networks import plain_model
from medptq.models.card import card_of
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.recipe import Recipe
from medptq.scans.digest import digest_of
from medptq.scans.sources import ScanSource, source_of_file

_FLOATING = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


@dataclass(frozen=True)
class Plan:
    """What decides the numbers of all cells of a data set, beside networks and recipes.

    Attributes:
        data: The data set.
        tested: Names of the pairs that networks are tested on.
        calibration: Scans that networks are calibrated on; unlabeled, none of the tested ones.
        patches: How many patches of these are run, at most.
        seed: Of the choice of scans and patches, and of what is learned.
    """

    data: DataSet
    tested: tuple[str, ...]
    calibration: tuple[ScanSource, ...]
    patches: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return all of it by content: no scan is named."""
        data, groups = self.data, self.data.groups
        return {
            "name": data.name,
            "tested": [
                [
                    digest_of(data.image_of(name)),
                    digest_of(source_of_file(data.label_map_of(name))),
                ]
                for name in self.tested
            ],
            "groups": sha256_of(data.folder / groups) if groups else "",
            "nsd_tolerance_mm": data.nsd_tolerance_mm,
            "calibration": [digest_of(source) for source in self.calibration],
            "patches": self.patches,
            "seed": self.seed,
        }


def plan_of(data: DataSet, limit: int | None, patches: int, seed: int) -> Plan:
    """Choose the scans of a benchmark.

    Args:
        data: The data set.
        limit: How many of the test's scans are taken, the first ones; None for all.
        patches: How many patches networks are calibrated on, at most.
        seed: Decides which scans of ``train`` they come from.

    Raises:
        QuantizationError: The seed is below 0, or there are no patches.
        ScanError: Label maps are missing, or the limit is below 1.
    """
    Recipe(patches=patches, seed=seed)  # refuses what calibration would
    if limit is not None and limit < 1:
        raise ScanError(
            "data-set",
            "The networks were not tested",
            why=f"they cannot be tested on {limit} scans",
            todo="Give a limit of at least 1, or none",
        )
    tested = tuple(data.split["test"][:limit])
    needed = [data.label_map_of(name) for name in tested]
    needed += [data.folder / data.groups] if data.groups else []
    missing = sum(not path.is_file() for path in needed)
    if missing:
        raise ScanError(
            "data-set",
            "The networks were not tested",
            why=f"{missing} of the {len(needed)} files with labels that the data set's "
            "description tells of are missing",
            todo="Correct the description, or name the folder that they are in (--folder)",
        )
    train = data.split["train"]
    order = np.random.default_rng(seed).permutation(len(train))[:patches]
    return Plan(
        data=data,
        tested=tested,
        calibration=tuple(data.image_of(train[n]) for n in sorted(order)),
        patches=patches,
        seed=seed,
    )


@dataclass(frozen=True)
class Subject:
    """A network under test.

    Attributes:
        model: The network.
        digest: Of its weights and card: the same wherever it was exported.
        parameters: How many numbers its graph holds as weights.
    """

    model: SegmentationModel
    digest: str
    parameters: int


def load_subject(name_or_path: str, reporter: Reporter) -> Subject:
    """Load a network that is to be tested: what :func:`medptq.load_model` takes.

    Raises:
        ModelError: There is no such network, or it cannot be used.
    """
    model = plain_model(name_or_path, reporter)
    path = Path(name_or_path).expanduser()
    # An exported graph names the exporter's version, the file that it was exported from does not.
    files = [path, path.with_suffix(".json")] if path.is_file() else [model.onnx]
    parts = [
        # Whose weights may lie in other files.
        graph_digest(file) if file.suffix.lower() == ".onnx" else sha256_of(file)
        for file in files
        if file.is_file()
    ]
    graph = load_graph(model.onnx)
    return Subject(
        model=model,
        digest=digest([card_of(model), parts]),
        parameters=sum(
            math.prod(tensor.dims)
            for tensor in graph.graph.initializer
            if tensor.data_type in _FLOATING
        ),
    )


def inputs_of(subject: Subject, recipe: BenchmarkRecipe, plan: dict[str, Any]) -> dict[str, Any]:
    """Return all that decides a cell's numbers, as plain values for JSON.

    Args:
        subject: The network.
        recipe: The recipe.
        plan: What :meth:`Plan.to_json` returned.
    """
    return {
        "network": {"id": subject.model.id, "digest": subject.digest},
        "data": {
            "name": plan["name"],
            "digest": digest(plan),
            "scans": len(plan["tested"]),
            "nsd_tolerance_mm": plan["nsd_tolerance_mm"],
            "calibration_scans": len(plan["calibration"]),
            "patches": plan["patches"],
            "seed": plan["seed"],
        },
        "recipe": recipe.to_json(),
        "medptq": medptq.__version__,
    }


def digest(content: dict[str, Any] | Sequence[Any]) -> str:
    """Return a digest of plain values, whatever the order of an object's fields."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
