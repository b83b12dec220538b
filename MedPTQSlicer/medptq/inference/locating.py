"""Finding the part of a scan that a network is to see, with a model of the catalogue."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from medptq.engines.protocol import Session
from medptq.engines.selection import default_engine
from medptq.inference.segmenting import locate_in_scan
from medptq.inference.sessions import SessionPool
from medptq.models.loading import load_model
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.scans.prepared import Located
from medptq.scans.preprocessing import Locator, Started


@contextlib.contextmanager
def locator(pool: SessionPool, reporter: Reporter) -> Iterator[Locator]:
    """Yield a function that runs a catalogue's model on a scan, for cards that crop to it.

    It always runs in FP32 on this machine's default engine, whatever the network proper runs on,
    so that FP32 and INT8, and calibration, see the same crop.
    """
    opened: dict[str, tuple[SegmentationModel, Session]] = {}
    with contextlib.ExitStack() as sessions:

        def locate(scan: Started, model_id: str) -> Located:
            if model_id not in opened:
                model = load_model(model_id, reporter)
                session = pool.session(model, default_engine(), "fp32", reporter)
                opened[model_id] = model, sessions.enter_context(session)
            model, opened_session = opened[model_id]
            # Silent but for cancelling: a bar for each scan's locating would only flicker.
            quiet = Reporter(cancelled=reporter.cancelled)
            return locate_in_scan(model, opened_session, scan, locate=locate, reporter=quiet)

        yield locate
