"""A recipe that was tried, with what it costs and how far it agrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from medptq.quantization.recipe import Recipe
from medptq.quantization.scheme import scheme_of

ALIKE = 0.1
"""Costs that differ by less than this share are the same."""


@dataclass(frozen=True)
class Trial:
    """One recipe that was tried, or FP32 and its like beside them.

    Attributes:
        name: What it is, for a person to read.
        recipe: The recipe; None where nothing was quantized.
        dice: Mean Dice with FP32's labels over the structures that either found, on patches of
            scans that it was not calibrated on; None if it is no cheaper than another that
            loses less, and so was not measured.
        voxels_equal: Share of their voxels that are labelled as in FP32, likewise.
        least_alike: The ``name`` of the structure that agrees least, and its ``dice``; None where
            none was found, or nothing measured.
        milliseconds: The fastest run of a patch, which other programs disturbed least.
        megabytes: Size of the network's file.
        passed: Whether it agrees as far as was asked.
        chosen: Whether it was taken.
    """

    name: str
    recipe: Recipe | None
    dice: float | None
    voxels_equal: float | None
    least_alike: Mapping[str, str | float] | None
    milliseconds: float
    megabytes: float
    passed: bool
    chosen: bool = False

    def cheaper_than(self, other: Trial) -> bool:
        """Tell whether it runs clearly faster; or about as fast, from a clearly smaller file."""
        if abs(self.milliseconds - other.milliseconds) > ALIKE * other.milliseconds:
            return self.milliseconds < other.milliseconds
        return self.megabytes < (1 - ALIKE) * other.megabytes

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        recipe = None if self.recipe is None else self.recipe.to_json()
        return {**asdict(self), "recipe": recipe}


def name_of(recipe: Recipe) -> str:
    """Return what a recipe is, for a person to read: ``W8A8, mse, 4 layers spared``."""
    observer = recipe.observer if recipe.activation_bits == 8 else scheme_of(recipe).observer
    parts = [f"W{recipe.weight_bits}A{recipe.activation_bits}", observer]
    if recipe.activation_granularity == "channel":
        parts.append("scales per channel")
    if recipe.recovery:
        parts.append("recovered")
    if recipe.spared:
        parts.append(f"{len(recipe.spared)} layer{'s' * (len(recipe.spared) > 1)} spared")
    return ", ".join(parts)
