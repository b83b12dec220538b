"""A whole volume, from file to label map: MONAI's sliding window, and ``medptq segment``.

A synthetic CT and one network with random weights, the last of them scaled so that every class is
found. That does not change the times, but leaves many voxels near-ties between classes: labels
agree less than a trained network's. The windows and their blending are the same on every line. Each
line has a process of its own, which segments the scan several times: the first time loads and warms
up, the median of the others is shown, stage by stage.

    python scripts/benchmarks/whole_volume.py                # 350 x 350 x 300, 14 and 105 classes
    python scripts/benchmarks/whole_volume.py --file-mm 1.0  # of a file with smaller voxels
    python scripts/benchmarks/whole_volume.py --size 96 96 96 --classes 3 --patch 32 --runs 1

On a GPU MONAI's line is what its users run: the network in PyTorch AMP, the volume and the
stitching on the GPU; if the memory does not suffice for that, the stitching on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from publishing import RESULTS, circumstances, footer, publish, write
from synthetic import write_card, write_ct

MM = 1.5
STAGES = ("read", "preprocess", "inference", "postprocess", "write")
LINES = {
    "monai": "MONAI SlidingWindowInferer",
    "pytorch-fp32": "medptq, PyTorch FP32",
    "pytorch-fp16": "medptq, PyTorch AMP",
    "openvino-fp32": "medptq, OpenVINO FP32",
    "openvino-int8": "medptq, OpenVINO INT8",
    "tensorrt-fp16": "medptq, TensorRT FP16",
    "tensorrt-int8": "medptq, TensorRT INT8 as chosen",
}
ON_GPU = ("monai", "pytorch-fp16", "tensorrt-fp16", "tensorrt-int8")
ON_CPU = ("monai", "pytorch-fp32", "openvino-fp32", "openvino-int8")


# One task, in a process of its own; its last line of output is its answer.


def make(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Export and quantize the network, and write its scan."""
    import torch

    import medptq
    from medptq.models.export import export_onnx

    write_ct(work / "calibration.nii", (options.patch + 16,) * 3, 1, (MM,) * 3)
    module = network(options)
    balance(module, work / "calibration.nii", options)
    torch.save(module.state_dict(), work / "network.pt")
    path = work / "network.onnx"
    shape = (1, 1, *(options.patch,) * 3)
    export_onnx(module, shape, path, medptq.Reporter())
    resampled = options.file_mm != MM
    steps = [{"step": "spacing", "mm": [MM] * 3, "align": "monai"}] if resampled else []
    card = path.with_suffix(".json")
    write_card(card, options.classes[0], options.patch, options.overlap, first_steps=steps)
    i, j, k = (round(length * MM / options.file_mm) for length in options.size)
    write_ct(scan_of(options, work), (i, j, k), spacing=(options.file_mm,) * 3)
    recipe = medptq.Recipe(patches=2)
    medptq.quantize(path, work / "calibration.nii", work / "int8", recipe=recipe)
    return {}


def network(options: argparse.Namespace) -> Any:
    import torch

    from medptq.models.architectures.building import build_network

    torch.manual_seed(0)
    return build_network(options.network, classes=options.classes[0])


def balance(module: Any, scan: Path, options: argparse.Namespace) -> None:
    """Scale the last convolution so that over a patch each class has mean 0 and deviation 1."""
    import torch

    part = (slice(options.patch),) * 3
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(scan)))[part].astype(np.float32)
    last = [
        layer
        for layer in module.modules()
        if isinstance(layer, torch.nn.Conv3d) and layer.out_channels == options.classes[0]
    ][-1]
    with torch.no_grad():
        output = module(torch.from_numpy(np.clip((voxels + 175) / 425, 0, 1))[None, None])
        mean, deviation = output.mean((0, 2, 3, 4)), output.std((0, 2, 3, 4))
        last.weight.div_(deviation.reshape(-1, 1, 1, 1, 1))
        last.bias.sub_(mean).div_(deviation)


def scan_of(options: argparse.Namespace, work: Path) -> Path:
    return work / f"ct{options.suffix}"


def run_monai(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True  # as MONAI's bundles set it
    module = network(options)
    module.load_state_dict(torch.load(work / "network.pt", weights_only=True))
    module.to(device)
    note = "AMP, volume and stitching on the GPU" if device.type == "cuda" else "FP32"
    try:
        return {
            **repeated(lambda: monai_once(module, device, device, options, work), options.runs),
            "note": note,
        }
    except torch.OutOfMemoryError:
        note = "AMP, stitching on the CPU: the GPU's memory did not suffice"
    # Only here, where the error no longer keeps what was held.
    torch.cuda.empty_cache()
    cpu = torch.device("cpu")
    runs = repeated(lambda: monai_once(module, device, cpu, options, work), options.runs)
    return {**runs, "note": note}


def monai_once(
    module: Any, device: Any, stitching: Any, options: argparse.Namespace, work: Path
) -> dict[str, float]:
    import torch
    from monai.data import MetaTensor
    from monai.inferers import SlidingWindowInferer
    from monai.transforms import ScaleIntensityRange, Spacing
    from monai.transforms.utils import convert_applied_interp_mode

    stages = Stages(device)
    image = sitk.ReadImage(str(scan_of(options, work)))
    voxels = sitk.GetArrayViewFromImage(image)
    stages.done("read")
    tensor = torch.from_numpy(np.asarray(voxels).copy())[None].to(device).float()
    volume = MetaTensor(tensor, affine=torch.diag(torch.tensor([*[options.file_mm] * 3, 1.0])))
    spacing = Spacing((MM,) * 3, padding_mode="border")
    if options.file_mm != MM:
        volume = spacing(volume)
    operations = volume.applied_operations
    volume = ScaleIntensityRange(-175, 250, 0, 1, clip=True)(volume)
    stages.done("preprocess")
    inferer = SlidingWindowInferer(
        *((options.patch,) * 3, options.monai_batch, options.overlap, "gaussian"),
        sw_device=device,
        device=stitching,
    )
    with torch.inference_mode(), torch.autocast(device.type, enabled=device.type == "cuda"):
        outputs = inferer(volume.as_tensor()[None], module)
    stages.done("inference")
    labels = outputs[0].argmax(0).to(torch.uint8)
    del outputs
    if options.file_mm != MM:  # the labels: the outputs would not fit a GPU
        nearest = convert_applied_interp_mode(operations, mode="nearest")
        there = MetaTensor(labels[None].float(), affine=volume.affine)
        there.applied_operations = nearest
        labels = spacing.inverse(there)[0].as_tensor().to(torch.uint8)
    found = sitk.GetImageFromArray(labels.cpu().numpy())
    stages.done("postprocess")
    found.CopyInformation(image)
    sitk.WriteImage(found, str(work / f"monai{options.suffix}"))
    stages.done("write")
    return stages.seconds


def run_medptq(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    import medptq
    from medptq.inference.scan_by_scan import segment_sources
    from medptq.inference.sessions import SessionPool
    from medptq.scans.finding import find_scans

    warnings: list[str] = []
    reporter = medptq.Reporter(on_warning=warnings.append)
    loaded, engines, way = ways(options, work)
    [source] = find_scans(scan_of(options, work), reporter)
    target = work / f"{options.line}{options.suffix}"

    with SessionPool() as pool:

        def once() -> dict[str, float]:
            started = time.perf_counter()
            [result] = segment_sources(
                *(loaded, [(source, target)], engines, way),
                precision=way.precision,
                may_leave_gpu=False,
                overwrite=True,
                pool=pool,
                reporter=reporter,
            )
            total = time.perf_counter() - started
            seconds = {"read": result.load_seconds, **vars(result.segmentation.seconds)}
            return {**seconds, "write": total - sum(seconds.values())}

        return {"note": "; ".join(dict.fromkeys(warnings)), **repeated(once, options.runs)}


def build(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Build the network of a line, so that its own process only loads it."""
    import medptq
    from medptq.inference.batching import windows_at_once
    from medptq.inference.networks import model_of, open_network

    warnings: list[str] = []
    reporter = medptq.Reporter(on_warning=warnings.append)
    loaded, engines, way = ways(options, work)
    engine = engines[way.engine]
    windows = windows_at_once(model_of(loaded), engine)
    started = time.perf_counter()
    open_network(loaded, engine, way.precision, reporter, windows).close()
    return {
        "build_seconds": time.perf_counter() - started,
        "windows_at_once": windows,
        "build_note": "; ".join(warnings),
    }


def ways(options: argparse.Namespace, work: Path) -> tuple[Any, Any, Any]:
    """Return the network of a line, its engine by name, and the way to run it."""
    import medptq
    from medptq.engines.selection import get_engine
    from medptq.engines.tensorrt import TensorRTEngine
    from medptq.inference.choosing import Candidate

    name, precision = options.line.split("-")
    loaded = medptq.load_model(work / ("int8" if precision == "int8" else "network.onnx"))
    engine = TensorRTEngine(options.search_seconds) if name == "tensorrt" else get_engine(name)
    return loaded, {name: engine}, Candidate(name, precision, 0.0)


class Stages:
    """A stopwatch that waits for the device at the end of each stage."""

    def __init__(self, device: Any) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._started = time.perf_counter()

    def done(self, stage: str) -> None:
        """Note how long a stage took that has just ended."""
        import torch

        if self._device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[stage], self._started = now - self._started, now


def repeated(once: Callable[[], dict[str, float]], runs: int) -> dict[str, Any]:
    """Return the medians of the stages over some runs after the first, and the peaks of memory."""
    import torch

    from medptq.evaluate.memory import peak_memory_mb

    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats()
    first = once()
    timed = [once() for _ in range(runs)]
    totals = [sum(stages.values()) for stages in timed]
    answer: dict[str, Any] = {
        "seconds": statistics.median(totals),
        "fastest": min(totals),
        "slowest": max(totals),
        "first": sum(first.values()),
        "stages": {stage: statistics.median(stages[stage] for stages in timed) for stage in STAGES},
        "host_mb": peak_memory_mb(),
    }
    if has_gpu:
        # PyTorch knows its own peak; the rest, which is CUDA's and TensorRT's, does not change.
        free, total = torch.cuda.mem_get_info()
        others = total - free - torch.cuda.memory_reserved()
        answer["device_mb"] = (others + torch.cuda.max_memory_reserved()) / 1e6
        answer["tensors_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return answer


TASKS: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "make": make,
    "build": build,
    "monai": run_monai,
    "medptq": run_medptq,
    # In a process of its own too: looking at a GPU takes memory of it as long as the process lives.
    "circumstances": lambda *_: circumstances(),
}


# All of them, one after the other.


def in_a_process(
    task: str, options: argparse.Namespace, work: Path, classes: int, line: str = "monai"
) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--task", task, "--work", str(work)]
    command += ["--line", line, "--classes", str(classes)]
    cache = str(options.cache or work / "cache")
    environment = {**os.environ, "MEDPTQ_CACHE": cache}
    with tempfile.TemporaryFile("w+") as complaints:
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                timeout=options.limit,
                env=environment,
                check=False,
            )
            failure = f"its process ended with {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            failure = f"stopped after {options.limit:.0f} s"
        if not failure:
            return dict(json.loads(done.stdout.splitlines()[-1]))
        complaints.seek(0)
        said = [text.strip() for text in complaints if text.strip()]
    return {"not_run": f"{failure}: {said[-1][:300]}" if said else failure}


def measure(options: argparse.Namespace, classes: int, lines: list[str], done: Any) -> None:
    """Run all lines for a number of classes; ``done`` is told of each as soon as it has run."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        made = in_a_process("make", options, work, classes)
        reference = None
        for line in lines:
            print(f"{classes} classes, {LINES[line]} ...", flush=True)
            facts = made
            if "not_run" not in facts and line != "monai":
                facts = in_a_process("build", options, work, classes, line)
            if "not_run" not in facts:
                task = "monai" if line == "monai" else "medptq"
                facts = {**facts, **in_a_process(task, options, work, classes, line)}
            if "not_run" not in facts:
                labels = sitk.GetArrayFromImage(
                    sitk.ReadImage(str(work / f"{line}{options.suffix}"))
                )
                reference = labels if reference is None else reference
                facts["agreement"] = float(np.mean(labels == reference))
                facts["labels_found"] = len(np.unique(labels))
            done({"classes": classes, "line": line, **facts})


def earlier(date: str, settings: dict[str, Any], classes: list[int]) -> list[dict[str, Any]]:
    """Return today's results for other numbers of classes, measured with the same settings."""
    path = RESULTS / f"whole-volume-{date}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if any(known.get(name) != json.loads(json.dumps(value)) for name, value in settings.items()):
        return []
    return [result for result in known["results"] if result["classes"] not in classes]


def table(report: dict[str, Any]) -> str:
    size = " x ".join(str(length) for length in report["size"])
    voxels = "" if report["file_mm"] == MM else f", from a file of {report['file_mm']} mm"
    text = [
        f"# A whole volume: {size} voxels at {MM} mm{voxels}, file to label map",
        "",
        f"{report['network']}, random weights, patch {report['patch']}³, overlap "
        f"{report['overlap']}, Gaussian blending, `{report['suffix']}` files. Median of "
        f"{report['runs']} runs after a first one, in seconds. *Device*: all that is in use on the "
        "GPU at the peak, CUDA's own included; *host*: peak resident memory of the process; "
        "*write*: with all that is in no other stage. Ratios and agreement are against the first "
        "line.",
    ]
    for classes in dict.fromkeys(result["classes"] for result in report["results"]):
        text += [
            "",
            f"## {classes} classes",
            "",
            f"| | total | times faster | {' | '.join(STAGES)} | device GB | times less | host GB "
            "| same voxels |",
            "|---|" + "---:|" * (len(STAGES) + 6),
        ]
        results = [result for result in report["results"] if result["classes"] == classes]
        base = next((result for result in results if "seconds" in result), {})
        notes = []
        for result in results:
            name = LINES[result["line"]]
            if "not_run" in result:
                text.append(f"| {name} | *{result['not_run']}* |" + " |" * (len(STAGES) + 5))
                continue
            stages = " | ".join(f"{result['stages'][stage]:.2f}" for stage in STAGES)
            device, less = "", ""
            if "device_mb" in result:
                device = f"{result['device_mb'] / 1e3:.2f}"
                less = f"{base['device_mb'] / result['device_mb']:.2f}"
            text.append(
                f"| {name} | {result['seconds']:.2f} | {base['seconds'] / result['seconds']:.2f} "
                f"| {stages} | {device} | {less} | {result['host_mb'] / 1e3:.2f} "
                f"| {result['agreement']:.3%} |"
            )
            built = f"built in {result['build_seconds']:.0f} s" if "build_seconds" in result else ""
            told = [built, result.get("build_note", ""), result["note"]]
            notes += [f"* {name}: {'; '.join(filter(None, told))}"] if any(told) else []
        text += ["", *notes]
    if report["file_mm"] != MM:
        text += [
            "",
            "On the way back to the file's voxels medptq interpolates the outputs of all classes; "
            "MONAI's line takes the nearest label, as all outputs would not fit a GPU.",
        ]
    return "\n".join(text) + "\n" + footer(report)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = {"type": int, "nargs": 3, "metavar": ("I", "J", "K")}
    parser.add_argument("--size", default=(350, 350, 300), help="at 1.5 mm", **size)
    parser.add_argument("--file-mm", type=float, default=MM, help="the file's voxel size")
    parser.add_argument("--suffix", default=".nii", choices=(".nii", ".nii.gz", ".nrrd"))
    parser.add_argument("--classes", type=int, nargs="+", default=[14, 105])
    parser.add_argument("--network", default="segresnet")
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--monai-batch", type=int, default=1, help="windows at once, in MONAI")
    parser.add_argument("--lines", nargs="+", choices=list(LINES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--search-seconds", type=float, default=300, help="for INT8's placements")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for one process")
    parser.add_argument("--cache", type=Path, help="a folder to keep what was built in")
    for hidden in ("--task", "--line"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.task:
        print(json.dumps(TASKS[options.task](options, options.work)))
        return
    import torch

    lines = options.lines or list(ON_GPU if torch.cuda.is_available() else ON_CPU)
    with tempfile.TemporaryDirectory() as folder:
        facts = in_a_process("circumstances", options, Path(folder), options.classes[0])
    command = " ".join(["python", *sys.argv])
    named = ("size", "file_mm", "suffix", "network", "patch", "overlap", "monai_batch", "runs")
    settings = {name: getattr(options, name) for name in named}
    results = earlier(facts["date"], settings, options.classes)
    report: dict[str, Any] = {**facts, "command": command, **settings, "results": results}

    def done(result: dict[str, Any]) -> None:
        report["results"].append(result)
        write("whole-volume", report, table(report))

    for classes in options.classes:
        measure(options, classes, lines, done)
    publish("whole-volume", report, table(report))


if __name__ == "__main__":
    main()
