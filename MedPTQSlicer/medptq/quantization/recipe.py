"""How a network is to be quantized."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

from medptq.errors import QuantizationError

ObserverName: TypeAlias = Literal["max", "percentile", "mse", "entropy"]
OBSERVERS: tuple[ObserverName, ...] = get_args(ObserverName)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the numbers of a quantized network, beside the network and scans.

    Weights and activations have 8 bits; weights are symmetric with a scale per output channel
    (one scale for a transposed convolution), activations symmetric with one scale per tensor;
    biases stay in FP32.

    Attributes:
        observer: How an activation's range is chosen from what calibration saw; see
            :mod:`medptq.quantization.observers`.
        percentile: For the observer ``"percentile"``: the share in percent of an activation's
            values that its range holds.
        patches: How many patches of the scans calibration runs through the network, at most.
        seed: Seed of the choice of patches.
    """

    observer: ObserverName = "mse"
    percentile: float = 99.99
    patches: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if self.observer not in OBSERVERS:
            raise _refused(f"the observer {self.observer!r} is none of {', '.join(OBSERVERS)}")
        if not 50.0 < self.percentile <= 100.0:
            raise _refused(f"the percentile {self.percentile} is not above 50 and at most 100")
        if self.seed < 0:
            raise _refused(f"the seed {self.seed} is below 0")
        if self.patches < 1:
            raise _refused(f"{self.patches} patches are too few")

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as a JSON object."""
        return asdict(self)

    def in_use(self) -> dict[str, Any]:
        """Return what decided the numbers, for a reader: the percentile only where it counts."""
        unused = set() if self.observer == "percentile" else {"percentile"}
        return {name: value for name, value in asdict(self).items() if name not in unused}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Recipe:
        """Return the recipe that :meth:`to_json` wrote."""
        return cls(**content)


def _refused(why: str) -> QuantizationError:
    return QuantizationError(
        "recipe", "The recipe cannot be used", why=why, todo="Correct it and try again"
    )
