"""Every network that can be built by name: exported, quantized, and run beside PyTorch.

One row a network: its parameters beside the published number, the exported graph and how far it
differs from PyTorch, what was quantized and how far the output moved, and the time of one patch
and the peak memory of each way to run it. Weights are random, which does not change the times;
the INT8 error of a trained network is another one, most of all where the output of untrained
attention is nearly constant. Whatever is timed has a fresh process of its own, one at a time.

    python scripts/benchmarks/zoo.py                                  # all, at 96³
    python scripts/benchmarks/zoo.py --networks unet swinunetr-b      # these, beside today's others
    python scripts/benchmarks/zoo.py --resume                         # those that today's lack
    python scripts/benchmarks/zoo.py --smallest --rounds 1            # quickly: does each run?

Writes the table and JSON under scripts/benchmarks/results/ after each network, and prints the
table at the end. A network that fails has a row that says why, and is tried again by --resume.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from publishing import RESULTS, circumstances, footer, write

import medptq
from medptq.engines.openvino import OpenVINOEngine
from medptq.engines.protocol import BuildRequest, Precision
from medptq.evaluate.latency import measure_latency
from medptq.evaluate.memory import peak_memory_mb
from medptq.models.architectures.building import build_network, options_of
from medptq.models.architectures.registry import ARCHITECTURES, Architecture

PATCH = (96, 96, 96)
GIANTS = ("stunet-l", "stunet-h")  # at the smallest patch, for want of memory and patience
NOTHING = "-"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
WAYS = ("pytorch", *PRECISIONS)


def patch_of(entry: Architecture, options: argparse.Namespace) -> tuple[int, int, int]:
    return entry.smallest if options.smallest or entry.name in GIANTS else PATCH


def network_for(entry: Architecture, patch: tuple[int, int, int]) -> Any:
    import torch

    torch.manual_seed(0)
    options = {}
    if entry.size_option:
        is_edge = isinstance(options_of(entry.name)[entry.size_option], int)
        options = {entry.size_option: patch[0] if is_edge else patch}
    network = build_network(entry.name, **options)
    layers = list(network.modules())
    if any(isinstance(layer, torch.nn.BatchNorm3d) for layer in layers):
        with torch.no_grad():
            for layer in layers:
                if isinstance(layer, (torch.nn.Conv3d, torch.nn.ConvTranspose3d)):
                    randomize(layer)
    return network


def randomize(layer: Any) -> None:
    """Give a convolution weights that keep the variance behind a ReLU (He 2015, section 2.2).

    With those that PyTorch starts from, an image fades away in a network whose normalization does
    not measure it but was to learn it, and any error would look large beside what is left.
    """
    terms = layer.weight.numel() / layer.out_channels
    if layer.transposed:  # only some of the taps meet in one voxel
        terms = max(terms / np.prod(layer.stride), 1)
    layer.weight.normal_(0, float(np.sqrt(2 / terms)))
    if layer.bias is not None:
        layer.bias.zero_()


# What all networks are calibrated and run on.


def write_data(folder: Path) -> None:
    """Write two scans to calibrate on, and a patch of a third one as the card prepares it."""
    import SimpleITK as sitk
    from synthetic import write_ct

    (folder / "scans").mkdir()
    for number in range(2):
        write_ct(folder / "scans" / f"{number}.nii", (112, 112, 104), seed=number)
    write_ct(folder / "other.nii", (112, 112, 104), seed=2)
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "other.nii")))
    prepared = np.clip((voxels.astype(np.float32) + 175) / 425, 0, 1)
    np.save(folder / "patch.npy", prepared[4:100, 8:104, 8:104])


def batch_for(entry: Architecture, options: argparse.Namespace) -> Any:
    """Return the middle of the patch, [1, 1, D, H, W]."""
    import torch

    whole = np.load(options.data / "patch.npy")
    places = (
        slice((have - length) // 2, (have + length) // 2)
        for have, length in zip(whole.shape, patch_of(entry, options), strict=True)
    )
    return torch.from_numpy(whole[tuple(places)].copy())[None, None]


# The steps, each a process. Each tells what it found as soon as it has found it.


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def step_module(entry: Architecture, options: argparse.Namespace) -> None:
    """Time the module itself, then export it."""
    import onnx
    import torch

    from medptq.models.export import export_onnx

    patch, batch = patch_of(entry, options), batch_for(entry, options)
    network = network_for(entry, patch)
    with torch.device("meta"):
        published = build_network(entry.name) if entry.size_option else network
    tell(parameters=sum(parameter.numel() for parameter in published.parameters()))
    with torch.inference_mode():
        classes = network(batch).shape[1]
        tell(pytorch=timing(lambda: network(batch), options), classes=classes)
    path = options.work / "network.onnx"
    report = export_onnx(network, (1, 1, *patch), path, medptq.Reporter())
    tell(
        opset=report.opset,
        exported_nodes=len(onnx.load(path, load_external_data=False).graph.node),
        difference=report.difference,
        dynamic_batch=report.dynamic_batch,
    )


def step_quantize(entry: Architecture, options: argparse.Namespace) -> None:
    import onnx
    from synthetic import write_card

    card = options.work / "network.json"
    write_card(card, options.classes, patch_of(entry, options), 0.25)
    quantized = medptq.quantize(
        options.work / "network.onnx",
        options.data / "scans",
        options.work / "int8",
        recipe=medptq.Recipe(patches=options.patches),
    )
    placement = quantized.manifest["placement"]
    tell(
        nodes=len(onnx.load(quantized.model.onnx, load_external_data=False).graph.node),
        quantized_inputs=placement["activations"],
        quantized_weights=placement["weights"],
        agreement_with_fp32=quantized.manifest["agreement_with_fp32"],
    )


def step_build(entry: Architecture, options: argparse.Namespace) -> None:
    """Build in one precision, so that the memory of building is not that of running."""
    reporter = medptq.Reporter(None, lambda text: tell(warning=text))
    request = request_for(entry, options)
    OpenVINOEngine().build(request, options.work / f"{options.precision}.blob", reporter)


def step_run(entry: Architecture, options: argparse.Namespace) -> None:
    batch, precision = batch_for(entry, options), options.precision
    built = options.work / f"{precision}.blob"
    with OpenVINOEngine().open(request_for(entry, options), built) as session:
        found = timing(lambda: session.run(batch), options)
        found["layers"] = dict(session.layer_precisions())
        tell(**{precision: found})
        output = session.run(batch).float().numpy()
    reference = options.work / "output.npy"
    if precision == "fp32":
        np.save(reference, output)
    elif reference.exists():
        tell(**{precision: found | distance(output[0], np.load(reference)[0])})


def request_for(entry: Architecture, options: argparse.Namespace) -> BuildRequest:
    graph = options.work / "int8" / ("int8.onnx" if options.precision == "int8" else "fp32.onnx")
    return BuildRequest(graph, options.precision, (1, 1, *patch_of(entry, options)))


def distance(found: Any, expected: Any) -> dict[str, float]:
    """Compare two outputs [classes, D, H, W], of one engine on the same patch.

    The error is the root mean square, as a share of how much the output varies from place to
    place: a constant that is added to a class everywhere would make any error look small.
    """
    varying = expected - expected.mean(axis=(1, 2, 3), keepdims=True)
    return {
        "error": float(np.linalg.norm(found - expected) / np.linalg.norm(varying)),
        "voxels_equal": float((found.argmax(0) == expected.argmax(0)).mean()),
    }


def timing(run: Any, options: argparse.Namespace) -> dict[str, Any]:
    found = measure_latency(run, warmup=2, runs=options.rounds, max_seconds=options.seconds)
    return {
        "median_ms": found.median,
        "min_ms": found.min,
        "max_ms": found.max,
        "runs": found.runs,
        "peak_memory_mb": peak_memory_mb(),
    }


def be_killed_first() -> None:
    """Let a giant that takes all of the memory bring down itself, and nobody else's work."""
    chosen = Path("/proc/self/oom_score_adj")
    if chosen.exists():
        chosen.write_text("1000", encoding="ascii")


STEPS = {"module": step_module, "quantize": step_quantize, "build": step_build, "run": step_run}


# One row a network.


def row(entry: Architecture, options: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Take a network through all steps; what fails is said in the row."""
    found: dict[str, Any] = {
        "name": entry.name,
        "patch": patch_of(entry, options),
        "note": options.note,
        "calibrated_on": options.patches,
        "seconds": {},
        "failures": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        common = ["--work", folder, "--data", str(data)]
        if not step("module", entry, found, options, *common):
            return found
        if not step(
            "quantize", entry, found, options, *common, "--classes", str(found.pop("classes"))
        ):
            return found
        native = OpenVINOEngine().availability().precisions
        for precision in PRECISIONS:
            if precision in native:
                more = [*common, "--precision", precision]
                if step("build", entry, found, options, *more):
                    step("run", entry, found, options, *more)
    return found


def step(
    name: str,
    entry: Architecture,
    found: dict[str, Any],
    options: argparse.Namespace,
    *more: str,
) -> bool:
    """Run one step in a process of its own; add to the row what it tells, and why it failed."""
    command = [sys.executable, __file__, "--step", name, "--networks", entry.name, *more]
    command += ["--rounds", str(options.rounds), "--seconds", str(options.seconds)]
    command += ["--patches", str(options.patches), *(["--smallest"] * options.smallest)]
    title = f"{name} {more[-1]}" if "--precision" in more else name
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found["seconds"][title] = round(time.perf_counter() - started, 1)
    for told in filter(lambda text: text.startswith("{"), done.stdout.splitlines()):
        found.update(json.loads(told))
    if "warning" in found:
        found["failures"].append(f"{title}: {found.pop('warning')}".rstrip("."))
    if done.returncode:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else f"ended with {done.returncode}"
        if done.returncode == -signal.SIGKILL:
            reason = "killed, most likely for want of memory"
        found["failures"].append(f"{title}: {reason}".rstrip("."))
        print(f"  {found['failures'][-1]}", flush=True)
    return done.returncode == 0


# The table.


def table(report: dict[str, Any]) -> str:
    measured = {found["name"]: found for found in report["networks"]}
    text = [
        "# Every network: exported, quantized, run",
        "",
        "Random weights, one patch, batch 1. Parameters in millions, ours and published. "
        "Graph: opset, nodes as exported and after simplification, and the largest difference to "
        "PyTorch as a share of the largest output. Q/DQ: quantized inputs and weights. Error "
        "against FP32: root mean square, as a share of how much the output varies, of INT8 and, "
        "to compare it with, of BF16. Times are medians; memory is the peak of a process that "
        "only runs the network. FP32, BF16 and INT8 are OpenVINO's; what an INT8 graph leaves in "
        "floating point runs in BF16. At the smallest patches the deepest maps are a few voxels, "
        "whose normalization makes much of any rounding.",
        "",
        "| network | patch | parameters | graph | Q/DQ | error INT8, BF16 | PyTorch ms | FP32 ms "
        "| BF16 ms | INT8 ms | GB: PyTorch, FP32, BF16, INT8 |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    remarks: dict[str, list[str]] = {}
    for entry in ARCHITECTURES.values():
        found = measured.get(entry.name, {"failures": ["not measured yet"]})
        text.append(line(entry, found))
        for remark in (*found["failures"], found.get("note", "")):
            remarks.setdefault(remark, []).append(entry.title)
    published: dict[str, list[str]] = {}
    for entry in ARCHITECTURES.values():
        where = entry.published.where if entry.published else "none that we know of"
        published.setdefault(f"the published number of parameters: {where}", []).append(entry.title)
    remarks.pop("", None)
    text += ["", *(f"* {'; '.join(names)}: {what}." for what, names in remarks.items())]
    text += [f"* {what}: {'; '.join(names)}." for what, names in published.items()]
    return "\n".join([*text, ""]) + footer(report)


def line(entry: Architecture, found: dict[str, Any]) -> str:
    patch = found.get("patch", PATCH)
    ours = f"{found['parameters'] / 1e6:.2f}" if "parameters" in found else NOTHING
    ways = [found.get(way, {}) for way in WAYS]
    cells = [
        entry.title,
        f"{patch[0]}³" if len(set(patch)) == 1 else "x".join(map(str, patch)),
        f"{ours} / {entry.published.millions if entry.published else NOTHING}",
        f"{found['opset']}, {found['exported_nodes']} → {found.get('nodes', NOTHING)}, "
        f"{found['difference']:.0e}"
        if "opset" in found
        else NOTHING,
        f"{found['quantized_inputs']} + {found['quantized_weights']}"
        if "nodes" in found
        else NOTHING,
        ", ".join(f"{way['error']:.3f}" if "error" in way else NOTHING for way in ways[:1:-1]),
        *(f"{way['median_ms']:.0f}" if way else NOTHING for way in ways),
        ", ".join(f"{way['peak_memory_mb'] / 1e3:.1f}" if way else NOTHING for way in ways),
    ]
    return f"| {' | '.join(cells)} |"


def earlier(date: str) -> dict[str, dict[str, Any]]:
    """Return the rows of that day's result by the networks' names."""
    path = RESULTS / f"zoo-{date}.json"
    if not path.exists():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["networks"]
    return {found["name"]: found for found in rows}


def is_done(found: dict[str, Any] | None, entry: Architecture, options: argparse.Namespace) -> bool:
    wanted = list(patch_of(entry, options))
    return found is not None and not found["failures"] and list(found["patch"]) == wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=ARCHITECTURES, metavar="NAME")
    parser.add_argument("--resume", action="store_true", help="leave out what today's result has")
    parser.add_argument("--rounds", type=int, default=10, help="timed runs of each way")
    parser.add_argument("--seconds", type=float, default=60, help="at most, of each way")
    parser.add_argument("--patches", type=int, default=2, help="to calibrate on")
    parser.add_argument("--note", default="", help="what to say about the rows of this run")
    parser.add_argument("--smallest", action="store_true", help="the smallest patch of each")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=PRECISIONS, help=argparse.SUPPRESS)
    parser.add_argument("--classes", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        warnings.simplefilter("ignore")  # of MONAI
        be_killed_first()
        try:
            STEPS[options.step](ARCHITECTURES[options.networks[0]], options)
        except medptq.MedPTQError as error:
            sys.exit(str(error))
        return
    report = circumstances()
    rows = earlier(report["date"])
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        for name in options.networks or ARCHITECTURES:
            if options.resume and is_done(rows.get(name), ARCHITECTURES[name], options):
                continue
            print(f"{name} ...", flush=True)
            rows[name] = row(ARCHITECTURES[name], options, Path(folder))
            report["networks"] = [rows[known] for known in ARCHITECTURES if known in rows]
            write("zoo", report, table(report))
    report["networks"] = [rows[known] for known in ARCHITECTURES if known in rows]
    print(table(report))


if __name__ == "__main__":
    main()
