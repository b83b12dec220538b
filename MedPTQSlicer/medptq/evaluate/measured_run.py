"""One segmentation, measured in a process of its own.

As a program, ``medptq.evaluate.measured_run`` reads a request from stdin and writes the figures to
stdout, both JSON, and the label map to a file. A process of its own makes the peak of its memory a
clean figure, and keeps what one engine allocated from slowing the next.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import medptq
from medptq.engines.protocol import Precision
from medptq.errors import EngineError, MedPTQError
from medptq.evaluate.latency import Latency
from medptq.evaluate.results import VolumeSeconds
from medptq.inference.networks import Network
from medptq.models.card import card_of, read_card
from medptq.parent_watch import when_parent_dies
from medptq.progress import Reporter
from medptq.quantization.quantized_model import QuantizedModel, load_quantized_model
from medptq.scans.scan import LabelArray
from medptq.scans.sources import ScanSource

_WARMUP = 1
_RUNS = 10
_MAX_SECONDS = 12.0
_PROGRAM = """
import sys
sys.path[:] = filter(None, sys.path)
import runpy
runpy.run_module("medptq.evaluate.measured_run", run_name="__main__", alter_sys=True)
"""
# With -m, a json.py or numpy.py that lies in the working directory would run in their place.
_KILLED = 9  # the signal that Linux and macOS send where memory ran out


@dataclass(frozen=True)
class MeasuredRun:
    """What one engine did with one scan.

    Attributes:
        labels: Label map [K, J, I].
        latency: Of one patch.
        volume_seconds: Of the whole scan, once the network is loaded and warm.
        peak_memory_mb: Of the process, PyTorch and the engine's library included.
        layers: Arithmetic layers by precision, where the engine tells.
    """

    labels: LabelArray
    latency: Latency
    volume_seconds: VolumeSeconds
    peak_memory_mb: float
    layers: Mapping[str, int] | None


def measure_run(
    network: Network,
    source: ScanSource,
    engine: str,
    precision: Precision,
    folder: Path,
    reporter: Reporter,
) -> MeasuredRun:
    """Segment a scan in a fresh process and measure it.

    Build the network first (open a session once and close it): the build is cached, and is then
    not part of the figures.

    Args:
        network: The network.
        source: The scan.
        engine: Name of the engine.
        precision: What it is to run at.
        folder: An existing folder for the files that pass between the processes.
        reporter: May cancel; the process is then ended.

    Raises:
        EngineError: The run failed; the message says how.
        Cancelled: The user asked to stop.
    """
    labels = folder / f"{engine}-{precision}.npy"
    request = {
        "network": _describe(network, folder),
        "scan": {"name": source.name, "paths": [str(path) for path in source.paths]},
        "engine": engine,
        "precision": precision,
        "labels": str(labels),
        "parent": os.getpid(),
    }
    # It finds this package where it was not installed, too, as in 3D Slicer.
    home = str(Path(medptq.__file__).resolve().parents[1])
    # What is empty between two separators stands for the working directory.
    paths = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    with subprocess.Popen(  # noqa: S603 - the program is the constant above
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            answer = _converse(process, json.dumps(request), reporter)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0 or "latency" not in answer:
        raise EngineError(
            "run",
            f"{engine} in {precision} could not be measured",
            why=answer.get("error", _why_it_ended(process.returncode)),
            todo="Choose other engines, or see that nothing else needs the memory",
        )
    return MeasuredRun(
        labels=np.load(labels, allow_pickle=False),
        latency=Latency(**answer["latency"]),
        volume_seconds=VolumeSeconds(**answer["volume_seconds"]),
        peak_memory_mb=answer["peak_memory_mb"],
        layers=answer["layers"],
    )


def _why_it_ended(status: int) -> str:
    if status == -_KILLED:
        return "the system ended its process, most likely because memory ran out"
    return f"its process ended with status {status}"


def _converse(process: subprocess.Popen[str], request: str, reporter: Reporter) -> dict[str, Any]:
    remaining: str | None = request
    while True:
        try:
            output, _ = process.communicate(remaining, timeout=0.2)
        except subprocess.TimeoutExpired:
            remaining = None
            reporter.check()
        else:
            lines = output.strip().splitlines()
            return dict(json.loads(lines[-1])) if lines else {}


def _describe(network: Network, folder: Path) -> dict[str, str]:
    if isinstance(network, QuantizedModel):
        return {"quantized": str(network.folder)}
    card = folder / "card.json"
    card.write_text(json.dumps(card_of(network)), encoding="utf-8")
    return {"card": str(card), "onnx": str(network.onnx)}


def _network(description: Mapping[str, str]) -> Network:
    if "quantized" in description:
        return load_quantized_model(Path(description["quantized"]))
    return read_card(Path(description["card"]), Path(description["onnx"]))


def _run(request: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    from medptq.engines.selection import get_engine
    from medptq.evaluate.latency import measure_latency
    from medptq.evaluate.memory import peak_memory_mb
    from medptq.inference.locating import locator
    from medptq.inference.networks import model_of
    from medptq.inference.segmenting import segment_scan
    from medptq.inference.sessions import SessionPool
    from medptq.scans.preprocessing import Started
    from medptq.scans.reading import read_scan

    reporter = Reporter()
    network = _network(request["network"])
    model = model_of(network)
    source = ScanSource(
        request["scan"]["name"], tuple(Path(path) for path in request["scan"]["paths"])
    )
    engine = get_engine(request["engine"])
    with (
        SessionPool() as pool,
        pool.session(network, engine, request["precision"], reporter) as session,
        locator(pool, reporter) as locate,
    ):
        # The first run of a session, and of what finds the crop, pays for more than its own work.
        patch = torch.zeros(session.input_shape, device=session.device)
        session.run(patch)
        for step in model.preprocessing:
            if step["step"] == "crop_to_model":
                locate(Started(read_scan(source, model.channels)), step["model"])
        started = time.perf_counter()
        scan = read_scan(source, model.channels)
        loaded = time.perf_counter() - started
        found = segment_scan(model, session, scan, locate=locate, reporter=reporter)
        np.save(request["labels"], found.labels)
        latency = measure_latency(
            # Reading one value waits for the device.
            lambda: session.run(patch).flatten()[:1].cpu(),
            warmup=_WARMUP,
            runs=_RUNS,
            max_seconds=_MAX_SECONDS,
        )
        layers = session.layer_precisions()
    seconds = VolumeSeconds(load=loaded, **dataclasses.asdict(found.seconds))
    return {
        "latency": dataclasses.asdict(latency),
        "volume_seconds": dataclasses.asdict(seconds),
        "peak_memory_mb": peak_memory_mb(),
        "layers": dict(layers) or None,
    }


def _main() -> int:
    # Ctrl-C reaches every process of the terminal; here the parent decides, and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints must not come between the figures.
    answer_to, sys.stdout = sys.stdout, sys.stderr
    request = json.load(sys.stdin)
    when_parent_dies(lambda: os._exit(1), [request["parent"]])
    try:
        answer = _run(request)
    except MedPTQError as error:
        answer = {"error": str(error).rstrip(".")}
    # Python flushes what is standard output as it ends, which this no longer is.
    print(json.dumps(answer), file=answer_to, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
