"""Runs a network over a whole volume, window by window, and hands the blended outputs on in slabs.

The windows are taken in order along one axis. Only the slab that later windows can still change is
kept, in a ring of as many rows as a window has; finished rows are handed on and their place is
used again. A float per class and voxel of the whole volume, which is what fills a machine's memory
for many classes, is never held.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medptq.engines.memory import memory_as_error
from medptq.engines.protocol import Session
from medptq.errors import EngineError
from medptq.inference.windows import importance_of, window_positions
from medptq.models.segmentation_model import Blending
from medptq.progress import Reporter
from medptq.scans.patches import pad_to
from medptq.scans.prepared import Prepared

_LEAST_IN_FP16 = 1e-4
"""The least importance that FP16 holds well: smaller numbers have fewer digits there."""


@dataclass(frozen=True)
class Slab:
    """Neighbouring rows of the network's output on the whole volume.

    Attributes:
        axis: The axis that the rows lie along: 0 for D, 1 for H, 2 for W.
        start: The first row; slabs come in order and without gaps.
        values: Blended outputs, floating point [classes, D, H, W], on the session's device; as
            many rows along ``axis`` as the slab has, the whole volume along the others. Only valid
            until the next slab is asked for.
    """

    axis: int
    start: int
    values: torch.Tensor


def sliding_window(
    session: Session,
    prepared: Prepared,
    overlap: float,
    classes: int,
    reporter: Reporter,
    batch: int | None = None,
    blending: Blending = "gaussian",
) -> Iterator[Slab]:
    """Run the network over a scan.

    Windows lie and are blended as in ``monai.inferers.SlidingWindowInferer``, or as in nnU-Net.
    Volumes smaller than a window are padded as in :func:`medptq.scans.patches.pad_to`.

    Args:
        session: The network.
        prepared: The scan, array [C, D, H, W].
        overlap: Share of a window, from 0 to below 1, that overlaps its neighbour.
        classes: Channels of the network's output.
        reporter: Told of every batch of windows, and asked for cancellation between them.
        batch: Windows to run at once, where it shall be fewer than the session takes.
        blending: How much a window's voxels count where windows overlap: those in its middle the
            most (``"gaussian"``), or all the same (``"constant"``); or, with windows that are
            spread evenly, as in nnU-Net (``"nnunet"``).

    Yields:
        The outputs on the grid of ``prepared.array``, in order along one axis.

    Raises:
        EngineError: The output has another shape or is not finite, or memory ran out.
    """
    patch = session.input_shape[2:]
    with memory_as_error("Loading the scan"):
        volume, padding = pad_to(
            torch.as_tensor(prepared.array, device=session.device), patch, prepared.pad_value
        )
    crop = [
        slice(low, low + length)
        for (low, _), length in zip(padding, prepared.array.shape[1:], strict=True)
    ]
    if volume.shape[1:] == patch:
        for _ in reporter.track([volume], "Segmenting"):
            values = _run(session, volume[None], classes)[0]
        yield Slab(0, 0, _checked(values[(slice(None), *crop)]))
        return
    axis = _streaming_axis(volume.shape[1:], patch)  # never a padded one
    crop[axis] = slice(None)
    positions = window_positions(volume.shape[1:], patch, overlap, axis, blending)
    size = min(batch or len(positions), session.input_shape[0], len(positions))
    batches = [positions[first : first + size] for first in range(0, len(positions), size)]
    with memory_as_error("Blending the windows"):
        importance = importance_of(blending, patch, session.device)
        ring = _Ring(volume.shape[1:], importance, classes, axis)
        windows = volume.new_empty((size, *session.input_shape[1:]))
    for places in reporter.track(batches, "Segmenting"):
        for slot, place in zip(windows[: len(places)], places, strict=True):
            slot.copy_(volume[(slice(None), *_box(place, patch))])
        outputs = _run(session, windows[: len(places)], classes)
        for place, output in zip(places, ring.accepted(outputs), strict=True):
            for start, values in ring.finish(place[axis]):
                yield Slab(axis, start, _checked(values[(slice(None), *crop)]))
            ring.add(place, output)
    for start, values in ring.finish(volume.shape[1 + axis]):
        yield Slab(axis, start, _checked(values[(slice(None), *crop)]))


def memory_needed(prepared: Prepared, session: Session, classes: int) -> int:
    """Return the bytes that :func:`sliding_window` holds beside the network and the scan."""
    patch = session.input_shape[2:]
    lengths = prepared.array.shape[1:]
    shape = [max(int(length), size) for length, size in zip(lengths, patch, strict=True)]
    padded = 4 * session.input_shape[1] * math.prod(shape)
    if tuple(shape) == patch:
        return padded
    axis = _streaming_axis(shape, patch)
    return padded + 4 * (classes + 1) * math.prod(shape) // shape[axis] * patch[axis]


class _Ring:
    """Weighted sums of outputs, for the rows along one axis that can still change.

    Row r of the volume lies at r modulo the window's rows.
    """

    def __init__(
        self,
        shape: Sequence[int],
        importance: torch.Tensor,
        classes: int,
        axis: int,
    ) -> None:
        held, patch = list(shape), importance.shape
        held[axis] = patch[axis]
        self._patch = patch
        self._axis = axis
        self._rows = patch[axis]
        self._first = 0
        self._importance = importance
        self._weights = importance.new_zeros(held)
        # Made with the first outputs, whose type decides theirs.
        self._sums = importance.new_empty(0)
        self._size = (classes, *held)

    def accepted(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the network's outputs in the type that they are added up in."""
        if not self._sums.numel():
            with memory_as_error("Blending the windows"):
                self._importance = self._importance.to(_kind_of_sums(outputs, self._importance))
                self._sums = self._importance.new_zeros(self._size)
        return outputs.to(self._sums.dtype)

    def add(self, place: tuple[int, int, int], output: torch.Tensor) -> None:
        """Add one window's output, [classes, *patch], as :meth:`accepted` returned it."""
        box = list(_box(place, self._patch))
        start = place[self._axis]
        for at, row, count in self._pieces(start, start + self._rows):
            box[self._axis] = slice(at, at + count)
            importance = self._importance.narrow(self._axis, row - start, count)
            part = output.narrow(1 + self._axis, row - start, count)
            # One fused pass; sums += output * importance would fill a second array first.
            self._sums[(slice(None), *box)].addcmul_(part, importance)
            self._weights[tuple(box)].add_(importance)

    def finish(self, stop: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the averages of all rows before ``stop``, with the first row, and forget them."""
        for at, row, count in self._pieces(self._first, stop):
            sums = self._sums.narrow(1 + self._axis, at, count)
            weights = self._weights.narrow(self._axis, at, count)
            yield row, sums.div_(weights)
            sums.zero_()
            weights.zero_()
        self._first = max(stop, self._first)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield (place in the ring, row, count) of unbroken runs of rows."""
        while start < stop:
            at = start % self._rows
            count = min(stop - start, self._rows - at)
            yield at, start, count
            start += count


def _run(session: Session, windows: torch.Tensor, classes: int) -> torch.Tensor:
    outputs = session.run(windows)
    expected = (len(windows), classes, *windows.shape[2:])
    if outputs.shape != expected:
        raise EngineError(
            "output",
            "The network's output cannot be used",
            why=f"it has the shape {tuple(outputs.shape)} instead of {expected}",
            todo="Check the labels and the patch size on the model's card",
        )
    return outputs


def _kind_of_sums(outputs: torch.Tensor, importance: torch.Tensor) -> torch.dtype:
    """Return the type that outputs are added up in.

    Those in FP16, which come from a GPU, in FP16 too: half of what fills its memory for many
    classes. Sums are of a few windows, so they lose no more than the outputs have. Where the
    importance is less than FP16 holds, as nnU-Net's own is in the corners, they are FP32.
    """
    is_held = outputs.dtype == torch.float16 and float(importance.min()) >= _LEAST_IN_FP16
    return torch.float16 if is_held else torch.float32


def _checked(values: torch.Tensor) -> torch.Tensor:
    # A sum is finite only if each term is, and needs no second array; in FP16 it would overflow.
    if not math.isfinite(float(values.sum(dtype=torch.float32))):
        raise EngineError(
            "not-finite",
            "The network's output cannot be used",
            why="it holds values that are infinite or not a number",
            todo="Run it at a higher precision, such as fp32",
        )
    return values


def _streaming_axis(shape: Sequence[int], patch: Sequence[int]) -> int:
    """Return the axis along which the rows of one window are the smallest share of the volume."""
    return int(np.argmax([length / size for length, size in zip(shape, patch, strict=True)]))


def _box(place: Sequence[int], patch: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + size) for first, size in zip(place, patch, strict=True))
