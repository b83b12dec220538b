"""Segmenting the scans of a folder, one after the other, into files."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from medptq.engines.memory import OUT_OF_MEMORY, let_go_of_what_it_holds, memory_as_error
from medptq.engines.protocol import Engine, Precision, Session
from medptq.errors import EngineError, MedPTQError, ModelError, ScanError
from medptq.inference.batching import windows_at_once
from medptq.inference.choosing import Candidate, choose
from medptq.inference.locating import locator
from medptq.inference.networks import Network, model_of
from medptq.inference.segmenting import Segmentation, segment_scan
from medptq.inference.sessions import SessionPool
from medptq.progress import Reporter
from medptq.scans.preprocessing import Locator
from medptq.scans.reading import read_scan
from medptq.scans.sources import ScanSource
from medptq.scans.writing import write_label_map

Job: TypeAlias = tuple[ScanSource, Path | None]
"""A scan, and the file that its label map is to be written to, if any."""


@dataclass(frozen=True)
class SegmentedScan:
    """One scan's result.

    Attributes:
        name: The scan's name, which scans of several folders may share.
        path: Where it was found: its file, or the first slice of a DICOM series. Like the name
            never written to a log, as it may name the patient.
        segmentation: Labels, and the seconds of each stage.
        load_seconds: Reading the scan.
        output: The file that the label map was written to, if any.
        engine: What ran the network.
        precision: What it ran at.
    """

    name: str
    path: Path
    segmentation: Segmentation
    load_seconds: float
    output: Path | None
    engine: str
    precision: Precision


def segment_sources(
    network: Network,
    jobs: Sequence[Job],
    engines: Mapping[str, Engine],
    way: Candidate,
    *,
    folder: Path,
    precision: Precision | None,
    may_leave_gpu: bool,
    overwrite: bool,
    pool: SessionPool,
    reporter: Reporter,
) -> list[SegmentedScan]:
    """Segment scans one by one; of several, those that fail are left out with a warning.

    A scan fails that cannot be used, or that memory does not suffice for.

    Args:
        network: The network.
        jobs: The scans, and where their label maps go.
        engines: The engines that may be used, by name.
        way: How to run it.
        folder: What the user named, the folder of the scans: where several have one name, they
            are told apart by their paths in it.
        precision: What was asked for, if the way is to be chosen anew; None for the best.
        may_leave_gpu: Whether to go on on the CPU where a GPU's memory does not suffice.
        overwrite: Replace label maps that are there.
        pool: Keeps the sessions.
        reporter: Told of progress; may cancel.

    Raises:
        ScanError: The scan, or every scan, cannot be used.
        EngineError: The network cannot be run, or memory suffices for no scan.
        OutputError: A label map cannot be written.
    """
    results: list[SegmentedScan] = []
    refusal: MedPTQError | None = None
    one_window = False
    shown = _shown_names(folder, [source for source, _ in jobs])
    with locator(pool, reporter) as locate:

        def segment(job: Job) -> SegmentedScan:
            """Segment a scan; where that fails, with one window at a time, then on the CPU."""
            nonlocal way, one_window
            while True:
                engine = engines[way.engine]
                windows = 1 if one_window else windows_at_once(model_of(network), engine)
                try:
                    with (
                        memory_as_error(f"Segmenting {shown[job[0]]}"),
                        pool.session(network, engine, way.precision, reporter, windows) as session,
                    ):
                        return _segment_one(network, session, job, way, locate, overwrite, reporter)
                except (EngineError, ModelError) as error:
                    if windows > 1:
                        one_window = True
                        if error.code == OUT_OF_MEMORY:
                            reporter.warn(
                                "The GPU has not enough free memory for several windows at a time;"
                                " they are run one by one."
                            )
                    elif error.code == OUT_OF_MEMORY and may_leave_gpu:
                        way = _off_the_gpu(network, engines, way, precision, error, reporter)
                    else:
                        raise
                # Tried again only here, where the error no longer keeps the memory that was held.

        for job in reporter.track(jobs, "Segmenting scans"):
            try:
                results.append(segment(job))
            except (ScanError, EngineError) as error:
                if isinstance(error, EngineError) and error.code != OUT_OF_MEMORY:
                    raise
                let_go_of_what_it_holds(error)  # the next scan needs the memory
                refusal = error
                if len(jobs) > 1:
                    reporter.warn(f"{shown[job[0]]} was left out: {error.why}")
    if refusal is not None and not results:
        raise refusal
    return results


def _segment_one(
    network: Network,
    session: Session,
    job: Job,
    way: Candidate,
    locate: Locator,
    overwrite: bool,
    reporter: Reporter,
) -> SegmentedScan:
    source, target = job
    model = model_of(network)
    started = time.perf_counter()
    scan = read_scan(source, model.channels)
    loaded = time.perf_counter() - started
    found = segment_scan(model, session, scan, locate=locate, reporter=reporter)
    if target is not None:
        write_label_map(found.labels, scan, target, overwrite=overwrite)
    return SegmentedScan(
        source.name, source.paths[0], found, loaded, target, way.engine, way.precision
    )


def _off_the_gpu(
    network: Network,
    engines: Mapping[str, Engine],
    way: Candidate,
    precision: Precision | None,
    error: MedPTQError,
    reporter: Reporter,
) -> Candidate:
    """Return the best way on the CPU, where the GPU's memory did not suffice.

    Raises:
        MedPTQError: The one given: it was the CPU's memory, or no other engine can help.
    """
    others = {name: engine for name, engine in engines.items() if not engine.availability().on_gpu}
    if way.engine in others:
        raise error
    try:
        instead = choose(network, others, precision, reporter)
    except EngineError:
        raise error from None
    reporter.warn("The GPU has not enough free memory for this scan; the CPU is used.")
    return instead


def _shown_names(folder: Path, sources: Sequence[ScanSource]) -> dict[ScanSource, str]:
    """Return what each scan is called in messages: its name, or its path where others have it."""
    count = Counter(source.shown for source in sources)
    shown: dict[ScanSource, str] = {}
    for source in sources:
        shown[source] = source.shown
        if count[source.shown] > 1:
            place = source.paths[0].parent.relative_to(folder)
            is_file = len(source.paths) == 1
            shown[source] = str((place if is_file else place.parent) / source.shown)
    return shown
