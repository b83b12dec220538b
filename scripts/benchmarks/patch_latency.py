"""One patch of a MONAI U-Net and of a SegResNet: quantized and run beside PyTorch.

Both networks have random weights (which do not change how long they take) and go the whole way:
export, ``quantize`` on synthetic scans, build, run. All engines of this machine are timed in turn,
round by round, in one process.

    python scripts/benchmarks/patch_latency.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import SegResNet
from publishing import circumstances, footer, publish
from synthetic import monai_unet, write_card, write_ct

import medptq
from medptq.engines.selection import get_engine, native_ways
from medptq.inference.networks import Network, open_network
from medptq.models.export import export_onnx

CLASSES, PATCH = 14, 96


def networks() -> dict[str, torch.nn.Module]:
    unet = monai_unet(CLASSES)
    segresnet = SegResNet(3, 16, in_channels=1, out_channels=CLASSES).eval()
    return {
        "MONAI UNet 16-256, 2 residual units, BatchNorm": unet,
        "MONAI SegResNet 16, GroupNorm": segresnet,
    }


def measure(module: torch.nn.Module, rounds: int, folder: Path) -> dict[str, Any]:
    reporter = medptq.Reporter()
    export_onnx(module, (1, 1, PATCH, PATCH, PATCH), folder / "network.onnx", reporter)
    write_card(folder / "network.json", CLASSES, PATCH, 0.25)
    (folder / "scans").mkdir()
    for seed in range(4):
        write_ct(folder / "scans" / f"{seed}.nii", (128, 128, 112), seed)
    plain = medptq.load_model(folder / "network.onnx")
    int8 = medptq.quantize(plain, folder / "scans", folder / "int8", recipe=medptq.Recipe())

    batch = torch.rand(1, 1, PATCH, PATCH, PATCH, generator=torch.Generator().manual_seed(0))
    runs: dict[str, Callable[[], object]] = {"PyTorch FP32, the module": lambda: module(batch)}
    layers: dict[str, Any] = {}
    with torch.inference_mode(), ExitStack() as stack:
        for name, precision in native_ways():
            network: Network = int8 if precision == "int8" else plain
            engine = get_engine(name)
            session = stack.enter_context(open_network(network, engine, precision, reporter))
            title = f"medptq, {name} {precision}"
            layers[title] = dict(session.layer_precisions())
            runs[title] = lambda session=session: session.run(batch).flatten()[:1].cpu()
        times: dict[str, list[float]] = {title: [] for title in runs}
        for number in range(rounds + 2):
            for title, run in runs.items():
                started = time.perf_counter()
                run()
                if number >= 2:  # two rounds warm up
                    times[title].append((time.perf_counter() - started) * 1e3)
    first = statistics.median(next(iter(times.values())))
    return {
        "fp32_mb": plain.onnx.stat().st_size / 1e6,
        "int8_mb": int8.int8.stat().st_size / 1e6,
        "relative_output_error": int8.manifest["agreement_with_fp32"]["relative_output_error"],
        "engines": [
            {
                "title": title,
                "median_ms": statistics.median(values),
                "min_ms": min(values),
                "max_ms": max(values),
                "times_faster": first / statistics.median(values),
                "layers": layers.get(title),
            }
            for title, values in times.items()
        ],
    }


def table(report: dict[str, Any]) -> str:
    text = [
        "# One patch of 96³, batch 1",
        "",
        f"Random weights, {CLASSES} classes; {report['rounds']} rounds in which all take turns.",
        "",
        "| network | run as | median ms | min | max | times faster than the module |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, found in report["networks"].items():
        text += [
            f"| {name} | {way['title']} | {way['median_ms']:.0f} | {way['min_ms']:.0f} "
            f"| {way['max_ms']:.0f} | {way['times_faster']:.2f} |"
            for way in found["engines"]
        ]
        text.append(
            f"| {name} | *file, FP32 to INT8* | {found['fp32_mb']:.1f} to {found['int8_mb']:.1f} MB"
            f" | | | {found['fp32_mb'] / found['int8_mb']:.2f} times smaller |"
        )
    return "\n".join(text) + "\n" + footer(report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    found = {}
    for name, module in networks().items():
        print(f"{name} ...", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(module, options.rounds, Path(folder))
    report = {**circumstances(), "rounds": options.rounds, "networks": found}
    publish("patch-latency", report, table(report))


if __name__ == "__main__":
    main()
