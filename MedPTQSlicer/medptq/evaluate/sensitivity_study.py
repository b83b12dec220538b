"""What was found of a network's layers, for programs: as JSON, and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from medptq.evaluate.tables import Row
from medptq.quantization.agreement import Agreement
from medptq.quantization.distributions import Distribution, LayerDistributions
from medptq.quantization.scheme import Scheme
from medptq.quantization.sensitivity import LayerSensitivity, Sensitivity


@dataclass(frozen=True)
class SensitivityStudy:
    """What quantization does to each layer of a network, and each layer's to the network.

    Attributes:
        model_id: The network's id.
        model_title: Its name for people.
        scheme: How its layers were quantized.
        scans: How many scans the patches come from.
        calibration_patches: How many patches the scales were learned from.
        patches: How many of them the agreement was measured on.
        sensitivity: What the layers' quantization costs.
        distributions: The layers' weights and inputs, by the layer's name.
        date: When, in ISO 8601.
        seconds: How long it took.
    """

    model_id: str
    model_title: str
    scheme: Scheme
    scans: int
    calibration_patches: int
    patches: int
    sensitivity: Sensitivity
    distributions: Mapping[str, LayerDistributions]
    date: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return all of it as a JSON object; the worst layer comes first."""
        return {
            "model": self.model_id,
            "title": self.model_title,
            "scheme": self.scheme.name,
            "scans": self.scans,
            "calibration_patches": self.calibration_patches,
            "patches": self.patches,
            "date": self.date,
            "seconds": self.seconds,
            "together": asdict(self.sensitivity.together),
            "layers": [
                {**asdict(row), **asdict(self.distributions[row.layer])}
                for row in self.sensitivity.layers
            ],
        }

    def rows(self) -> list[Row]:
        """Return a row for each layer, the worst one first."""
        return [
            self._row(rank, layer) for rank, layer in enumerate(self.sensitivity.layers, start=1)
        ]

    def _row(self, rank: int, row: LayerSensitivity) -> Row:
        found = self.distributions[row.layer]
        return {
            "model": self.model_id,
            "date": self.date,
            "scheme": self.scheme.name,
            "rank": rank,
            "layer": row.layer,
            "op_type": row.op_type,
            "weights": row.weights,
            **_agreement("alone", row.alone),
            **_agreement("all_but", row.all_but),
            **_agreement("together", self.sensitivity.together),
            **_distribution("weight", found.weight),
            **_distribution("input", found.inputs[0]),
        }


def _agreement(name: str, agreement: Agreement) -> Row:
    return {
        f"{name}_dice": agreement.dice,
        f"{name}_voxels_equal": agreement.voxels_equal,
        f"{name}_output_error": agreement.output_error,
    }


def _distribution(name: str, found: Distribution | None) -> Row:
    return {
        f"{name}_minimum": found and found.minimum,
        f"{name}_maximum": found and found.maximum,
        f"{name}_step_least": found and found.step[0],
        f"{name}_step_most": found and found.step[1],
        f"{name}_clipped_share": found and found.clipped,
        f"{name}_signal_to_noise_db": found and found.signal_to_noise_db,
    }
