"""Time and peak memory of this program's sliding window beside MONAI's, on a large CT.

A synthetic CT and a MONAI U-Net with random weights; the same network, patch, overlap and Gaussian
blending on every line, each line in its own fresh process, one after the other. Weights do not
change how long a network takes; they do make many voxels near-ties between classes, so the
agreement of BF16 is lower here than on a trained network.

    python scripts/benchmarks/sliding_window.py     # 512 x 512 x 400 voxels, 14 classes
    python scripts/benchmarks/sliding_window.py --size 128 128 100 --classes 3

Prints the table and writes it, and JSON, under scripts/benchmarks/results/.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"
sys.path.insert(0, str(ROOT / "MedPTQSlicer"))

LINES = {
    "monai": "MONAI SlidingWindowInferer, PyTorch FP32",
    "pytorch-fp32": "medptq, PyTorch FP32",
    "openvino-fp32": "medptq, OpenVINO FP32",
    "openvino-bf16": "medptq, OpenVINO BF16",
}


def make_network(classes: int) -> Any:
    import torch
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    network = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
        norm="batch",
    )
    return network.eval()


def make_ct(size: tuple[int, int, int]) -> np.ndarray:
    """Return a body with organs in it and noise, float32 [K, J, I] from about 0 to 1."""
    generator = np.random.default_rng(0)
    i, j, k = size
    volume = np.empty((k, j, i), np.float32)
    across = np.linspace(-1, 1, j, dtype=np.float32)[:, None]
    along = np.linspace(-1, 1, i, dtype=np.float32)[None]
    organs = generator.uniform(-0.5, 0.5, (24, 3))
    radii, levels = generator.uniform(0.1, 0.3, 24), generator.uniform(0.2, 0.9, 24)
    for index, height in enumerate(np.linspace(-1, 1, k, dtype=np.float32)):
        plane = 0.4 * ((across / 0.7) ** 2 + (along / 0.9) ** 2 < 1).astype(np.float32)
        for (z, y, x), radius, level in zip(organs, radii, levels, strict=True):
            inside = (height - z) ** 2 + (across - y) ** 2 + (along - x) ** 2 < radius**2
            plane[inside] = level
        volume[index] = plane + generator.standard_normal((j, i), np.float32) * np.float32(0.05)
    return volume


def run_monai(volume: np.ndarray, options: argparse.Namespace) -> tuple[np.ndarray, float]:
    import torch
    from monai.inferers import SlidingWindowInferer

    network = make_network(options.classes)
    inferer = SlidingWindowInferer(
        (options.patch,) * 3, sw_batch_size=1, overlap=options.overlap, mode="gaussian"
    )
    started = time.perf_counter()
    with torch.inference_mode():
        outputs = inferer(torch.from_numpy(volume)[None, None], network)
        labels = outputs[0].argmax(0).to(torch.uint8).numpy()
    return labels, time.perf_counter() - started


def run_ours(
    volume: np.ndarray, options: argparse.Namespace, engine_name: str, precision: Any
) -> tuple[np.ndarray, float]:
    from medptq.engines.protocol import BuildRequest
    from medptq.engines.selection import get_engine
    from medptq.inference.segmenting import segment_scan
    from medptq.models.segmentation_model import Label, Provenance, SegmentationModel
    from medptq.progress import Reporter
    from medptq.scans.scan import Scan

    graph = options.work / "network.onnx"
    model = SegmentationModel(
        id="benchmark",
        title="Benchmark",
        task="",
        modality="CT",
        region="",
        onnx=graph,
        patch_size=(options.patch,) * 3,
        axis_order="KJI",
        channels=1,
        overlap=options.overlap,
        labels=tuple(Label(value, str(value), (0, 0, 0)) for value in range(1, options.classes)),
        preprocessing=(),
        postprocessing=(),
        provenance=Provenance("", "", ""),
    )
    request = BuildRequest(graph, precision, (1, 1, *model.patch_size))
    engine = get_engine(engine_name)
    built = options.work / f"{engine_name}-{precision}.built"
    engine.build(request, built, Reporter())
    with engine.open(request, built) as session:
        started = time.perf_counter()
        scan = Scan(volume[None], np.eye(4), "synthetic")
        labels = segment_scan(model, session, scan, reporter=Reporter()).labels
        return labels, time.perf_counter() - started


def run_line(line: str, options: argparse.Namespace) -> None:
    """Run one line in this process, and leave its labels and figures in the work folder."""
    import psutil

    from medptq.evaluate.memory import peak_memory_mb

    volume = make_ct(options.size)
    # What MONAI holds at the end: the outputs, the weights, and the labels as int64.
    needed = volume.size * (4 * options.classes + 4 + 8)
    free = psutil.virtual_memory().available
    if line == "monai" and needed > free:
        reason = f"needs about {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB were free"
        result: dict[str, object] = {"line": line, "not_run": reason}
    else:
        if line == "monai":
            labels, seconds = run_monai(volume, options)
        else:
            labels, seconds = run_ours(volume, options, *line.split("-"))
        result = {"line": line, "seconds": seconds, "peak_memory_mb": peak_memory_mb()}
        np.save(options.work / f"{line}.npy", labels)
    (options.work / f"{line}.json").write_text(json.dumps(result), encoding="utf-8")


def export(options: argparse.Namespace) -> None:
    from medptq.models.export import export_onnx
    from medptq.progress import Reporter

    shape = (1, 1, *(options.patch,) * 3)
    export_onnx(make_network(options.classes), shape, options.work / "network.onnx", Reporter())


def compare(options: argparse.Namespace, lines: list[str]) -> list[dict[str, Any]]:
    """Run every line in a process of its own; add the ratios and the agreement with the first."""
    results = []
    for line in lines:
        print(f"{LINES[line]} ...", flush=True)
        command = [sys.executable, __file__, *sys.argv[1:], "--work", str(options.work)]
        status = subprocess.run([*command, "--line", line], check=False).returncode
        file = options.work / f"{line}.json"
        if status == 0:
            results.append(json.loads(file.read_text(encoding="utf-8")))
        else:
            results.append({"line": line, "not_run": f"ended with status {status}"})
    ran = [result for result in results if "not_run" not in result]
    for result in ran:
        first = np.load(options.work / f"{ran[0]['line']}.npy", mmap_mode="r")
        labels = np.load(options.work / f"{result['line']}.npy", mmap_mode="r")
        result["agreement"] = float(np.mean(first == labels))
        result["speed_ratio"] = ran[0]["seconds"] / result["seconds"]
        result["memory_ratio"] = ran[0]["peak_memory_mb"] / result["peak_memory_mb"]
    return results


def table(report: dict[str, Any]) -> str:
    size = " x ".join(str(length) for length in report["size"])
    text = [
        f"# Sliding window: {size} voxels, {report['classes']} classes, {report['date']}",
        "",
        f"MONAI U-Net 16-32-64-128-256, patch {report['patch']}³, overlap {report['overlap']}, "
        f"Gaussian blending; {report['windows']} windows. {report['machine']}. Seconds from the "
        "volume in memory to its label map; peak resident memory of the whole process. Ratios and "
        "agreement are against the first line that ran.",
        "",
        "| | seconds | times faster | peak memory, GB | times smaller | same voxels |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for result in report["results"]:
        name = LINES[result["line"]]
        if "not_run" in result:
            text.append(f"| {name} | not run: {result['not_run']} | | | | |")
        else:
            text.append(
                f"| {name} | {result['seconds']:.1f} | {result['speed_ratio']:.2f} "
                f"| {result['peak_memory_mb'] / 1000:.2f} | {result['memory_ratio']:.2f} "
                f"| {result['agreement']:.4%} |"
            )
    return "\n".join(text) + "\n"


def windows(options: argparse.Namespace) -> int:
    from medptq.inference.windows import window_starts

    lengths = [max(length, options.patch) for length in options.size]
    return math.prod(
        len(window_starts(length, options.patch, options.overlap)) for length in lengths
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--size", type=int, nargs=3, default=(512, 512, 400), metavar=("I", "J", "K")
    )
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--line", choices=LINES, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.line:
        run_line(options.line, options)
        return
    from medptq.engines.machine import describe_machine
    from medptq.engines.selection import usable_engines

    usable = usable_engines()
    lines = ["monai"]
    for line in list(LINES)[1:]:
        engine, precision = line.split("-")
        if engine in usable and precision in usable[engine].availability().precisions:
            lines.append(line)
    with tempfile.TemporaryDirectory() as folder:
        options.work = Path(folder)
        export(options)
        results = compare(options, lines)
    machine = describe_machine()
    report = {
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "command": " ".join(["python", "scripts/benchmarks/sliding_window.py", *sys.argv[1:]]),
        "size": list(options.size),
        "classes": options.classes,
        "patch": options.patch,
        "overlap": options.overlap,
        "windows": windows(options),
        "machine": f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb:.0f} GB, "
        f"{platform.system()}, Python {platform.python_version()}",
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    name = f"{report['date']}-sliding-window-{'x'.join(map(str, options.size))}-{options.classes}"
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(table(report), encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    main()
