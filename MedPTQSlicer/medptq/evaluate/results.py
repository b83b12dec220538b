"""The figures of a comparison, and their JSON form."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medptq.engines.protocol import Precision
from medptq.evaluate.latency import Latency
from medptq.evaluate.metrics import Agreement
from medptq.models.segmentation_model import Label

_ENGINE_TITLES = {"pytorch": "PyTorch", "openvino": "OpenVINO", "tensorrt": "TensorRT"}


@dataclass(frozen=True)
class Score:
    """One overlap measure, per class.

    Attributes:
        per_class: From 0 to 1 for each class, by its number in the label map; None for a class
            that is in neither label map, which then says nothing of either.
        tolerance_mm: For the surface Dice, the distance up to which surfaces count as the same.
    """

    per_class: Mapping[int, float | None]
    tolerance_mm: float | None = None

    @property
    def found(self) -> dict[int, float]:
        """The classes that are in at least one of the two label maps."""
        return {label: value for label, value in self.per_class.items() if value is not None}

    @property
    def mean(self) -> float | None:
        """Mean over :attr:`found`; None if no class was found."""
        return statistics.fmean(self.found.values()) if self.found else None


@dataclass(frozen=True)
class VolumeSeconds:
    """Wall-clock seconds for one whole scan, from the file to the label map, by stage."""

    load: float
    preprocess: float
    inference: float
    postprocess: float

    @property
    def total(self) -> float:
        """All stages together."""
        return self.load + self.preprocess + self.inference + self.postprocess


@dataclass(frozen=True)
class EngineResult:
    """What one engine did at one precision, measured in a fresh process.

    Attributes:
        engine: The engine's name (``"openvino"``).
        precision: What it ran at.
        model_size_mb: Size of the network on the disk, in MB (10^6 bytes).
        latency: Of the network alone, for one patch.
        volume_seconds: Of the whole scan.
        peak_memory_mb: Largest resident memory of the process, in MB.
        dice_vs_fp32: Against the baseline's label map; None or 1 for the baseline itself.
        nsd_vs_fp32: Likewise.
        dice_vs_reference: Against a reference segmentation, if one was given.
        nsd_vs_reference: Likewise.
        layers: Number of the network's layers that run at each precision, where the engine tells.
        agreement: Voxel by voxel, the baseline's label map being a and this one's b; None for
            the baseline itself.
    """

    engine: str
    precision: Precision
    model_size_mb: float
    latency: Latency
    volume_seconds: VolumeSeconds
    peak_memory_mb: float
    dice_vs_fp32: Score | None = None
    nsd_vs_fp32: Score | None = None
    dice_vs_reference: Score | None = None
    nsd_vs_reference: Score | None = None
    layers: Mapping[str, int] | None = None
    agreement: Agreement | None = None

    @property
    def title(self) -> str:
        """Engine and precision, for a person to read."""
        return f"{_ENGINE_TITLES.get(self.engine, self.engine)} {self.precision.upper()}"


@dataclass(frozen=True)
class Ratios:
    """How many times less than another result a result needs; above 1 is better.

    Attributes:
        latency: Of the median latency.
        volume: Of the seconds for the whole scan.
        size: Of the size on the disk.
        memory: Of the peak memory.
    """

    latency: float
    volume: float
    size: float
    memory: float


@dataclass(frozen=True)
class Machine:
    """What the figures were measured on."""

    cpu: str
    cores: int
    ram_gb: float
    os: str
    gpu: str = ""


@dataclass(frozen=True)
class Comparison:
    """A network at several precisions and on several engines, on one scan.

    Attributes:
        model_id: The model's short name.
        model_title: Its name for a person to read.
        model_licence: The terms it is used on.
        model_source: Where it comes from.
        labels: What it segments.
        patch_size: Voxels (D, H, W) of the patch that latency was measured with.
        scan_shape: Voxels along (K, J, I). Never the scan's name, which may name the patient.
        scan_spacing: Voxel size in mm along (K, J, I).
        engines: The results; exactly one is the baseline.
        recipe: How the network was quantized, as plain values by name.
        calibration_scans: Number of unlabeled scans it was calibrated on.
        machine: What it was measured on.
        versions: Of the libraries that matter, by name.
        date: When, as ISO 8601.
        command: What was typed to get this; the caller leaves out the scan's path.
        notes: Sentences that a reader of the figures must know.
    """

    model_id: str
    model_title: str
    model_licence: str
    model_source: str
    labels: Sequence[Label]
    patch_size: tuple[int, int, int]
    scan_shape: tuple[int, int, int]
    scan_spacing: tuple[float, float, float]
    engines: tuple[EngineResult, ...]
    recipe: Mapping[str, Any]
    calibration_scans: int | None
    machine: Machine
    versions: Mapping[str, str]
    date: str
    command: str = ""
    notes: Sequence[str] = field(default=())

    @property
    def baseline(self) -> EngineResult:
        """What all others are measured against: PyTorch at FP32, or else the first FP32 result."""

        def rank(result: EngineResult) -> tuple[bool, bool]:
            return result.precision != "fp32", result.engine != "pytorch"

        return min(self.engines, key=rank)

    @property
    def headline(self) -> EngineResult:
        """The result to show first: INT8 on the engine that runs it fastest."""
        candidates = [result for result in self.engines if result is not self.baseline]
        int8 = [result for result in candidates if result.precision == "int8"]
        return min(int8 or candidates or [self.baseline], key=lambda result: result.latency.median)


def ratios(result: EngineResult, other: EngineResult) -> Ratios:
    """Return how many times less than ``other`` the result needs."""
    return Ratios(
        latency=other.latency.median / result.latency.median,
        volume=other.volume_seconds.total / result.volume_seconds.total,
        size=other.model_size_mb / result.model_size_mb,
        memory=other.peak_memory_mb / result.peak_memory_mb,
    )


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain values for JSON: no NaN, None where there is no figure.

    ``baseline`` and ``headline`` name two of the results by {engine, precision}. ``engines`` is a
    list of objects with ``engine``, ``precision``, ``title``, ``model_size_mb``, ``latency_ms``
    {median, min, max, runs}, ``volume_seconds`` {load, preprocess, inference, postprocess, total},
    ``peak_memory_mb``, ``dice_vs_fp32`` and its like {mean, per_class}, ``layers``, ``agreement``
    and ``times_better_than_baseline`` {latency, volume, size, memory}.
    Classes go by their names.
    """
    baseline = comparison.baseline
    names = _class_names(comparison.labels)
    content = _plain(dataclasses.replace(comparison, engines=()))
    for role, chosen in (("baseline", baseline), ("headline", comparison.headline)):
        content[role] = {"engine": chosen.engine, "precision": chosen.precision}
    content["engines"] = [
        {
            "engine": result.engine,
            "precision": result.precision,
            "title": result.title,
            "model_size_mb": _plain(result.model_size_mb),
            "latency_ms": _plain(result.latency),
            "volume_seconds": {
                **_plain(result.volume_seconds),
                "total": _plain(result.volume_seconds.total),
            },
            "peak_memory_mb": _plain(result.peak_memory_mb),
            "dice_vs_fp32": _score(result.dice_vs_fp32, names),
            "nsd_vs_fp32": _score(result.nsd_vs_fp32, names),
            "dice_vs_reference": _score(result.dice_vs_reference, names),
            "nsd_vs_reference": _score(result.nsd_vs_reference, names),
            "layers": _plain(result.layers),
            "agreement": _agreement(result.agreement, names),
            "times_better_than_baseline": _plain(ratios(result, baseline)),
        }
        for result in comparison.engines
    ]
    return content  # type: ignore[no-any-return]


def _class_names(labels: Sequence[Label]) -> dict[int, str]:
    """Return a name for each class; two classes of one name are told apart by their numbers."""
    names = [label.name for label in labels]
    return {
        label.value: label.name if names.count(label.name) == 1 else f"{label.name} {label.value}"
        for label in labels
    }


def _score(score: Score | None, names: Mapping[int, str]) -> dict[str, Any] | None:
    if score is None:
        return None
    content = {"mean": score.mean, "per_class": _by_name(score.per_class, names)}
    if score.tolerance_mm is not None:
        content["tolerance_mm"] = score.tolerance_mm
    return content


def _agreement(agreement: Agreement | None, names: Mapping[int, str]) -> dict[str, Any] | None:
    if agreement is None:
        return None
    content: dict[str, Any] = _plain(agreement)
    content["volumes_ml"] = {
        name: {"fp32": volumes[0], "this": volumes[1]}
        for name, volumes in _by_name(agreement.volumes_ml, names).items()
    }
    content["largest"] = _by_name(agreement.largest, names)
    return content


def _by_name(per_class: Mapping[int, Any], names: Mapping[int, str]) -> dict[str, Any]:
    return {names.get(label, str(label)): _plain(value) for label, value in per_class.items()}


def _plain(value: Any) -> Any:
    """Turn dataclasses, mappings and sequences into dicts and lists, and NaN into None."""
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
