"""How a network is to be quantized."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from medptq.errors import QuantizationError

ObserverName: TypeAlias = Literal["max", "percentile", "mse", "entropy"]
OBSERVERS: tuple[ObserverName, ...] = get_args(ObserverName)

ObserverChoice: TypeAlias = ObserverName | Literal["agreement"]
OBSERVER_CHOICES: tuple[ObserverChoice, ...] = ("agreement", *OBSERVERS)

RunnableGranularity: TypeAlias = Literal["tensor", "channel"]
"""How finely INT8 kernels let the scales of activations be chosen."""
RUNNABLE_GRANULARITIES: tuple[RunnableGranularity, ...] = get_args(RunnableGranularity)

LEAST_AGREEMENT = 0.995
"""Mean Dice with FP32's labels that is asked of a recipe where nothing else is said."""

_SPECIAL = ("weight_bits", "activation_bits", "activation_granularity", "recovery", "spared")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the numbers of a quantized network, beside the network and scans.

    Weights are symmetric with a scale per output channel (one scale for a transposed
    convolution). Activations are symmetric at 8 bits; below, a range begins and ends where its
    values do, unless the observer is one for symmetric ranges. Biases stay in FP32. INT8 kernels
    run it all: fewer bits than 8 use fewer of INT8's numbers.

    Attributes:
        observer: How an activation's range is chosen from what calibration saw; see
            :mod:`medptq.quantization.observers`. ``"agreement"`` is the one by which the
            network agrees best with FP32, see :mod:`medptq.quantization.observer_choice`; before
            recovery, with weights of 8 bits. Activations of fewer bits then have ``"mse"``.
        percentile: For the observer ``"percentile"``: the share in percent of an activation's
            values that its range holds.
        patches: How many patches of the scans calibration runs through the network, at most.
        seed: Seed of the choice of patches.
        weight_bits: From 2 to 8.
        activation_bits: From 2 to 8.
        activation_granularity: One scale for a whole activation, or one for each channel that a
            layer reads.
        recovery: Whether what few bits lose is won back on the calibration patches; see
            :mod:`medptq.quantization.recovery.recovering`. It takes minutes.
        spared: Layers that stay in floating point, by the names that they have in the simplified
            graph.
    """

    observer: ObserverChoice = "agreement"
    percentile: float = 99.99
    patches: int = 16
    seed: int = 0
    weight_bits: int = 8
    activation_bits: int = 8
    activation_granularity: RunnableGranularity = "tensor"
    recovery: bool = False
    spared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.observer not in OBSERVER_CHOICES:
            choices = ", ".join(OBSERVER_CHOICES)
            raise _refused(f"the observer {self.observer!r} is none of {choices}")
        if not 50.0 < self.percentile <= 100.0:
            raise _refused(f"the percentile {self.percentile} is not above 50 and at most 100")
        if self.seed < 0:
            raise _refused(f"the seed {self.seed} is below 0")
        if self.patches < 1:
            raise _refused(f"{self.patches} patches are too few")
        for what, bits in (("weights", self.weight_bits), ("activations", self.activation_bits)):
            if not 2 <= bits <= 8:
                raise _refused(f"{bits} bits for {what} are not from 2 to 8")
        if self.activation_granularity not in RUNNABLE_GRANULARITIES:
            raise _refused(
                f"the granularity {self.activation_granularity!r} of activations is none of "
                f"{', '.join(RUNNABLE_GRANULARITIES)}"
            )

    @property
    def is_plain(self) -> bool:
        """Whether it is 8 bits for all, with one scale per activation, and no recovery."""
        return not self._special()

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as a JSON object."""
        return {**asdict(self), "spared": list(self.spared)}

    def in_use(self) -> dict[str, Any]:
        """Return what decided the numbers, for a reader.

        The percentile is there only where it may count, and of what makes a plain recipe special
        (bits, granularity, recovery, what is spared) only what differs from a plain one.
        """
        hidden = set(_SPECIAL) - self._special()
        if self.observer not in ("percentile", "agreement"):
            hidden.add("percentile")
        return {name: value for name, value in self.to_json().items() if name not in hidden}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Recipe:
        """Return the recipe that :meth:`to_json` wrote, in this version or an older one."""
        return cls(**{**content, "spared": tuple(content.get("spared", ()))})

    def _special(self) -> set[str]:
        plain = {field.name: field.default for field in fields(self)}
        return {name for name in _SPECIAL if getattr(self, name) != plain[name]}


def _refused(why: str) -> QuantizationError:
    return QuantizationError(
        "recipe", "The recipe cannot be used", why=why, todo="Correct it and try again"
    )
