"""Time and memory of ``medptq segment`` beside MONAI's sliding window, on a large CT.

A synthetic CT and a MONAI U-Net with random weights; the same network, patch, overlap and Gaussian
blending on every line, each line in its own fresh process, one after the other. Weights do not
change how long a network takes, but with random ones many voxels are near-ties between classes, so
BF16 and INT8 agree less than on a trained network.

    python scripts/benchmarks/sliding_window.py     # 512 x 512 x 400 voxels, 14 classes
    python scripts/benchmarks/sliding_window.py --size 128 128 100 --classes 3

Prints the table and writes it, and JSON, under scripts/benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from publishing import circumstances, footer, publish
from synthetic import monai_unet, write_card, write_ct

from medptq.engines.selection import native_ways

LINES = {
    "monai": "MONAI SlidingWindowInferer, PyTorch FP32",
    "pytorch-fp32": "medptq, PyTorch FP32",
    "openvino-fp32": "medptq, OpenVINO FP32",
    "openvino-bf16": "medptq, OpenVINO BF16",
    "openvino-int8": "medptq, OpenVINO INT8",
}


def run_monai(options: argparse.Namespace) -> dict[str, Any]:
    """Segment as a MONAI script does; run in this process, which was started for it."""
    import psutil
    import torch
    from monai.inferers import SlidingWindowInferer

    from medptq.evaluate.memory import peak_memory_mb

    array = sitk.GetArrayFromImage(sitk.ReadImage(str(options.work / "ct.nii")))
    # What it holds at the end: the outputs, the weights, and the labels as int64.
    needed, free = array.size * (4 * options.classes + 12), psutil.virtual_memory().available
    if needed > free:
        return {"not_run": f"needs about {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB were free"}
    volume = np.clip((array.astype(np.float32) + 175) / 425, 0, 1)
    del array
    network = monai_unet(options.classes)
    patch = (options.patch,) * 3
    inferer = SlidingWindowInferer(patch, sw_batch_size=1, overlap=options.overlap, mode="gaussian")
    started = time.perf_counter()
    with torch.inference_mode():
        outputs = inferer(torch.from_numpy(volume)[None, None], network)
        inferred = time.perf_counter() - started
        labels = outputs[0].argmax(0).to(torch.uint8).numpy()
    seconds = time.perf_counter() - started
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(options.work / "monai.nrrd"), True)
    return {"seconds": seconds, "inference": inferred, "peak_memory_mb": peak_memory_mb()}


def run_line(line: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one line in a process of its own."""
    print(f"{LINES[line]} ...", flush=True)
    work = options.work
    if line == "monai":
        command = [sys.executable, __file__, *sys.argv[1:], "--work", str(work)]
    else:
        engine, precision = line.split("-")
        network = work / ("quantized" if precision == "int8" else "network.onnx")
        command = [sys.executable, "-m", "medptq", "segment", str(network), str(work / "ct.nii")]
        command += ["--output", str(work / f"{line}.nrrd"), "--engine", engine]
        command += ["--precision", precision, "--json", "--quiet"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return {"line": line, "not_run": f"ended with status {done.returncode}"}
    answer = json.loads(done.stdout.splitlines()[-1])
    if line == "monai":
        return {"line": line, **answer}
    seconds = answer["scans"][0]["volume_seconds"]
    return {
        "line": line,
        "seconds": seconds["inference"] + seconds["postprocess"],
        "inference": seconds["inference"],
        "peak_memory_mb": answer["peak_memory_mb"],
    }


def prepare(options: argparse.Namespace) -> None:
    from medptq.models.export import export_onnx
    from medptq.progress import Reporter

    print("Writing the CT, exporting and quantizing the network ...", flush=True)
    shape = (1, 1, *(options.patch,) * 3)
    export_onnx(monai_unet(options.classes), shape, options.work / "network.onnx", Reporter())
    write_card(options.work / "network.json", options.classes, options.patch, options.overlap)
    write_ct(options.work / "ct.nii", options.size)
    command = [sys.executable, "-m", "medptq", "quantize", str(options.work / "network.onnx")]
    command += ["--scans", str(options.work / "ct.nii"), "--patches", "8", "--quiet"]
    subprocess.run([*command, "--output", str(options.work / "quantized")], check=True)


def add_ratios(results: list[dict[str, Any]], work: Path) -> None:
    ran = [result for result in results if "not_run" not in result]
    first = sitk.GetArrayFromImage(sitk.ReadImage(str(work / f"{ran[0]['line']}.nrrd")))
    for result in ran:
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(work / f"{result['line']}.nrrd")))
        result["agreement"] = float(np.mean(first == labels))
        result["speed_ratio"] = ran[0]["seconds"] / result["seconds"]
        result["memory_ratio"] = ran[0]["peak_memory_mb"] / result["peak_memory_mb"]


def table(report: dict[str, Any]) -> str:
    size = " x ".join(str(length) for length in report["size"])
    text = [
        f"# Sliding window: {size} voxels, {report['classes']} classes",
        "",
        f"MONAI U-Net 16-32-64-128-256, random weights, patch {report['patch']}³, overlap "
        f"{report['overlap']}, Gaussian blending. Seconds from the prepared volume to its label "
        "map; peak resident memory of the whole process, reading and writing included. Ratios and "
        "agreement are against the first line.",
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
    return "\n".join(text) + "\n" + footer(report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = {"type": int, "nargs": 3, "metavar": ("I", "J", "K")}
    parser.add_argument("--size", default=(512, 512, 400), **size)
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:  # the process of MONAI's line
        print(json.dumps(run_monai(options)))
        return
    lines = ["monai", *(f"{engine}-{precision}" for engine, precision in native_ways())]
    with tempfile.TemporaryDirectory() as folder:
        options.work = Path(folder)
        prepare(options)
        results = [run_line(line, options) for line in LINES if line in lines]
        add_ratios(results, options.work)
    report = {
        **circumstances(),
        **{name: getattr(options, name) for name in ("size", "classes", "patch", "overlap")},
        "results": results,
    }
    publish("sliding-window", report, table(report))


if __name__ == "__main__":
    main()
