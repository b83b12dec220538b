"""Streaming unlabeled patches through a network, to learn the range of its activations."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from medptq.errors import QuantizationError
from medptq.graph.executor import GraphExecutor
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.observers import MagnitudeHistogram, threshold
from medptq.quantization.recipe import Recipe
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
        # Sixteen patches of a network that takes the whole scan at once need sixteen scans.
        self.expected = min(recipe.patches, len(sources)) if _is_whole(model) else recipe.patches

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the patches, float32 [1, C, D, H, W]."""
        return sample_patches(
            self._sources,
            self._load,
            self._model.patch_size,
            self._recipe.patches,
            self._recipe.seed,
            self._reporter,
        )

    @property
    def scan_digests(self) -> list[str]:
        """SHA-256 of each scan that was used so far."""
        return sorted(self._digests)

    def _load(self, source: ScanSource) -> PreparedScan:
        scan = read_scan(source, self._model.channels)
        model = self._model
        prepared = prepare(scan, model.preprocessing, model.axis_order, self._locate)
        self._digests.add(digest_of(source))
        return prepared


def _is_whole(model: SegmentationModel) -> bool:
    return any(
        step["step"] == "resize" and tuple(step["size"]) == model.patch_size
        for step in model.preprocessing
    )


@dataclass(frozen=True)
class Calibration:
    """What calibration learned.

    Attributes:
        thresholds: For each activation, the magnitude that becomes the integer 127.
        maxima: For each activation, the largest magnitude seen.
        patches: How many patches were run.
        patches_sha256: Digest of the patches' voxels, in order: two calibrations with the same
            digest saw the same data.
    """

    thresholds: dict[str, float]
    maxima: dict[str, float]
    patches: int
    patches_sha256: str


def calibrate(
    model: onnx.ModelProto,
    activations: Collection[str],
    patches: CalibrationPatches,
    recipe: Recipe,
    reporter: Reporter,
) -> Calibration:
    """Run each patch through the network once and choose a range for each activation.

    One patch and one histogram per activation are in memory at a time.

    Args:
        model: The FP32 graph.
        activations: Names of the values to observe.
        patches: What is run through it, in one pass.
        recipe: Says how ranges are chosen.
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
    with torch.inference_mode():
        for patch in reporter.track(patches, "Calibrating", total=patches.expected):
            digest.update(patch.data)
            executor.run(torch.from_numpy(patch).to(device), observe, watch=histograms.keys())
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
        thresholds={
            name: threshold(h, recipe, is_image=name == executor.input_name)
            for name, h in sorted(histograms.items())
        },
        maxima={name: h.amax for name, h in sorted(histograms.items())},
        patches=count,
        patches_sha256=digest.hexdigest(),
    )
