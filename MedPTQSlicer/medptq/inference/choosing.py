"""Which engine and precision serve a network best on the machine at hand: measured, not assumed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from medptq.artifacts import atomic_file, sha256_of, write_json
from medptq.engines.protocol import Engine, Precision
from medptq.errors import EngineError, ModelError, OutputError
from medptq.inference.batching import windows_at_once
from medptq.inference.networks import Network, graph_of, model_of, open_network
from medptq.models.cache import cache_folder
from medptq.progress import Reporter
from medptq.quantization.quantized_model import QuantizedModel

MIN_VOXELS_EQUAL = 0.99
"""INT8 is only chosen if calibration found at least this share of voxels labelled as in FP32."""

MIN_STRUCTURE_DICE = 0.85
"""And only if each structure had at least this Dice with FP32: small ones are few voxels.

Like the share of voxels it is a choice, not a finding; whoever asks for INT8 gets it all the same.
"""

_RUNS = 3
_HOPELESS = 4.0
"""How many times slower than another way a first run must be for no more runs to be spent on it."""


@dataclass(frozen=True)
class Candidate:
    """One way to run a network here.

    Attributes:
        engine: The engine's name.
        precision: What it runs at.
        milliseconds: Median time of one patch.
    """

    engine: str
    precision: Precision
    milliseconds: float


def choose(
    network: Network, engines: Mapping[str, Engine], precision: Precision | None, reporter: Reporter
) -> Candidate:
    """Return the fastest way to run a network on this machine.

    Each engine is timed on one patch at each precision that it runs natively; the result is kept
    in the cache for this network, these engines and this hardware. INT8 takes part only if the
    network's own calibration found it to agree with FP32.

    Args:
        network: The network, plain or quantized.
        engines: The engines that may be chosen; usable ones.
        precision: The only precision to consider, or None for any.
        reporter: Told of progress, and of INT8 that was left out; may cancel.

    Raises:
        EngineError: No engine runs the network.
        ModelError: INT8 is asked of a network that was not quantized.
    """
    ways = [
        (engine, offered)
        for engine in engines.values()
        for offered in engine.availability().precisions
        if offered == (precision or offered)
        and (precision or _may_win(engine, offered))
        and _is_offered(network, offered, precision, reporter)
    ]
    if len(ways) == 1:
        engine, offered = ways[0]
        return Candidate(engine.name, offered, 0.0)
    memory = cache_folder("engines") / f"choice-{_key(network, ways)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Candidate(**json.loads(memory.read_text(encoding="utf-8")))
    timed: list[Candidate] = []
    failure: EngineError | None = None
    for engine, offered in reporter.track(ways, "Timing engines"):
        try:
            best = min((way.milliseconds for way in timed), default=math.inf)
            milliseconds = _time(network, engine, offered, best, reporter)
            timed.append(Candidate(engine.name, offered, milliseconds))
        except EngineError as error:
            reporter.warn(str(error))
            failure = error
    if not timed:
        raise failure or EngineError(
            "precision",
            f"{model_of(network).title} cannot be run",
            why=f"no engine here runs {precision} natively",
            todo="Choose another precision, or 'best'",
        )
    chosen = min(timed, key=lambda candidate: candidate.milliseconds)
    # The choice is only remembered to save time: where the cache is full it is made again.
    with contextlib.suppress(OutputError), atomic_file(memory, overwrite=True) as part:
        write_json(part, asdict(chosen))
    return chosen


def _may_win(engine: Engine, precision: Precision) -> bool:
    """Tell whether a way may be the fastest; others are not built for nothing.

    TensorRT takes minutes to build, and its FP16 runs faster than its FP32. Where FP16 does
    not do, PyTorch's FP32 is there.
    """
    offers_faster = "fp16" in engine.availability().precisions
    return not (engine.name == "tensorrt" and precision == "fp32" and offers_faster)


def _is_offered(
    network: Network, offered: Precision, asked: Precision | None, reporter: Reporter
) -> bool:
    if offered != "int8":
        return True
    if not isinstance(network, QuantizedModel):
        if asked == "int8":
            graph_of(network, "int8")  # raises, saying what to do
        return False
    disagreement = _disagreement(network)
    if asked is None and disagreement:
        reporter.warn(f"INT8 was left out: {disagreement}. Ask for it with --precision int8.")
        return False
    return True


def _disagreement(network: QuantizedModel) -> str:
    """Return what calibration found INT8 to do otherwise than FP32; ``""`` if it agrees."""
    agreement = network.manifest["agreement_with_fp32"]
    equal, least = float(agreement["voxels_equal"]), agreement.get("least_alike")
    if equal < MIN_VOXELS_EQUAL:
        return (
            f"at calibration only {equal:.1%} of the voxels were labelled as in FP32 "
            f"({MIN_VOXELS_EQUAL:.0%} are asked)"
        )
    if "least_alike" in agreement and least is None:
        return "at calibration FP32 found nothing in the patches that were kept apart to compare on"
    if least and float(least["dice"]) < MIN_STRUCTURE_DICE:
        return (
            f"at calibration {least['name']} had a Dice of only {float(least['dice']):.3f} with "
            f"FP32 ({MIN_STRUCTURE_DICE:g} is asked)"
        )
    return ""


def _time(
    network: Network, engine: Engine, precision: Precision, best: float, reporter: Reporter
) -> float:
    """Return the median milliseconds of a patch; of fewer runs if it is far from the best."""
    windows = windows_at_once(model_of(network), engine)
    if windows > 1:
        # Some graphs only take one window, and some GPUs only hold one.
        with contextlib.suppress(EngineError, ModelError):
            return _time_of(network, engine, precision, best, reporter, windows)
    return _time_of(network, engine, precision, best, reporter, 1)


def _time_of(
    network: Network,
    engine: Engine,
    precision: Precision,
    best: float,
    reporter: Reporter,
    windows: int,
) -> float:
    with open_network(network, engine, precision, reporter, windows) as session:
        generator = torch.Generator().manual_seed(0)
        batch = torch.randn(session.input_shape, generator=generator).to(session.device)
        milliseconds = []
        for _ in range(_RUNS + 1):  # the first warms up
            reporter.check()
            started = time.perf_counter()
            session.run(batch).flatten()[:1].cpu()  # waits for the device
            milliseconds.append((time.perf_counter() - started) * 1e3 / windows)
            if min(milliseconds) > _HOPELESS * best:
                return min(milliseconds)
    return statistics.median(milliseconds[1:])


def _key(network: Network, ways: list[tuple[Engine, Precision]]) -> str:
    parts: list[Any] = [sha256_of(graph_of(network, precision)) for _, precision in ways]
    for engine, precision in ways:
        availability = engine.availability()
        parts.append([engine.name, precision, availability.version, availability.hardware])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
