"""The networks of MedPTQ on an NVIDIA GPU: PyTorch, TensorRT, and INT8 as it was placed here.

One row a network and way to run it: the time of one patch, the engine's size, the device memory,
the build's time, the output's error and what the layers really run in; and for INT8 a row for each
placement that was tried. Weights are random, which does not change the times. Each network has a
process of its own with a time limit; what fails has a row that says why, and what was measured
before a limit is kept.

    python scripts/benchmarks/gpu.py                                  # MedPTQ's seven, then three
    python scripts/benchmarks/gpu.py --networks unet nnunet --batches 1 4 --compile
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

from publishing import circumstances, footer, publish, write
from synthetic import write_card, write_ct

import medptq
from medptq.engines.protocol import BuildRequest, Precision
from medptq.models.architectures.building import build_network, options_of
from medptq.models.architectures.registry import ARCHITECTURES

SEVEN = ("unet", "nnunet", "segresnet", "swinunetr-b", "vista3d", "transunet", "unest")
NETWORKS = (*SEVEN, "unetr", "stunet-b", "medformer")
PATCH = 96
RUNS = 50
SLOWEST = 12
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def tell(**facts: Any) -> None:
    print("@" + json.dumps(facts), flush=True)


# One network, in a process of its own. Each fact is told as soon as it is known.


def measure(name: str, options: argparse.Namespace) -> None:
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
        tell(export_seconds=time.monotonic() - started)
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
    import torch

    for _ in range(5):
        run()
    times = []
    for _ in range(RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
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


# All networks, one after the other.


def in_a_process(name: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--network", name]
    found: dict[str, Any] = {"ways": [], "warnings": []}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as complaints:
        # Builds must be built: what an earlier run left in the cache is not used.
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "MEDPTQ_CACHE": cache}
            if options.timings:  # TensorRT's own timings may be kept between runs
                environment["MEDPTQ_CACHE"] = str(options.timings)
            try:
                done = subprocess.run(
                    command, stdout=out, stderr=complaints, timeout=seconds, env=environment
                ).returncode
                failure = f"its process ended with {done}" if done else ""
            except subprocess.TimeoutExpired:
                failure = f"stopped after {seconds:.0f} s"
        out.seek(0)
        for line in out:
            if line.startswith("@"):
                facts = json.loads(line[1:])
                if "way" in facts:
                    found["ways"].append(facts)
                elif "warning" in facts:
                    found["warnings"].append(facts["warning"])
                else:
                    found.update(facts)
        if failure:
            complaints.seek(0)
            said = [line.strip() for line in complaints if line.strip()]
            found["failed"] = f"{failure}: {said[-1][:400]}" if said else failure
    return found


def table(report: dict[str, Any]) -> str:
    text = [
        f"# The networks on a GPU, patches of {PATCH}³",
        "",
        f"Random weights. Median of {RUNS} runs, on the device. *Error*: root mean square of the "
        "output's difference from PyTorch FP32, as a share of the output's own. *Layers*: "
        "convolutions and matrix products by what they read, as TensorRT's inspector tells.",
        "",
        "| network | batch | run as | ms | times faster than TensorRT FP32 | engine MB "
        "| device MB | build s | error | layers |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, found in report["networks"].items():
        for way in found["ways"]:
            head = f"| {name} | {way['batch']} | {way['way']} "
            if "failed" in way:
                text.append(f"{head}| *{way['failed']}* | | | | | | |")
                continue
            base = [
                other["ms"]
                for other in found["ways"]
                if other["way"] == "TensorRT FP32"
                and other["batch"] == way["batch"]
                and "ms" in other
            ]
            factor = f"{base[0] / way['ms']:.2f}" if base else ""
            layers = ", ".join(f"{n} {kind}" for kind, n in way.get("layers", {}).items())
            text.append(
                f"{head}| {way['ms']:.2f} | {factor} | {optional(way, 'engine_mb', '.1f')} "
                f"| {way['memory_mb']:.0f} | {optional(way, 'build_seconds', '.0f')} "
                f"| {way['error']:.2%} | {layers} |"
            )
        if "failed" in found:
            text.append(f"| {name} | | *{found['failed']}* | | | | | | | |")
    text += ["", "What was tried for INT8, the one that was taken first:", ""]
    text += [
        "| network | batch | in INT8 | ms | error | note |",
        "|---|---:|---|---:|---:|---|",
    ]
    for name, found in report["networks"].items():
        for way in found["ways"]:
            for tried in way.get("tried", ()) if way["way"] == "TensorRT INT8" else ():
                ms = optional(tried, "milliseconds", ".2f")
                text.append(
                    f"| {name} | {way['batch']} | {tried['placement']} | {ms} "
                    f"| {optional(tried, 'error', '.2%')} | {tried['note']} |"
                )
    return "\n".join(text) + "\n" + footer(report)


def optional(facts: dict[str, Any], key: str, form: str) -> str:
    value = facts.get(key)
    return "" if value is None else format(value, form)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=list(ARCHITECTURES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--compile", action="store_true", help="torch.compile, too")
    parser.add_argument("--search-seconds", type=float, default=300, help="for INT8's placements")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for one network")
    parser.add_argument("--total", type=float, default=1e9, help="seconds for all of them")
    parser.add_argument("--timings", type=Path, help="a cache to keep TensorRT's timings in")
    parser.add_argument("--inspect", type=Path, help="a folder for TensorRT's own descriptions")
    parser.add_argument("--network", help=argparse.SUPPRESS)  # the process of one network
    options = parser.parse_args()
    if options.network:
        measure(options.network, options)
        return
    started = time.monotonic()
    report: dict[str, Any] = {**circumstances(), "networks": {}}
    for name in options.networks:
        left = options.total - (time.monotonic() - started)
        if left < 30:
            report["networks"][name] = {"ways": [], "failed": "not run: the time was up"}
            continue
        print(f"{name} ...", flush=True)
        report["networks"][name] = in_a_process(name, options, min(options.limit, left))
        write("gpu", report, table(report))
    publish("gpu", report, table(report))


if __name__ == "__main__":
    main()
