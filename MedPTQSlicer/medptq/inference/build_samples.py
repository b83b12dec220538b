"""Patches of the scans at hand, on which an engine that is built for them is checked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medptq.engines.protocol import MOST_SAMPLES, Samples
from medptq.errors import ScanError
from medptq.inference.locating import locator
from medptq.inference.sessions import SessionPool
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.calibration import CalibrationPatches
from medptq.quantization.recipe import Recipe
from medptq.scans.sources import ScanSource


def samples_of(
    model: SegmentationModel, sources: Sequence[ScanSource], reporter: Reporter
) -> Samples:
    """Return what reads patches of some scans when it is called; none if no scan can be used.

    Args:
        model: The network, whose card says how a scan is prepared.
        sources: The scans.
        reporter: May cancel. It is told nothing: who uses the scans tells what is wrong with them.
    """
    quiet = Reporter(cancelled=reporter.cancelled)

    def samples() -> list[NDArray[np.float32]]:
        with SessionPool() as pool, locator(pool, quiet) as locate:
            try:
                return list(
                    CalibrationPatches(model, sources, Recipe(patches=MOST_SAMPLES), locate, quiet)
                )
            except ScanError:
                return []

    return samples
