"""Which observer's ranges leave a network saying what it says in FP32: measured, not guessed.

None is the best for every network: scripts/benchmarks/observers.py has one that keeps its Dice with
FP32 by the least squared error and loses all of it by the least entropy, and one whose activations
are zeros but for a few large values, with which it is the other way round. One pass of calibration
tells the ranges of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
import torch
from torch import Tensor

from medptq.graph.executor import GraphExecutor
from medptq.progress import Reporter
from medptq.quantization.agreement import LabelTally, labels_of
from medptq.quantization.recipe import ObserverName

_IN_TURN: tuple[ObserverName, ...] = ("mse", "percentile", "max", "entropy")
"""The likely best first: the others are only looked at where it does not agree well enough."""

_ENOUGH = 0.99
"""Pooled Dice with FP32. By the first, sixteen trained networks gave at least 0.98 of the voxels
that either calls a structure the same label (medquanbench.py): a Dice of 0.99, where none of the
voxels is taken for another structure. A TransUNet with scales per channel has 0.98 by the first and
0.99 by the last (observers.py --granularity channel).
"""


_SHOWN, _SHOWN_VOXELS = 4, 1 << 25
"""Patches that an observer is chosen on, at most, and the voxels after which none is added."""


class Shown:
    """The first patches that calibration ran, which an observer is chosen on.

    Attributes:
        patches: float32 [1, C, D, H, W], each with the labels, int16 [1, D, H, W], that the
            network gives it in FP32.
    """

    def __init__(self) -> None:
        self.patches: list[tuple[Tensor, Tensor]] = []

    def add(self, patch: Tensor, output: Tensor) -> None:
        """Keep a patch on the CPU and what the network says of it, unless there are enough."""
        voxels = sum(one.numel() for one, _ in self.patches)
        if len(self.patches) < _SHOWN and voxels < _SHOWN_VOXELS:
            # At most some hundred classes: a byte or two each.
            self.patches.append((patch, labels_of(output).to("cpu", torch.int16)))


def choose_observer(
    quantized_by: Callable[[ObserverName], onnx.ModelProto],
    shown: Sequence[tuple[Tensor, Tensor]],
    reporter: Reporter,
) -> tuple[ObserverName, dict[ObserverName, float]]:
    """Return the first observer that agrees with FP32 well enough, else the one that does best.

    Args:
        quantized_by: Returns the network with the ranges of an observer, in Q/DQ form.
        shown: Patches [1, C, D, H, W], each with the labels, integers [1, D, H, W], of FP32.
        reporter: Told of progress, and warned where none agrees well enough; may cancel.

    Returns:
        The observer, and the Dice with FP32's labels, pooled, of each that was tried.

    Raises:
        Cancelled: The user asked to stop.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dice: dict[ObserverName, float] = {}
    for observer in _IN_TURN:
        executor, tally = GraphExecutor(quantized_by(observer), device), LabelTally()
        with torch.inference_mode():
            for patch, labels in reporter.track(shown, f"Checking ranges by {observer}"):
                tally.add(labels.long(), labels_of(executor.run(patch.to(device))).cpu())
        dice[observer] = tally.pooled_dice
        if dice[observer] >= _ENOUGH:
            break
    best = max(dice, key=dice.__getitem__)
    if dice[best] < _ENOUGH:
        reporter.warn(
            f"INT8 agrees with FP32 to a Dice of {dice[best]:.3f} on the calibration patches; "
            f"{_ENOUGH} and more is usual. Compare the two on a scan before you use INT8; medptq "
            "quantize --auto may find a recipe that agrees better."
        )
    return best, dice
