"""One network on the GPU, in this process: PyTorch, and TensorRT in each precision.

What :mod:`gpu` starts for each network. Each fact is told on standard output as soon as it is
known, so that what was measured before a time limit is kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_limits import times_ms, work_of
from synthetic import write_card, write_ct

import medptq
from medptq.engines.protocol import BuildRequest, Precision
from medptq.engines.tensorrt_graph import with_input_shape
from medptq.graph.loading import load_graph
from medptq.models.architectures.building import build_network, options_of
from medptq.models.architectures.registry import ARCHITECTURES

PATCH = 96
RUNS = 50
SLOWEST = 12
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def tell(**facts: Any) -> None:
    print("@" + json.dumps(facts), flush=True)


def measure(name: str, options: argparse.Namespace) -> None:
    """Measure one network in every way, at every size of batch that was asked for."""
    import torch

    from medptq.models.export import export_onnx

    # By default PyTorch convolves in TF32, but does not multiply matrices in it.
    module = network(name)
    tell(parameters=sum(parameter.numel() for parameter in module.parameters()))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        batch = patches(folder)
        reference = in_pytorch(module, batch, options)
        reporter = medptq.Reporter(on_warning=lambda text: tell(warning=text))
        started = time.monotonic()
        path = folder / "network.onnx"
        export_onnx(module, (1, 1, PATCH, PATCH, PATCH), path, reporter)
        write_card(path.with_suffix(".json"), reference.shape[1], PATCH, 0.25)
        tell(
            export_seconds=time.monotonic() - started,
            work=work_of(with_input_shape(load_graph(path), (1, 1, PATCH, PATCH, PATCH))),
        )
        del module
        torch.cuda.empty_cache()
        started = time.monotonic()
        twin = medptq.quantize(
            path, folder / "scans", folder / "int8", recipe=medptq.Recipe(patches=2)
        )
        tell(
            quantize_seconds=time.monotonic() - started,
            agreement=twin.manifest["agreement_with_fp32"],
        )
        torch.cuda.empty_cache()
        for count in options.batches:
            for precision in PRECISIONS:
                graph = twin.int8 if precision == "int8" else twin.model.onnx
                request = BuildRequest(graph, precision, (count, 1, PATCH, PATCH, PATCH))
                in_tensorrt(request, folder / "built", batch, reference, options)


def network(name: str) -> Any:
    import torch

    torch.manual_seed(0)
    option = ARCHITECTURES[name].size_option
    if not option:
        return build_network(name)
    is_edge = isinstance(options_of(name)[option], int)
    return build_network(name, **{option: PATCH if is_edge else (PATCH,) * 3})


def patches(folder: Path) -> Any:
    """Write two scans to calibrate on; return a patch of a third, as the card prepares it."""
    import numpy as np
    import SimpleITK as sitk
    import torch

    (folder / "scans").mkdir()
    for seed in range(2):
        write_ct(folder / "scans" / f"{seed}.nii", (112, 112, 104), seed)
    write_ct(folder / "other.nii", (PATCH,) * 3, 2)
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "other.nii"))).astype(np.float32)
    return torch.from_numpy(np.clip((voxels + 175) / 425, 0, 1))[None, None]


def in_pytorch(module: Any, batch: Any, options: argparse.Namespace) -> Any:
    """Time the module in FP32, TF32, AMP and, if asked for, compiled; return its FP32 output."""
    import torch

    reference = None
    ways: list[tuple[str, bool, bool, bool]] = [
        ("PyTorch FP32", False, False, False),
        ("PyTorch TF32", True, False, False),
        ("PyTorch AMP", True, True, False),
    ]
    if options.compile:
        ways.append(("PyTorch AMP, torch.compile", True, True, True))
    for count in options.batches:
        image = batch.cuda().expand(count, -1, -1, -1, -1).contiguous()
        for title, tf32, amp, compiled in ways:
            torch.backends.cudnn.allow_tf32 = tf32
            torch.backends.cuda.matmul.allow_tf32 = tf32
            torch.cuda.empty_cache()
            torch.cuda.synchronize()
            before = used_mb()
            try:
                called = torch.compile(module.cuda()) if compiled else module.cuda()

                def run(called: Any = called, amp: bool = amp, image: Any = image) -> Any:
                    with torch.inference_mode(), torch.autocast("cuda", enabled=amp):
                        return called(image)

                facts = timed(run)
                if reference is None:
                    reference = run().float().cpu()
                facts["error"] = error_of(run(), reference)
                facts["memory_mb"] = used_mb() - before
            except Exception as error:  # a way that fails is a row
                facts = {"failed": words(error)}
            tell(way=title, batch=count, **facts)
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = False
    module.cpu()
    return reference


def in_tensorrt(
    request: BuildRequest, built: Path, batch: Any, reference: Any, options: argparse.Namespace
) -> None:
    import torch

    from medptq.engines.tensorrt import TensorRTEngine
    from medptq.engines.tensorrt_session import TensorRTSession

    title, count = f"TensorRT {request.precision.upper()}", request.input_shape[0]
    engine = TensorRTEngine(options.search_seconds)
    reporter = medptq.Reporter(on_warning=lambda text: tell(warning=text))
    try:
        started = time.monotonic()
        engine.build(request, built, reporter)
        seconds = time.monotonic() - started
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
        before = used_mb()
        with engine.open(request, built) as session:
            assert isinstance(session, TensorRTSession)
            image = batch.cuda().expand(request.input_shape).contiguous()
            facts = timed(lambda: session.run(image))
            facts["memory_mb"] = used_mb() - before
            facts["error"] = error_of(session.run(image), reference)
            facts["layers"] = dict(session.layer_precisions())
            layers = session.times_of_layers()
            facts["slowest_layers_ms"] = dict(
                sorted(layers.items(), key=lambda layer: -layer[1])[:SLOWEST]
            )
            tried = [vars(way) for way in session.plan.tried]
            if options.inspect:
                name = f"{options.network}-{request.precision}-{count}.json"
                (options.inspect / name).write_text(session.information(), encoding="utf-8")
        facts.update(engine_mb=built.stat().st_size / 1e6, build_seconds=seconds, tried=tried)
    except Exception as error:  # a way that fails is a row
        facts = {"failed": words(error)}
    tell(way=title, batch=count, **facts)


def timed(run: Callable[[], Any]) -> dict[str, Any]:
    """Return the median, least and largest time of a run on the GPU, in milliseconds."""
    for _ in range(5):
        run()
    times = times_ms(run, RUNS)
    return {"ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times)}


def error_of(found: Any, reference: Any) -> float:
    """Return the root mean square error of the first output, as a share of the reference's."""
    found = found[:1].float().cpu()
    return float((found - reference[:1]).norm() / reference[:1].norm())


def used_mb() -> float:
    import torch

    free, total = torch.cuda.mem_get_info()
    return (total - free) / 1e6


def words(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:400] if lines else ''}"
