"""What each layer's quantization costs a network, by itself and beside all the others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from medptq.progress import Reporter
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import Patches


@dataclass(frozen=True)
class Agreement:
    """How far a quantized network says what it says in FP32.

    Attributes:
        voxels_equal: Share of the voxels that get the same label.
        dice: Mean Dice coefficient of the labels but the background, over those that either
            network found anywhere; 1 if neither found any.
        output_error: Root of the output's squared error, relative to the output.
    """

    voxels_equal: float
    dice: float
    output_error: float


@dataclass(frozen=True)
class LayerSensitivity:
    """What one layer's quantization costs.

    Attributes:
        layer: Its name.
        op_type: Its operator.
        weights: How many weights it has; 0 for a product of activations.
        alone: The agreement if it alone is quantized.
        all_but: The agreement if all layers but it are.
    """

    layer: str
    op_type: str
    weights: int
    alone: Agreement
    all_but: Agreement


@dataclass(frozen=True)
class Sensitivity:
    """What the layers' quantization costs.

    Attributes:
        together: The agreement if all layers are quantized.
        layers: One by one, the one that costs most if it alone is quantized first.
    """

    together: Agreement
    layers: tuple[LayerSensitivity, ...]


def sensitivity_of(
    network: SimulatedNetwork,
    patches: Patches,
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> Sensitivity:
    """Quantize each layer of a network alone, and all layers but it, and see what that costs.

    Args:
        network: The network, with its recovery if there is to be one.
        patches: What the outputs are compared on; unlabeled. It is run 2 times per layer on each.
        reporter: Told after each layer; may cancel.

    Raises:
        Cancelled: The user asked to stop.
    """
    batches = [torch.from_numpy(patch).to(network.device) for patch in patches]
    expected = [network.run(batch, ()) for batch in batches]

    def agreement(layers: Collection[str]) -> Agreement:
        tally = _Tally()
        for batch, reference in zip(batches, expected, strict=True):
            reporter.check()
            tally.add(reference, network.run(batch, layers))
        return tally.result()

    names = set(network.layers)
    table = [
        LayerSensitivity(
            layer=layer.name,
            op_type=layer.op_type,
            weights=0 if layer.weight is None else layer.weight.full.numel(),
            alone=agreement({layer.name}),
            all_but=agreement(names - {layer.name}),
        )
        for layer in reporter.track(list(network.layers.values()), "Measuring sensitivity")
    ]
    # The output's error tells apart what leaves all labels as they are.
    table.sort(key=lambda row: (row.alone.voxels_equal, -row.alone.output_error))
    return Sensitivity(agreement(names), tuple(table))


class _Tally:
    """Counts over patches what an :class:`Agreement` is made of."""

    def __init__(self) -> None:
        self._equal = self._voxels = 0
        self._error = self._energy = 0.0
        self._both: Tensor | None = None
        self._either: Tensor | None = None

    def add(self, expected: Tensor, found: Tensor) -> None:
        """Compare outputs [1, classes, D, H, W]."""
        classes = expected.shape[1]
        one, other = expected.argmax(1).reshape(-1), found.argmax(1).reshape(-1)
        self._equal += int((one == other).sum())
        self._voxels += one.numel()
        self._error += float((expected - found).square().sum(dtype=torch.float64))
        self._energy += float(expected.square().sum(dtype=torch.float64))
        both = torch.bincount(one[one == other], minlength=classes)
        sizes = torch.bincount(one, minlength=classes) + torch.bincount(other, minlength=classes)
        self._both = both if self._both is None else self._both + both
        self._either = sizes if self._either is None else self._either + sizes

    def result(self) -> Agreement:
        if self._both is None or self._either is None:
            raise ValueError("nothing was compared")
        seen = self._either > 0
        seen[0] = False
        dice = 2 * self._both[seen].double() / self._either[seen]
        return Agreement(
            voxels_equal=self._equal / self._voxels,
            dice=float(dice.mean()) if len(dice) else 1.0,
            output_error=(self._error / self._energy) ** 0.5 if self._energy else 0.0,
        )
