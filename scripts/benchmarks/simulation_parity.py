"""What is simulated against what INT8 kernels compute, on the same patches of real scans.

    python scripts/benchmarks/simulation_parity.py --data ../shared/data NETWORK.pth ...

Each network is calibrated on patches of its data set's training scans, as several recipes say,
simulated, written with Q/DQ nodes and run by every engine of this machine that knows INT8, on
patches of the test scans. A network's id begins with the name of its data set, the folder in DATA
that has the scans.

A network of few bits is chaotic: where one value falls to the next step of its grid, others
follow. So it is also shown how far the simulation agrees with itself when every activation is off
by one part in ten million, about FP32's own rounding: no engine can be held to more.

What a run of the same day has measured is not measured again, so a run that was stopped can go on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from publishing import RESULTS, circumstances, footer, write
from torch import Tensor

import medptq
from medptq.cli.console import Terminal
from medptq.engines.protocol import BuildRequest
from medptq.engines.selection import engine_to_measure_int8, usable_engines
from medptq.errors import EngineError
from medptq.graph.executor import GraphExecutor
from medptq.graph.external_data import save_graph
from medptq.graph.loading import load_graph
from medptq.inference.networks import model_of
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.agreement import Tally
from medptq.quantization.recipe import Recipe
from medptq.quantization.recovery.recovering import Recovery, simulate_recovered
from medptq.quantization.scheme import scheme_of
from medptq.quantization.simulation.network import SimulatedNetwork
from medptq.quantization.simulation.simulating import simulate
from medptq.quantization.writing import write_quantized
from medptq.scans.patches import sample_patches
from medptq.scans.prepared import PreparedScan
from medptq.scans.preprocessing import prepare
from medptq.scans.reading import read_scan
from medptq.scans.sources import ScanSource, source_of_file

NAME = "simulation-parity"
DATA_SETS = Path(__file__).parents[1] / "data_sets"
NOISE = 1e-7
CALIBRATION, TEST = 8, 4  # patches
SHORT = Recovery(distillation_steps=20)  # it is the arithmetic that is compared, not the quality

RECIPES = {
    "W8A8": Recipe(),
    "W8A8 channel": Recipe(activation_granularity="channel"),
    "W4A8": Recipe(weight_bits=4),
    "W4A4": Recipe(weight_bits=4, activation_bits=4),
    "W4A8 recovered": Recipe(weight_bits=4, recovery=True),
}

Patches = list[NDArray[np.float32]]


def patches_of(
    model: SegmentationModel, data: Path, part: str, count: int, reporter: Reporter
) -> Patches:
    """Return patches of the scans of one part of the split of the network's data set."""
    name = model.id.split("-", maxsplit=1)[0]
    data_set = json.loads((DATA_SETS / f"{name}.json").read_text(encoding="utf-8"))
    split = json.loads((DATA_SETS / data_set["split"]).read_text(encoding="utf-8"))
    sources = [source_of_file(data / name / data_set["image"].format(scan)) for scan in split[part]]

    def load(source: ScanSource) -> PreparedScan:
        scan = read_scan(source, model.channels)
        return prepare(scan, model.preprocessing, model.axis_order, no_model)

    return list(sample_patches(sources, load, model.patch_size, count, 0, reporter))


def no_model(*_: Any) -> Any:
    raise SystemExit("networks whose scans are cropped to another network's result are left out")


def simulated(
    model: SegmentationModel, recipe: Recipe, patches: Patches, reporter: Reporter
) -> SimulatedNetwork:
    graph, scheme = load_graph(model.onnx), scheme_of(recipe)
    if recipe.recovery:
        return simulate_recovered(graph, scheme, patches, SHORT, reporter=reporter)
    return simulate(graph, scheme, patches, reporter=reporter)


def repeated(graph: onnx.ModelProto, batches: list[Tensor]) -> list[Tensor]:
    """Run a quantized graph with each activation off by a little before it is quantized."""
    device = batches[0].device
    executor = GraphExecutor(graph, device)
    generator = torch.Generator(device).manual_seed(0)

    def disturb(_: str, x: Tensor) -> Tensor:
        return x * (1 + NOISE * torch.randn(x.shape, generator=generator, device=device))

    quantized = {n.input[0] for n in graph.graph.node if n.op_type == "QuantizeLinear"}
    with torch.inference_mode():
        return [executor.run(batch, disturb, watch=quantized) for batch in batches]


def row_of(
    network: SimulatedNetwork,
    calibration: Patches,
    patches: Patches,
    work: Path,
    reporter: Reporter,
) -> dict[str, Any]:
    graph, _ = write_quantized(network)
    save_graph(graph, work / "int8.onnx")
    batches = [torch.from_numpy(patch).to(network.device) for patch in patches]
    full = [network.run(batch, ()) for batch in batches]
    few = [network.run(batch) for batch in batches]

    def agreement(expected: list[Tensor], found: list[Tensor]) -> dict[str, float]:
        tally = Tally()
        for one, other in zip(expected, found, strict=True):
            tally.add(one, other.to(one))
        return asdict(tally.result())

    row: dict[str, Any] = {
        "simulated_to_fp32": agreement(full, few),
        "simulated_to_itself": agreement(few, repeated(graph, batches)),
        "engines": {},
    }
    for name, available in usable_engines().items():
        if "int8" not in available.availability().precisions:
            continue
        engine = engine_to_measure_int8(name, lambda: calibration)
        request = BuildRequest(work / "int8.onnx", "int8", network.input_shape)
        try:
            engine.build(request, work / name, reporter)
        except EngineError as error:
            row["engines"][name] = {"failed": str(error)}
            continue
        with engine.open(request, work / name) as session:
            found = [session.run(batch.to(session.device)).float().clone() for batch in batches]
            layers = dict(session.layer_precisions())
        row["engines"][name] = {
            "to_simulated": agreement(few, found),
            "to_fp32": agreement(full, found),
            "layers": layers,
        }
    return row


def table(report: dict[str, Any]) -> str:
    text = [
        "# What is simulated, and what INT8 kernels compute",
        "",
        f"Voxels with the same label, and Dice of the labels but the background, on {TEST} patches "
        f"of test scans; calibrated on {CALIBRATION} patches of training scans, and recovered in "
        f"{SHORT.distillation_steps} steps. *Itself*: the "
        f"simulation with each activation off by about {NOISE:g} of itself, which is what FP32 "
        "rounds off: no engine can be held to more. What an engine leaves in floating point it "
        "runs in BF16 or FP16 where that is native.",
        "",
        "| network | recipe | engine | voxels as simulated | Dice | itself | Dice "
        "| Dice to FP32: simulated | engine | layers |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in report["results"]:
        itself, full = row["simulated_to_itself"], row["simulated_to_fp32"]
        for name, engine in row["engines"].items():
            if "failed" in engine:
                text.append(
                    f"| {row['network']} | {row['recipe']} | {name} | *{engine['failed']}* |"
                )
                continue
            same = engine["to_simulated"]
            layers = ", ".join(f"{count} {kind}" for kind, count in engine["layers"].items())
            text.append(
                f"| {row['network']} | {row['recipe']} | {name} | {same['voxels_equal']:.5f} "
                f"| {same['dice']:.4f} | {itself['voxels_equal']:.5f} | {itself['dice']:.4f} "
                f"| {full['dice']:.4f} | {engine['to_fp32']['dice']:.4f} | {layers} |"
            )
    return "\n".join(text) + "\n" + footer(report)


def results(
    networks: list[str], data: Path, there: set[tuple[str, str]], reporter: Reporter
) -> Iterator[dict[str, Any]]:
    models = [model_of(medptq.load_model(path, reporter=reporter)) for path in networks]
    for name, recipe in RECIPES.items():
        for model in models:
            if (model.id, name) in there:
                continue
            reporter.warn(f"{name}, {model.id}")
            calibration = patches_of(model, data, "train", CALIBRATION, reporter)
            network = simulated(model, recipe, calibration, reporter)
            test = patches_of(model, data, "test", TEST, reporter)
            with tempfile.TemporaryDirectory() as folder:
                row = row_of(network, calibration, test, Path(folder), reporter)
            yield {"network": model.id, "recipe": name, **row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", metavar="NETWORK")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA")
    options = parser.parse_args()
    report: dict[str, Any] = {**circumstances(), "results": []}
    earlier = RESULTS / f"{NAME}-{report['date']}.json"
    if earlier.exists():
        report["results"] = json.loads(earlier.read_text(encoding="utf-8"))["results"]
    there = {(row["network"], row["recipe"]) for row in report["results"]}
    with Terminal(quiet=False) as terminal:
        for row in results(options.networks, options.data, there, terminal.reporter):
            report["results"].append(row)
            write(NAME, report, table(report))
    print(table(report))


if __name__ == "__main__":
    main()
