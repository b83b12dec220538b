"""Patches of prepared scans, such as the network will see, for calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medptq.errors import ScanError
from medptq.progress import Reporter
from medptq.scans.prepared import PreparedScan
from medptq.scans.scan import FloatArray
from medptq.scans.sources import ScanSource

if TYPE_CHECKING:
    from torch import Tensor

Margins: TypeAlias = tuple[tuple[int, int], ...]
"""Voxels that were added before and after, along D, H and W."""

_FOREGROUND_SHARE = 0.75
_COARSE = 64  # voxels along an axis on which foreground is told from background
_TRIES = 20  # at a patch that was not drawn before


def sample_patches(
    sources: Sequence[ScanSource],
    load: Callable[[ScanSource], PreparedScan],
    patch_size: tuple[int, int, int],
    count: int,
    seed: int,
    reporter: Reporter,
) -> Iterator[NDArray[np.float32]]:
    """Yield patches of prepared scans, the same ones for the same arguments.

    Every scan gives the same number of patches, give or take one; if there are more scans than
    patches, the scans are drawn. Three quarters of the patches are centred where the first
    channel stands above its background by Otsu's threshold [1]_, the others anywhere, because a
    network that slides over a scan sees its background too. No patch comes twice. Scans smaller
    than a patch are padded (:func:`pad_to`); a scan that is covered by one patch gives that one
    only, so fewer than ``count`` may come.

    Scans are read one at a time, each when its turn comes, and only one is in memory. What cannot
    be read or prepared is left out with a warning, and the other scans make up for it.

    Args:
        sources: The scans.
        load: Reads a scan and makes the network's input of it.
        patch_size: Voxels (D, H, W) of a patch.
        count: Patches in all.
        seed: Decides which scans and which patches.
        reporter: Is told of scans that were left out, and asked between patches whether to stop.

    Yields:
        float32 [1, C, D, H, W], contiguous; each the receiver's own.

    Raises:
        ScanError: None of the scans could be used (``unusable``), or a preprocessing step is
            wrong (``step``).

    References:
        .. [1] N. Otsu, A threshold selection method from gray-level histograms, IEEE Transactions
           on Systems, Man, and Cybernetics 9(1), 1979.
    """
    order = [int(n) for n in np.random.default_rng(seed).permutation(len(sources))]
    drawn: dict[int, set[tuple[int, ...]]] = {n: set() for n in order}
    last_why = "there are none"
    left, turn = count, 0
    # A second turn is only taken where scans of the first could not give their share.
    while left > 0 and order:
        open_scans = []
        for position, number in enumerate(order):
            if left == 0:
                break
            share = -(-left // (len(order) - position))
            random = np.random.default_rng([seed, number, turn])
            given = 0
            try:
                for patch in _patches_of(
                    partial(load, sources[number]),
                    patch_size,
                    share,
                    random,
                    drawn[number],
                ):
                    reporter.check()
                    yield patch
                    given += 1
            except ScanError as error:
                if error.code == "scan.step":
                    raise  # the model's card is wrong, and no scan will do
                # Only the words are kept: the error itself would keep the scan in memory.
                reporter.warn(f"{sources[number].shown} was left out: {error.why}")
                last_why = error.why
                continue
            left -= given
            if given == share:
                open_scans.append(number)
        order, turn = open_scans, turn + 1
    if count > 0 and left == count:
        raise ScanError(
            "unusable",
            "No scan can be used",
            why=last_why
            if len(sources) < 2
            else f"of {len(sources)}, the last was left out because {last_why}",
            todo="Choose scans of the kind that the model was made for",
        )


@overload
def pad_to(
    array: FloatArray, size: tuple[int, int, int], value: float | None = None
) -> tuple[FloatArray, Margins]: ...


@overload
def pad_to(
    array: Tensor, size: tuple[int, int, int], value: float | None = None
) -> tuple[Tensor, Margins]: ...


def pad_to(
    array: FloatArray | Tensor, size: tuple[int, int, int], value: float | None = None
) -> tuple[FloatArray | Tensor, Margins]:
    """Pad an array that is smaller than a patch, evenly on both sides.

    Calibration and inference both pad by this, so that the network is calibrated on what it sees.

    Args:
        array: float32 [C, D, H, W], NumPy's or on any device.
        size: Voxels (D, H, W) that it must have at least.
        value: What is put around it; None for each channel's minimum.

    Returns:
        The array, padded, or itself if it is large enough; and the voxels that were added before
        and after along D, H and W, where an odd one comes after.
    """
    added = [max(wanted - had, 0) for wanted, had in zip(size, array.shape[1:], strict=True)]
    margins = tuple((more // 2, more - more // 2) for more in added)
    if not any(added):
        return array, margins
    shape = [had + more for had, more in zip(array.shape[1:], added, strict=True)]
    padded: Any
    around: Any
    if isinstance(array, np.ndarray):
        padded = np.empty((len(array), *shape), dtype=array.dtype)
        around = array.min(axis=(1, 2, 3), keepdims=True)
    else:
        padded = array.new_empty((len(array), *shape))
        around = array.amin(dim=(1, 2, 3), keepdim=True)
    padded[:] = around if value is None else value
    inner = (
        slice(before, before + had)
        for (before, _), had in zip(margins, array.shape[1:], strict=True)
    )
    padded[(slice(None), *inner)] = array
    return padded, margins


def _patches_of(
    load: Callable[[], PreparedScan],
    patch_size: tuple[int, int, int],
    share: int,
    random: np.random.Generator,
    drawn: set[tuple[int, ...]],
) -> Iterator[NDArray[np.float32]]:
    """Yield up to ``share`` patches of one scan, which lives only as long as this generator."""
    prepared = load()
    array, _ = pad_to(prepared.array, patch_size, prepared.pad_value)
    del prepared
    room = np.subtract(array.shape[1:], patch_size)
    foreground, step = _foreground_of(array[0])
    for _ in range(share):
        for _ in range(_TRIES):
            if len(foreground) and random.random() < _FOREGROUND_SHARE:
                centre = foreground[random.integers(len(foreground))] * step
                centre = centre + random.integers(step)
                start = np.clip(centre - np.array(patch_size) // 2, 0, room)
            else:
                start = random.integers(room + 1)
            key = tuple(int(n) for n in start)
            if key not in drawn:
                break
        else:
            return
        drawn.add(key)
        window = (slice(n, n + size) for n, size in zip(key, patch_size, strict=True))
        yield array[(np.newaxis, slice(None), *window)].copy()


def _foreground_of(channel: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the coarse voxels [n, 3] above Otsu's threshold, and the voxels they are apart."""
    step = np.maximum(np.array(channel.shape) // _COARSE, 1)
    coarse = np.ascontiguousarray(channel[:: step[0], :: step[1], :: step[2]])
    if coarse.min() == coarse.max():
        return np.empty((0, 3), dtype=np.intp), step
    image = sitk.OtsuThreshold(sitk.GetImageFromArray(coarse), 0, 1)
    return np.argwhere(sitk.GetArrayViewFromImage(image)), step
