"""What zoo.py does with one network, each step in a process of its own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import medptq
from medptq.engines.openvino import OpenVINOEngine
from medptq.engines.protocol import BuildRequest, Precision
from medptq.evaluate.latency import measure_latency
from medptq.evaluate.memory import peak_memory_mb
from medptq.models.architectures.building import build_network, options_of
from medptq.models.architectures.registry import Architecture

PATCH = (96, 96, 96)
GIANTS = ("stunet-l", "stunet-h")  # at the smallest patch, for want of memory and patience
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")


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
