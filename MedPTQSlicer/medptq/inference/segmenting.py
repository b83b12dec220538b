"""From a scan to its label map."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import psutil
import torch

from medptq.engines.memory import OUT_OF_MEMORY, memory_as_error
from medptq.engines.protocol import Session
from medptq.errors import EngineError, ScanError
from medptq.inference.postprocessing import postprocess
from medptq.inference.restoring import restore
from medptq.inference.restoring_on_gpu import restore_on_gpu
from medptq.inference.sliding import Slab, memory_needed, sliding_window
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.scans.prepared import AxisMap, Located, Prepared
from medptq.scans.preprocessing import Locator, Started, prepare, prepare_on_gpu
from medptq.scans.scan import LabelArray, Scan


@dataclass(frozen=True)
class StageSeconds:
    """How long each stage of one segmentation took, in seconds.

    Attributes:
        preprocess: From the scan as read to the network's input.
        inference: The network, and the one that finds the region to crop to where the card asks
            for it, and the blending of their windows.
        postprocess: From the blended outputs to the finished label map on the scan's grid.
    """

    preprocess: float
    inference: float
    postprocess: float


@dataclass(frozen=True)
class Segmentation:
    """The structures that a network found in a scan.

    Attributes:
        labels: Label map on the scan's own grid, [K, J, I], uint8 or uint16.
        seconds: How long it took.
    """

    labels: LabelArray
    seconds: StageSeconds


def segment_scan(
    model: SegmentationModel,
    session: Session,
    scan: Scan,
    *,
    locate: Locator | None = None,
    reporter: Reporter,
) -> Segmentation:
    """Segment one scan.

    If memory runs out, half as many windows at a time are tried, down to one.

    Args:
        model: The network's card.
        session: The network, built for the card's patch size.
        scan: The scan.
        locate: Runs the model of a given id on the scan; needed by cards that crop to another
            model's result.
        reporter: Told of every batch of windows, and asked for cancellation between them.

    Returns:
        The label map and the seconds it took; reading the scan and building the network are not
        among them.

    Raises:
        ScanError: The scan has other channels than the network, or cannot be prepared.
        ModelError: A step on the card is not known.
        EngineError: The network's output cannot be used, or memory does not suffice.
    """
    if scan.array.shape[0] != model.channels:
        raise ScanError(
            "channels",
            "The scan cannot be segmented",
            why=f"it has {scan.array.shape[0]} image channels and {model.title} takes "
            f"{model.channels}",
            todo="Give a scan with the channels that the model was trained on",
        )
    finder = None if locate is None else _TimedLocator(locate)
    started = time.perf_counter()
    prepared = _prepared(model, session, scan, finder)
    prepared_at = time.perf_counter()
    labels, inference = _run(model, session, prepared, reporter)
    postprocess(labels, model.postprocessing)
    total = time.perf_counter() - prepared_at
    locating = 0.0 if finder is None else finder.seconds
    return Segmentation(
        labels,
        StageSeconds(
            preprocess=prepared_at - started - locating,
            inference=inference + locating,
            postprocess=total - inference,
        ),
    )


def locate_in_scan(
    model: SegmentationModel,
    session: Session,
    scan: Started,
    *,
    locate: Locator | None = None,
    reporter: Reporter,
) -> Located:
    """Find where in a scan something is, on the network's own grid: faster than segmenting it.

    Args:
        model: The network's card.
        session: The network, built for the card's patch size.
        scan: The scan, with the steps of preprocessing that have been done for another network.
        locate: As for :func:`segment_scan`.
        reporter: As for :func:`segment_scan`.

    Raises:
        ScanError: The scan cannot be prepared.
        ModelError: A step on the card is not known.
        EngineError: The network's output cannot be used, or memory does not suffice.
    """
    prepared = _prepared(model, session, scan, locate)
    _, depth, height, width = prepared.array.shape
    own = AxisMap(0, 1.0, 0.0, depth), AxisMap(1, 1.0, 0.0, height), AxisMap(2, 1.0, 0.0, width)
    in_place = replace(prepared, axes=own, scan_shape=(depth, height, width))
    labels, seconds = _run(model, session, in_place, reporter)
    postprocess(labels, model.postprocessing)
    return Located(labels, prepared.axes, seconds)


def _prepared(
    model: SegmentationModel, session: Session, scan: Scan | Started, locate: Locator | None
) -> Prepared:
    """Prepare a scan for a session, where it takes its input."""
    steps, order, device = model.preprocessing, model.axis_order, session.device
    if device.type != "cuda":
        return prepare(scan, steps, order, locate)
    # What the last scan left in pieces would not be put together again for this one.
    torch.cuda.empty_cache()
    with memory_as_error("Preparing the scan"):
        prepared = prepare_on_gpu(scan, steps, order, locate, device)
        torch.cuda.synchronize(device)  # so that each stage's time is its own
    # What the steps took is not of the sizes that the windows take.
    torch.cuda.empty_cache()
    return prepared


def _run(
    model: SegmentationModel, session: Session, prepared: Prepared, reporter: Reporter
) -> tuple[LabelArray, float]:
    """Return the label map before postprocessing, and the seconds of inference alone."""
    _require_memory(memory_needed(prepared, session, model.classes), session)
    batch = session.input_shape[0]
    while True:
        slabs = _Timed(
            sliding_window(
                *(session, prepared, model.overlap, model.classes),
                *(reporter, batch, model.blending),
            )
        )
        try:
            with memory_as_error("Segmenting the scan"):
                return _labels_of(slabs, model, prepared, session.device), slabs.seconds
        except EngineError as error:
            if error.code != OUT_OF_MEMORY or batch == 1:
                raise
        batch //= 2
        if session.device.type == "cuda":
            torch.cuda.empty_cache()
        reporter.warn(
            f"There was not enough memory for {2 * batch} windows at a time; {batch} are tried."
        )


def _labels_of(
    slabs: Iterable[Slab], model: SegmentationModel, prepared: Prepared, device: torch.device
) -> LabelArray:
    if device.type == "cuda":
        return restore_on_gpu(slabs, prepared, model.classes, model.interpolated, device)
    return restore(slabs, prepared, model.classes, model.interpolated)


class _TimedLocator:
    """A locator, and the seconds that its networks ran."""

    def __init__(self, locate: Locator) -> None:
        self._locate = locate
        self.seconds = 0.0

    def __call__(self, scan: Started, model_id: str) -> Located:
        found = self._locate(scan, model_id)
        self.seconds += found.seconds
        return found


class _Timed:
    """Slabs, and the seconds that were spent waiting for them."""

    def __init__(self, slabs: Iterator[Slab]) -> None:
        self._slabs = slabs
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Slab]:
        while True:
            started = time.perf_counter()
            slab = next(self._slabs, None)
            self.seconds += time.perf_counter() - started
            if slab is None:
                return
            yield slab


def _require_memory(needed: int, session: Session) -> None:
    """Refuse before the system kills the program; GPUs say themselves when they are full."""
    available = psutil.virtual_memory().available
    if session.device.type == "cpu" and needed > available:
        raise EngineError(
            "memory",
            "The scan cannot be segmented",
            why=f"it needs {needed / 1e9:.1f} GB of memory and {available / 1e9:.1f} GB are free",
            todo="Close other programs, or use a machine with more memory",
        )
