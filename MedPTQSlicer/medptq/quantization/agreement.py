"""How far a quantized network says what it says in FP32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medptq.models.segmentation_model import Label


@dataclass(frozen=True)
class Agreement:
    """How far a quantized network says what it says in FP32.

    Attributes:
        voxels_equal: Share of the voxels that get the same label.
        dice: Mean Dice coefficient of the labels but the background, over those that either
            network found anywhere; 1 if neither found any.
        output_error: Root of the output's squared error, relative to the output.
        structures: The Dice coefficient of each label but the background that either network
            found anywhere.
    """

    voxels_equal: float
    dice: float
    output_error: float
    structures: Mapping[int, float]


class LabelTally:
    """Counts over patches how far two networks give the same labels."""

    def __init__(self) -> None:
        self._equal = self._voxels = 0
        self._both = self._either = torch.zeros(1, dtype=torch.int64)

    def add(self, expected: Tensor, found: Tensor) -> None:
        """Compare the labels of a patch, integers of any shape on one device."""
        one, other = expected.reshape(-1), found.reshape(-1)
        same = one[one == other]
        self._equal += same.numel()
        self._voxels += one.numel()
        classes = max(int(one.max()), int(other.max())) + 1
        sizes = torch.bincount(one, minlength=classes) + torch.bincount(other, minlength=classes)
        self._both = _sum(self._both, torch.bincount(same, minlength=classes))
        self._either = _sum(self._either, sizes)

    @property
    def voxels_equal(self) -> float:
        """As in :class:`Agreement`; of at least one patch."""
        return self._equal / self._voxels

    @property
    def dice(self) -> float:
        """As in :class:`Agreement`."""
        found = self.structures.values()
        return sum(found) / len(found) if found else 1.0

    @property
    def pooled_dice(self) -> float:
        """The Dice coefficient of all labels but the background together; 1 if there are none.

        Unlike their mean, a handful of voxels that only one network finds does not decide it.
        """
        either = int(self._either[1:].sum())
        return 2 * int(self._both[1:].sum()) / either if either else 1.0

    @property
    def structures(self) -> dict[int, float]:
        """As in :class:`Agreement`."""
        counts = enumerate(zip(self._both.tolist(), self._either.tolist(), strict=True))
        return {label: 2 * both / either for label, (both, either) in counts if label and either}


class Tally:
    """Counts over patches what an :class:`Agreement` is made of."""

    def __init__(self) -> None:
        self._labels = LabelTally()
        self._error = self._energy = 0.0

    def add(self, expected: Tensor, found: Tensor) -> None:
        """Compare the outputs of a patch, [1, classes, D, H, W] on one device."""
        self._labels.add(labels_of(expected), labels_of(found))
        self._error += float((expected - found).square().sum(dtype=torch.float64))
        self._energy += float(expected.square().sum(dtype=torch.float64))

    def result(self) -> Agreement:
        """Return how far they agreed, over all patches together; of at least one."""
        return Agreement(
            voxels_equal=self._labels.voxels_equal,
            dice=self._labels.dice,
            output_error=(self._error / self._energy) ** 0.5 if self._energy else 0.0,
            structures=self._labels.structures,
        )


def least_alike(
    structures: Mapping[int, float], labels: Sequence[Label]
) -> dict[str, str | float] | None:
    """Return the structure that was found least alike, as a mean hides a small one.

    Args:
        structures: As :class:`Agreement` has them.
        labels: The network's.

    Returns:
        Its ``name`` and its ``dice``; None if no structure was found.
    """
    if not structures:
        return None
    value = min(structures, key=structures.__getitem__)
    names = {label.value: label.name for label in labels}
    return {"name": names.get(value, str(value)), "dice": structures[value]}


def labels_of(output: Tensor) -> Tensor:
    """Return the labels [N, D, H, W] that a network's output [N, classes, D, H, W] means.

    Where there is but one class, what is above 0 is it.
    """
    return (output[:, 0] > 0).long() if output.shape[1] == 1 else output.argmax(1)


def _sum(one: Tensor, other: Tensor) -> Tensor:
    size = max(len(one), len(other))
    return torch.nn.functional.pad(one.cpu(), (0, size - len(one))) + torch.nn.functional.pad(
        other.cpu(), (0, size - len(other))
    )
