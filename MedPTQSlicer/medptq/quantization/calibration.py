"""Streaming unlabeled patches through a network, to learn the range of its activations."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from medptq.errors import QuantizationError, ScanError
from medptq.graph.executor import GraphExecutor
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.observer_choice import Shown
from medptq.quantization.observers import MagnitudeHistogram, threshold
from medptq.quantization.recipe import ObserverName, Recipe
from medptq.scans.digest import digest_of
from medptq.scans.patches import sample_patches
from medptq.scans.prepared import PreparedScan
from medptq.scans.preprocessing import Locator, prepare
from medptq.scans.reading import read_scan
from medptq.scans.sources import ScanSource


class CalibrationPatches:
    """The patches of a folder of scans that a network is calibrated on.

    Every pass yields the same patches, reading one scan at a time.

    Args:
        model: The network, whose card says how a scan is prepared.
        sources: The scans.
        recipe: Says how many patches, and the seed of their choice.
        locate: Runs another model on a scan, for cards that crop to its result.
        reporter: Told of scans that are left out; may cancel.

    Attributes:
        expected: How many patches a pass yields, if every scan can be used.
        scan_digests: SHA-256 of each scan that was used, sorted; complete after a pass.
    """

    def __init__(
        self,
        model: SegmentationModel,
        sources: Sequence[ScanSource],
        recipe: Recipe,
        locate: Locator,
        reporter: Reporter,
    ) -> None:
        self._model = model
        self._sources = sources
        self._recipe = recipe
        self._locate = locate
        self._reporter = reporter
        self._digests: set[str] = set()
        self._tried: set[ScanSource] = set()
        self._yielded: set[bytes] = set()
        # Sixteen patches of a network that takes the whole scan at once need sixteen scans.
        self.expected = min(recipe.patches, len(sources)) if _is_whole(model) else recipe.patches

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the patches, float32 [1, C, D, H, W]."""
        recipe = self._recipe
        for patch in self._sample(self._sources, self._load, recipe.patches, recipe.seed):
            self._yielded.add(_digest(patch))
            yield patch

    def held_out(self, count: int) -> Iterator[NDArray[np.float32]]:
        """Yield up to so many patches that no pass has yielded; after a pass.

        They are of as many scans as there can be: of those that no pass has read, if there are
        any, and else of other places.
        """
        yielded, seed = set(self._yielded), self._recipe.seed + 1
        fresh = [source for source in self._sources if source not in self._tried]
        known = [source for source in self._sources if source in self._tried]
        if _is_whole(self._model):
            known = []
        order = np.random.default_rng(seed).permutation(len(known))
        # Of known scans some may be patches that there were, so more are asked for.
        again = len(self._yielded)
        each = [([known[n]], 1, 1 + again) for n in order]
        for sources, most, asked in ((fresh, count, count), *each, (known, count, count + again)):
            left = min(most, count)
            if left == 0:
                continue
            with contextlib.suppress(ScanError):
                for patch in self._sample(sources, self._prepared, asked, seed):
                    if _digest(patch) in yielded:
                        continue
                    yielded.add(_digest(patch))
                    yield patch
                    left, count = left - 1, count - 1
                    if left == 0:
                        break

    def _sample(
        self,
        sources: Sequence[ScanSource],
        load: Callable[[ScanSource], PreparedScan],
        count: int,
        seed: int,
    ) -> Iterator[NDArray[np.float32]]:
        return sample_patches(sources, load, self._model.patch_size, count, seed, self._reporter)

    @property
    def scan_digests(self) -> list[str]:
        """SHA-256 of each scan that was used so far."""
        return sorted(self._digests)

    def _load(self, source: ScanSource) -> PreparedScan:
        self._tried.add(source)
        prepared = self._prepared(source)
        self._digests.add(digest_of(source))
        return prepared

    def _prepared(self, source: ScanSource) -> PreparedScan:
        model = self._model
        scan = read_scan(source, model.channels)
        return prepare(scan, model.preprocessing, model.axis_order, self._locate)


class KeptPatches(CalibrationPatches):
    """Patches that are prepared once, when they are first asked for, and then stay in memory."""

    _apart: tuple[NDArray[np.float32], ...] | None = None

    @cached_property
    def patches(self) -> tuple[NDArray[np.float32], ...]:
        """The patches, float32 [1, C, D, H, W] each."""
        drawn = super().__iter__()
        return tuple(self._reporter.track(drawn, "Preparing patches", total=self.expected))

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the patches."""
        return iter(self.patches)

    def held_out(self, count: int) -> Iterator[NDArray[np.float32]]:
        """Yield up to so many of the patches that were put apart, or others than these."""
        return super().held_out(count) if self._apart is None else iter(self._apart[:count])

    def beside(self, apart: Sequence[NDArray[np.float32]], most: int | None = None) -> KeptPatches:
        """Return these patches, or the first of them, with others to hold a network against."""
        found = copy.copy(self)
        found.patches, found._apart = self.patches[:most], tuple(apart)
        found.expected = len(found.patches)
        return found


def _digest(patch: NDArray[np.float32]) -> bytes:
    return hashlib.sha256(patch.data).digest()


def _is_whole(model: SegmentationModel) -> bool:
    return any(
        step["step"] == "resize" and tuple(step["size"]) == model.patch_size
        for step in model.preprocessing
    )


@dataclass(frozen=True)
class Calibration:
    """What calibration learned.

    Attributes:
        histograms: For each activation, the distribution of its magnitudes.
        image: Name of the activation that is the network's input.
        shown: The first patches, float32 [1, C, D, H, W], each with the labels, int16
            [1, D, H, W], that the network gives it in FP32.
        patches: How many patches were run.
        patches_sha256: Digest of the patches' voxels, in order: two calibrations with the same
            digest saw the same data.
    """

    histograms: Mapping[str, MagnitudeHistogram]
    image: str
    shown: Sequence[tuple[Tensor, Tensor]]
    patches: int
    patches_sha256: str

    @property
    def maxima(self) -> dict[str, float]:
        """For each activation, the largest magnitude seen."""
        return {name: seen.amax for name, seen in self.histograms.items()}

    def thresholds(self, observer: ObserverName, percentile: float) -> dict[str, float]:
        """Return for each activation the magnitude that becomes the integer 127.

        Args:
            observer: How it is chosen.
            percentile: For the observer of that name.
        """
        return {
            name: threshold(seen, observer, percentile, is_image=name == self.image)
            for name, seen in self.histograms.items()
        }


def calibrate(
    model: onnx.ModelProto,
    activations: Collection[str],
    patches: CalibrationPatches,
    reporter: Reporter,
) -> Calibration:
    """Run each patch through the network once and see how its activations are distributed.

    One histogram per activation, the patch at hand and the few that are shown are in memory.

    Args:
        model: The FP32 graph.
        activations: Names of the values to observe.
        patches: What is run through it, in one pass.
        reporter: Told after each patch; may cancel between patches.

    Raises:
        ScanError: None of the scans can be used.
        QuantizationError: An activation was not finite.
        Cancelled: The user asked to stop.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    executor = GraphExecutor(model, device)
    histograms = {name: MagnitudeHistogram() for name in activations}
    digest = hashlib.sha256()

    def observe(name: str, tensor: Tensor) -> None:
        reporter.check()
        histograms[name].add(tensor)

    count = 0
    shown = Shown()
    with torch.inference_mode():
        for patch in reporter.track(patches, "Calibrating", total=patches.expected):
            digest.update(patch.data)
            image = torch.from_numpy(patch)
            output = executor.run(image.to(device), observe, watch=histograms.keys())
            shown.add(image, output)
            count += 1
    for name, histogram in histograms.items():
        if not np.isfinite(histogram.amax):
            raise QuantizationError(
                "not-finite",
                "The network cannot be quantized",
                why=f"its activation {name!r} became infinite or not a number on these scans",
                todo="Check the card's preprocessing: the network was fed what it is not made for",
            )
    return Calibration(
        histograms=dict(sorted(histograms.items())),
        image=executor.input_name,
        shown=shown.patches,
        patches=count,
        patches_sha256=digest.hexdigest(),
    )
