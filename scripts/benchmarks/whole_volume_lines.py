"""The tasks of :mod:`whole_volume`: each runs in a process of its own and returns its answer."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from publishing import circumstances
from synthetic import write_card, write_ct
from whole_volume_table import MM, STAGES


def make(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Export the network, and write its scan."""
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
    scan = scan_of(options, work)
    [source] = find_scans(scan, reporter)
    target = work / f"{options.line}{options.suffix}"

    with SessionPool() as pool:

        def once() -> dict[str, float]:
            started = time.perf_counter()
            [result] = segment_sources(
                *(loaded, [(source, target)], engines, way),
                folder=scan,
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
    """Quantize and build the network of a line, so that its own process only loads it."""
    import medptq
    from medptq.inference.batching import windows_at_once
    from medptq.inference.networks import model_of, open_network

    warnings: list[str] = []
    reporter = medptq.Reporter(on_warning=warnings.append)
    if options.line.endswith("int8"):
        scan, recipe = work / "calibration.nii", medptq.Recipe(patches=2)
        medptq.quantize(work / "network.onnx", scan, work / "int8", recipe=recipe)
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

    answer: dict[str, Any] = {}
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats()
        free, total = torch.cuda.mem_get_info()
        answer["before_mb"] = (total - free) / 1e6
    first = once()
    timed = [once() for _ in range(runs)]
    totals = [sum(stages.values()) for stages in timed]
    answer |= {
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
