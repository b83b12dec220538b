"""Cross-layer equalization: channels of an activation are made equally large, at no cost.

Channels are scaled down where they are made and up where they are used, so that one scale per
tensor serves them all; the network computes what it did. After Nagel et al. (ICCV 2019, arXiv
1906.04721), with SmoothQuant's balance (arXiv 2211.10438), because weights with a scale per
output channel lose nothing when a channel is scaled where it is made.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from medptq.progress import Reporter
from medptq.quantization.recovery.channel_classes import ChannelClasses, channel_classes
from medptq.quantization.recovery.channel_ranges import balancing_scales, channel_magnitudes
from medptq.quantization.simulation.simulating import Patches


def equalize(
    model: onnx.ModelProto,
    patches: Patches,
    strength: float = 0.5,
    reporter: Reporter = Reporter(),  # noqa: B008 - it holds no state
) -> onnx.ModelProto:
    """Return a graph of the same function with channels that are more alike.

    Args:
        model: Simplified FP32 graph with static shapes.
        patches: What the channels' magnitudes are measured on.
        strength: How much of their difference is moved from the activations into the weights.
        reporter: Told of progress; may cancel.

    Raises:
        Cancelled: The user asked to stop.
    """
    graph = ir.from_proto(model)
    classes = channel_classes(graph.graph)
    axes = {user.activation: 1 for user in classes.users}
    magnitudes = channel_magnitudes(model, axes, patches, reporter)
    arrays = {
        name: graph.graph.initializers[name].const_value.numpy().astype(np.float64)  # type: ignore[union-attr]
        for name in {m.constant for m in classes.makers} | {u.constant for u in classes.users}
    }
    scales = _scales(classes, magnitudes, arrays, strength)
    for maker in classes.makers:
        arrays[maker.constant] /= _along(scales[maker.classes], maker.axis, arrays[maker.constant])
    for user in classes.users:
        arrays[user.constant] *= _along(scales[user.classes], user.axis, arrays[user.constant])
    for name, array in arrays.items():
        tensor = ir.tensor(array.astype(np.float32), name=name)
        graph.graph.initializers[name].const_value = tensor
    return ir.to_proto(graph)


def _scales(
    classes: ChannelClasses,
    magnitudes: dict[str, NDArray[np.float64]],
    arrays: dict[str, NDArray[np.float64]],
    strength: float,
) -> NDArray[np.float64]:
    count = len(classes.fixed)
    activation, weight = np.zeros(count), np.zeros(count)
    for user in classes.users:
        array = np.abs(arrays[user.constant])
        others = tuple(axis for axis in range(array.ndim) if axis != user.axis)
        np.maximum.at(activation, user.classes, magnitudes[user.activation])
        np.maximum.at(weight, user.classes, array.max(axis=others))
    made = np.zeros(count, bool)
    for maker in classes.makers:
        made[maker.classes] = True
    free = made & ~classes.fixed & (activation > 0) & (weight > 0)
    scales = np.where(free, balancing_scales(activation, weight, strength), 1.0)
    # Channels that are read together keep the largest magnitude that they had together, so that
    # those among them that cannot be scaled are neither better nor worse off.
    for group in _read_together(classes):
        scaled = group[free[group]]
        if len(scaled):
            now = (activation[scaled] / scales[scaled]).max()
            scales[scaled] *= now / activation[scaled].max()
    return scales


def _read_together(classes: ChannelClasses) -> list[NDArray[np.intp]]:
    """Return sets of classes, none of which is read beside one of another set."""
    sets: list[set[int]] = []
    for user in classes.users:
        merged = set(user.classes.tolist())
        apart = []
        for other in sets:
            if merged & other:
                merged |= other
            else:
                apart.append(other)
        sets = [*apart, merged]
    return [np.array(sorted(members), np.intp) for members in sets]


def _along(
    scales: NDArray[np.float64], axis: int, array: NDArray[np.float64]
) -> NDArray[np.float64]:
    return scales.reshape([-1 if a == axis else 1 for a in range(array.ndim)])
