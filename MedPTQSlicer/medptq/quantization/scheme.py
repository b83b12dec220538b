"""How few bits a network is to have, and how finely their scales are chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from medptq.errors import QuantizationError
from medptq.quantization.recipe import (
    OBSERVERS,
    RUNNABLE_GRANULARITIES,
    ObserverName,
    Recipe,
)

WeightGranularity: TypeAlias = Literal["tensor", "channel"]
ActivationGranularity: TypeAlias = Literal["tensor", "channel", "token", "voxel", "adaptive"]
Scales: TypeAlias = Literal["static", "dynamic"]
Placing: TypeAlias = Literal["layers", "openvino"]

_CHOICES = {
    "weight_granularity": get_args(WeightGranularity),
    "activation_granularity": get_args(ActivationGranularity),
    "scales": get_args(Scales),
    "observer": OBSERVERS,
    "placing": get_args(Placing),
}


@dataclass(frozen=True)
class Scheme:
    """Everything that decides the numbers of a network of few bits, beside network and patches.

    What an activation's granularity means depends on the layer that reads it:

    ============ ==================================== =======================================
    granularity  convolution, input [N, C, D, H, W]   matrix product, operand [..., T, C]
    ============ ==================================== =======================================
    tensor       one scale                            one scale
    channel      each input channel                   each input channel
    token        each input channel                   each token
    voxel        each position                        each token
    adaptive     each position if the kernel is       each token
                 1x1x1, else each input channel
    ============ ==================================== =======================================

    In the words of MedQuanBench (OpenReview eqG8h5Ztq0), ``token`` is its per-channel/token and
    ``adaptive`` its adaptive stratification. Where both operands of a matrix product are
    activations, as in attention, the second one's tokens are its columns: scales lie along the
    axes that the product keeps, so that they can be taken out of its sums.

    Attributes:
        weight_bits: From 2 to 8.
        activation_bits: From 2 to 8.
        weight_granularity: One scale per weight tensor, or per output channel.
        activation_granularity: See above.
        scales: ``static`` scales are learned from the calibration patches. For positions and
            tokens that means: by their place in the patch, which is why only patches of the
            calibrated size can be run. ``dynamic`` scales are taken from each patch as it runs.
        observer: How a static range is chosen: see :mod:`medptq.quantization.observers`.
            Positions and tokens always get the largest magnitude seen, as they see few values.
            A symmetric range of a channel that is placed for ``openvino`` is its largest
            magnitude, but not beyond the range that the observer gives the activation as a whole;
            other channels have the range of their own least squared error, or of ``max``.
        percentile: For the observer ``percentile``: the share in percent that a range holds.
        signed: True for a grid that is symmetric about 0. False lets each range begin and end
            where its values do; 0 stays on the grid. Below 8 bits, such a grid is a window of
            the symmetric INT8 grid, so that INT8 kernels can run it with a clip before.
        fitted_weights: Whether weights get the range of the least squared error in place of
            their largest magnitude.
        placing: What is quantized: the inputs and weights of ``layers`` (convolutions and matrix
            products), as in the papers; or all that ``openvino`` runs in INT8, on the graph that
            :func:`medptq.quantization.writing.write_quantized` makes for it. There, integer sums
            have one scale for all input channels, so the scales of ``channel`` are folded into
            the weights before those are quantized; what has no weights has one scale.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    weight_granularity: WeightGranularity = "channel"
    activation_granularity: ActivationGranularity = "tensor"
    scales: Scales = "static"
    observer: ObserverName = "mse"
    percentile: float = 99.99
    signed: bool = True
    fitted_weights: bool = False
    placing: Placing = "layers"

    def __post_init__(self) -> None:
        for what, bits in (("weights", self.weight_bits), ("activations", self.activation_bits)):
            if not 2 <= bits <= 8:
                raise _refused(f"{bits} bits for {what} are not from 2 to 8")
        for field, choices in _CHOICES.items():
            if getattr(self, field) not in choices:
                raise _refused(f"{field} {getattr(self, field)!r} is none of {', '.join(choices)}")
        if not 50.0 < self.percentile <= 100.0:
            raise _refused(f"the percentile {self.percentile} is not above 50 and at most 100")
        if self.observer in ("percentile", "entropy") and not (
            self.signed and (self.activation_granularity == "tensor" or self.placing == "openvino")
        ):
            raise _refused(
                f"the observer {self.observer} is for symmetric ranges of one scale per tensor, or "
                "per channel as INT8 kernels run it"
            )
        if self.scales == "dynamic" and self.observer != "max":
            raise _refused("dynamic scales know the largest magnitude only (observer max)")
        if self.placing == "openvino" and not self.runs_on_openvino:
            raise _refused(
                "INT8 kernels have static scales per tensor or channel, symmetric at 8 bits"
            )

    @property
    def runs_on_openvino(self) -> bool:
        """Whether INT8 kernels can run it."""
        return (
            self.scales == "static"
            and self.activation_granularity in RUNNABLE_GRANULARITIES
            and (self.signed or self.activation_bits < 8)
        )

    @property
    def name(self) -> str:
        """Short name of the bits, such as ``W4A8``."""
        return f"W{self.weight_bits}A{self.activation_bits}"


def scheme_of(recipe: Recipe) -> Scheme:
    """Return what a recipe means for INT8 kernels.

    Ranges that are chosen by agreement are here those of the least squared error.
    Below 8 bits each value counts: ranges of activations begin and end where their values do, if
    the observer knows such, and weights get the range of the least squared error.
    """
    return Scheme(
        weight_bits=recipe.weight_bits,
        activation_bits=recipe.activation_bits,
        activation_granularity=recipe.activation_granularity,
        observer="mse" if recipe.observer == "agreement" else recipe.observer,
        percentile=recipe.percentile,
        signed=recipe.activation_bits == 8 or recipe.observer in ("percentile", "entropy"),
        fitted_weights=recipe.weight_bits < 8,
        placing="openvino",
    )


def _refused(why: str) -> QuantizationError:
    return QuantizationError(
        "scheme", "The network cannot be simulated so", why=why, todo="Choose another scheme"
    )
