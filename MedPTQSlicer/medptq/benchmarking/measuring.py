"""One network on the scans of one data set, recipe by recipe."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medptq.benchmarking.data_set import HeldPairs, Pair
from medptq.benchmarking.opening import Opener
from medptq.benchmarking.recipes import FP32, Built, Way
from medptq.benchmarking.subject import Plan, Subject
from medptq.engines.memory import memory_as_error
from medptq.engines.protocol import Session
from medptq.engines.selection import get_engine
from medptq.evaluate.metrics import dice, nsd
from medptq.inference.locating import locator
from medptq.inference.segmenting import segment_scan
from medptq.inference.sessions import SessionPool
from medptq.progress import Reporter
from medptq.scans.scan import LabelArray


@dataclass(frozen=True)
class ScanScores:
    """What one recipe made of one scan.

    Attributes:
        dice: By the structure's number; None for one that is neither there nor was found.
        nsd: Likewise.
        voxels: Of the scan.
        voxels_equal: Those with the same label as in FP32.
        foreground: Voxels that FP32 or this recipe calls a structure.
    """

    dice: Mapping[int, float | None]
    nsd: Mapping[int, float | None]
    voxels: int
    voxels_equal: int
    foreground: int


@dataclass(frozen=True)
class Measured:
    """What one recipe made of a network, on all scans of the test.

    Attributes:
        scans: Each scan's scores, in the order of the split.
        engine: What ran it: ``"simulated"``, or an engine with its version.
        layers: Arithmetic layers by the precision that they ran in, where that is known.
        seconds: Of preparing (calibration, recovery, building) and of testing.
    """

    scans: tuple[ScanScores, ...]
    engine: str
    layers: Mapping[str, int]
    seconds: Mapping[str, float]


class Bench:
    """A network with all that its recipes share: patches, and what FP32 found in the scans.

    Args:
        subject: The network.
        plan: What it is calibrated and tested on.
        pairs: The tested scans.
        reporter: Told of progress; may cancel.

    Attributes:
        subject: The network.
    """

    def __init__(self, subject: Subject, plan: Plan, pairs: HeldPairs, reporter: Reporter) -> None:
        self.subject = subject
        self._plan = plan
        self._pairs = pairs
        self._reporter = reporter
        self._fp32: list[bytes] = []
        self._stack = contextlib.ExitStack()
        pool = self._stack.enter_context(SessionPool())
        self._locate = self._stack.enter_context(locator(pool, reporter))
        self._opener = Opener(subject.model, plan, self._locate, reporter)

    def close(self) -> None:
        """Release what is held."""
        self._stack.close()

    def measure(self, way: Way, title: str) -> Measured:
        """Run the network over all scans of the test.

        Args:
            way: How it is run.
            title: What that is called in reports of progress.

        Raises:
            MedPTQError: The network cannot be run so, or a scan cannot be used.
            Cancelled: The user asked to stop.
        """
        if not self._fp32 and not isinstance(way, FP32):
            with self._session(FP32()) as session:
                self._run(session, f"{self.subject.model.id}, FP32", is_fp32=True)
        started = time.perf_counter()
        with self._session(way) as session:
            opened = time.perf_counter()
            stage = f"{self.subject.model.id}, {title}"
            scans = self._run(session, stage, is_fp32=isinstance(way, FP32))
            layers = dict(session.layer_precisions())
        ended = time.perf_counter()
        return Measured(
            scans=tuple(scans),
            engine=_engine_of(way),
            layers=layers,
            seconds={"preparing": opened - started, "testing": ended - opened},
        )

    @contextlib.contextmanager
    def _session(self, way: Way) -> Iterator[Session]:
        # TF32, which GPUs use for convolutions unless told not to, is not FP32.
        with (
            memory_as_error(f"Testing {self.subject.model.title}"),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
            self._opener.session(way) as session,
        ):
            yield session

    def _run(self, session: Session, stage: str, *, is_fp32: bool) -> list[ScanScores]:
        model, found, maps = self.subject.model, [], []
        pairs = self._pairs.with_channels(model.channels)
        for number, pair in enumerate(self._reporter.track(pairs, stage, len(self._pairs))):
            quiet = Reporter(cancelled=self._reporter.cancelled)
            labels = segment_scan(
                model, session, pair.scan, locate=self._locate, reporter=quiet
            ).labels
            if is_fp32:
                maps.append(zlib.compress(labels.tobytes(), 1))
                reference = labels
            else:
                flat = np.frombuffer(zlib.decompress(self._fp32[number]), labels.dtype)
                reference = flat.reshape(labels.shape)
            found.append(self._scores(pair, labels, reference))
        if is_fp32:
            self._fp32 = maps
        return found

    def _scores(self, pair: Pair, labels: LabelArray, reference: LabelArray) -> ScanScores:
        values = [label.value for label in self.subject.model.labels]
        tolerance = self._plan.data.nsd_tolerance_mm
        return ScanScores(
            dice=dice(pair.labels, labels, values),
            nsd=nsd(pair.labels, labels, values, pair.scan.spacing, tolerance),
            voxels=labels.size,
            voxels_equal=int(np.count_nonzero(labels == reference)),
            foreground=int(np.count_nonzero((labels != 0) | (reference != 0))),
        )


def _engine_of(way: Way) -> str:
    if not isinstance(way, Built):
        return "pytorch" if isinstance(way, FP32) else "simulated"
    return f"{way.engine} {get_engine(way.engine).availability().version}"


def measured_to_json(measured: Measured) -> dict[str, Any]:
    """Return the figures as plain values for JSON, without the seconds."""
    return {
        "engine": measured.engine,
        "layers": dict(measured.layers),
        "scans": [
            {
                "dice": {str(label): value for label, value in scan.dice.items()},
                "nsd": {str(label): value for label, value in scan.nsd.items()},
                "voxels": scan.voxels,
                "voxels_equal": scan.voxels_equal,
                "foreground": scan.foreground,
            }
            for scan in measured.scans
        ],
    }
