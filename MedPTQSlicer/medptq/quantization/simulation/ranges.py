"""Learning the static range of each group of an activation's values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from medptq.quantization.observers import MagnitudeHistogram, threshold
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.granularity import Groups
from medptq.quantization.simulation.group_histogram import GroupHistogram


class RangeObserver(Protocol):
    """Sees an activation in patch after patch, and then says how far its groups range."""

    def add(self, tensor: Tensor) -> None:
        """See the activation of one patch."""
        ...

    def range_for(self, scheme: Scheme, *, is_image: bool) -> tuple[Tensor, Tensor]:
        """Return the lower and upper ends of the groups' ranges.

        Args:
            scheme: Says by which observer, and for how many bits.
            is_image: Whether the activation is the network's input.

        Returns:
            Two tensors in one shape that broadcasts to the activation; not finite where a value
            was not.
        """
        ...


RangeObserverKind: TypeAlias = Callable[[Groups], RangeObserver]


def kind_of_observer(groups: Groups, scheme: Scheme) -> RangeObserverKind:
    """Return the kind of observer that can say what the scheme will ask of it."""
    if groups.of == "tensor" and scheme.signed:
        return _WholeTensor
    if groups.of == "channels" and scheme.signed and scheme.placing == "openvino":
        return _WithinWhole
    if groups.of == "positions" or scheme.observer == "max":
        return _Extremes
    return _Fitted


class _WholeTensor:
    """One symmetric range, as for INT8."""

    def __init__(self, groups: Groups) -> None:  # noqa: ARG002
        self._histogram = MagnitudeHistogram()

    def add(self, tensor: Tensor) -> None:
        self._histogram.add(tensor)

    def range_for(self, scheme: Scheme, *, is_image: bool) -> tuple[Tensor, Tensor]:
        if not math.isfinite(self._histogram.amax):
            return torch.tensor(-math.inf), torch.tensor(math.inf)
        found = threshold(
            self._histogram,
            scheme.observer,
            scheme.percentile,
            is_image=is_image,
            bits=scheme.activation_bits,
        )
        amax = torch.tensor(found, dtype=torch.float64)
        return -amax, amax


class _Extremes:
    """The smallest and the largest value of each group."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._ends: tuple[Tensor, Tensor] | None = None

    def add(self, tensor: Tensor) -> None:
        low, high = extremes(tensor, self._groups)
        if self._ends is not None:
            low = torch.minimum(low, self._ends[0])
            high = torch.maximum(high, self._ends[1])
        self._ends = low, high

    def range_for(self, scheme: Scheme, *, is_image: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        if self._ends is None:
            raise ValueError("nothing was seen")
        return self._ends


class _Fitted:
    """The range of the least squared error of each group."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._shape: list[int] = []
        self._histogram: GroupHistogram | None = None

    def add(self, tensor: Tensor) -> None:
        inner = self._groups.inner_axes(tensor.ndim)
        self._shape = [1 if axis in inner else size for axis, size in enumerate(tensor.shape)]
        # The channels come first, and all that lies within them is one axis.
        values = tensor.permute(*sorted(range(tensor.ndim), key=inner.__contains__))
        values = values.reshape(math.prod(self._shape), -1)
        if self._histogram is None:
            self._histogram = GroupHistogram(len(values), tensor.device)
        self._histogram.add(values)

    def range_for(self, scheme: Scheme, *, is_image: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        if self._histogram is None:
            raise ValueError("nothing was seen")
        low, high = self._histogram.least_squared_error(
            scheme.activation_bits, signed=scheme.signed
        )
        return low.reshape(self._shape), high.reshape(self._shape)


class _WithinWhole:
    """The largest magnitude of each channel, but none beyond the range of the whole activation.

    What an observer clips of the whole, few outliers mostly, it clips of the channels that have
    them; the others lose nothing. The least squared error of each channel by itself would clip
    them all.
    """

    def __init__(self, groups: Groups) -> None:
        self._channels = _Extremes(groups)
        self._whole = _WholeTensor(groups)

    def add(self, tensor: Tensor) -> None:
        self._channels.add(tensor)
        self._whole.add(tensor)

    def range_for(self, scheme: Scheme, *, is_image: bool) -> tuple[Tensor, Tensor]:
        low, high = self._channels.range_for(scheme, is_image=is_image)
        _, most = self._whole.range_for(scheme, is_image=is_image)
        amax = torch.maximum(-low, high).double().clamp(max=float(most))
        return -amax, amax


def extremes(tensor: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of each group, in a shape that broadcasts."""
    inner = groups.inner_axes(tensor.ndim)
    return tensor.amin(inner, keepdim=True), tensor.amax(inner, keepdim=True)
