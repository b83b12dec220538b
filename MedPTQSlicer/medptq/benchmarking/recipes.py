"""The recipes of the benchmark, by name.

The granularities are those of MedQuanBench (OpenReview eqG8h5Ztq0), in the words of its authors'
README: *per tensor* is one scale for a layer's activations and one for its weights;
*per channel/token* is one for each input channel of a convolution and each token of a
transformer, with weights per output channel; *adaptive stratification* is one for each voxel at
1x1x1 convolutions and per channel or token elsewhere. Nothing is said there of when scales are
taken. Scales of single voxels and tokens that are learned beforehand would be of places in the
patch, which no one means by them, so scales are taken as each patch runs, from the largest
magnitude, for all three alike. What runs on an engine, and what is recovered, has static scales.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from medptq.engines.selection import usable_engines
from medptq.errors import QuantizationError
from medptq.quantization.recipe import Recipe
from medptq.quantization.recovery.recovering import Recovery
from medptq.quantization.scheme import ActivationGranularity, Scheme, WeightGranularity


@dataclass(frozen=True)
class FP32:
    """The network as it is, which the others are held against."""


@dataclass(frozen=True)
class Simulated:
    """A network of few bits, simulated in PyTorch.

    Attributes:
        scheme: How its layers are quantized.
        recovery: How what that costs is won back; None for not at all.
    """

    scheme: Scheme
    recovery: Recovery | None = None


@dataclass(frozen=True)
class Built:
    """A quantized network with Q/DQ nodes, run in INT8 on an engine.

    Attributes:
        engine: The engine's name.
        recipe: How it is quantized; patches and seed are the benchmark's.
    """

    engine: str
    recipe: Recipe


Way: TypeAlias = FP32 | Simulated | Built


@dataclass(frozen=True)
class BenchmarkRecipe:
    """One column of the benchmark's table.

    Attributes:
        name: What it is asked for by.
        precision: Such as ``"W4A8"``.
        granularity: Of the activations' scales, and what else is done, for a person to read.
        way: What is run.
    """

    name: str
    precision: str
    granularity: str
    way: Way

    @property
    def title(self) -> str:
        """Precision and granularity, for a person to read."""
        return f"{self.precision} {self.granularity}".strip()

    def to_json(self) -> dict[str, Any]:
        """Return all that decides the numbers, beside network, data and patches."""
        content = {"name": self.name, "way": type(self.way).__name__, **asdict(self.way)}
        plain: dict[str, Any] = json.loads(json.dumps(content))  # JSON knows no tuples
        return plain


def _simulated(
    bits: int,
    name: str,
    words: str,
    weights: WeightGranularity,
    activations: ActivationGranularity,
) -> BenchmarkRecipe:
    scheme = Scheme(
        *(bits, bits, weights, activations),
        scales="dynamic",
        observer="max",
    )
    return BenchmarkRecipe(f"w{bits}a{bits}-{name}", f"W{bits}A{bits}", words, Simulated(scheme))


def _papers(bits: int) -> list[BenchmarkRecipe]:
    return [
        _simulated(bits, "tensor", "per tensor", "tensor", "tensor"),
        _simulated(bits, "token", "per channel or token", "channel", "token"),
        _simulated(bits, "adaptive", "adaptive", "channel", "adaptive"),
    ]


# What INT8 kernels can run, as quantize_model writes it.
_W4A8 = Scheme(4, 8)
_W4A8_FITTED = Scheme(4, 8, fitted_weights=True)
_W4A4_FITTED = Scheme(4, 4, activation_granularity="channel", signed=False, fitted_weights=True)
_ENDS = "recovered, ends in 8 bits"
# What is known from images: ranges by each layer's output, AdaRound, bias correction.
_LAYER_BY_LAYER = Recovery(clipping=True, rounding_steps=300, biases=True, distillation_steps=0)
_ENGINES = ("openvino", "tensorrt")


def _all() -> list[BenchmarkRecipe]:
    return [
        BenchmarkRecipe("fp32", "FP32", "", FP32()),
        *_papers(8),
        *(
            recipe
            for engine in _ENGINES
            for recipe in (
                BenchmarkRecipe(f"w8a8-{engine}", "W8A8", "per tensor", Built(engine, Recipe())),
                BenchmarkRecipe(
                    *(f"w8a8-channel-{engine}", "W8A8", "per channel"),
                    Built(engine, Recipe(activation_granularity="channel")),
                ),
            )
        ),
        BenchmarkRecipe("w4a8-tensor", "W4A8", "per tensor", Simulated(_W4A8)),
        BenchmarkRecipe(
            *("w4a8-layerwise", "W4A8", "recovered layer by layer, ends in 8 bits"),
            Simulated(_W4A8_FITTED, _LAYER_BY_LAYER),
        ),
        BenchmarkRecipe("w4a8-recovered", "W4A8", _ENDS, Simulated(_W4A8_FITTED, Recovery())),
        *(
            BenchmarkRecipe(
                *(f"w4a8-{engine}", "W4A8", _ENDS),
                Built(engine, Recipe(weight_bits=4, recovery=True)),
            )
            for engine in _ENGINES
        ),
        *_papers(4),
        BenchmarkRecipe(
            "w4a4-recovered", "W4A4", "recovered", Simulated(_W4A4_FITTED, Recovery(budget=None))
        ),
        BenchmarkRecipe(
            *("w4a4-mixed", "W4A4", "recovered, ends and a fifth in 8 bits"),
            Simulated(_W4A4_FITTED, Recovery()),
        ),
    ]


RECIPES = {recipe.name: recipe for recipe in _all()}
"""Every recipe by its name, in the order of the tables' columns."""


def recipe_named(name: str) -> BenchmarkRecipe:
    """Return the recipe of that name.

    Raises:
        QuantizationError: There is none.
    """
    if name not in RECIPES:
        raise QuantizationError(
            "recipe",
            f"There is no recipe called {name!r}",
            why="the name is not known",
            todo=f"Choose among {', '.join(RECIPES)}",
        )
    return RECIPES[name]


def recipes_here() -> list[str]:
    """Return the names of the recipes that this machine can run."""
    usable = usable_engines()
    return [
        name
        for name, recipe in RECIPES.items()
        if not isinstance(recipe.way, Built) or recipe.way.engine in usable
    ]
