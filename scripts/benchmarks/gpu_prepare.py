"""What gpu.py needs of a network before it gets to a GPU: its graph, plain and quantized.

Made on the CPU, while the GPUs are busy with others, in a folder of the network's own.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from gpu_limits import work_of
from synthetic import write_card, write_ct

import medptq
from medptq.engines.tensorrt_graph import with_input_shape
from medptq.graph.loading import load_graph
from medptq.models.architectures.building import build_network, options_of
from medptq.models.architectures.registry import ARCHITECTURES

PATCH = 96
SHAPE = (1, 1, PATCH, PATCH, PATCH)


def tell(**facts: Any) -> None:
    """Tell gpu.py something at once, so that it is kept whatever happens next."""
    print("@" + json.dumps(facts), flush=True)


def words(error: Exception) -> str:
    """Return an error's kind and the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:400] if lines else ''}"


def export(name: str, folder: Path) -> dict[str, Any]:
    """Write the network's graph and card, and its output for the patch; return what is told."""
    import torch

    from medptq.models.export import export_onnx

    folder.mkdir(parents=True, exist_ok=True)
    module = network(name)
    with torch.inference_mode():
        reference = module(patch(folder))
    torch.save(reference, folder / "reference.pt")
    reporter = medptq.Reporter(on_warning=lambda text: tell(warning=text))
    started = time.monotonic()
    path = folder / "network.onnx"
    export_onnx(module, SHAPE, path, reporter)
    seconds = time.monotonic() - started
    write_card(path.with_suffix(".json"), reference.shape[1], PATCH, 0.25)
    return {
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "export_seconds": seconds,
        "work": work_of(with_input_shape(load_graph(path), SHAPE)),
    }


def quantize(folder: Path) -> dict[str, Any]:
    """Quantize the network that :func:`export` wrote, on two scans; return what is told."""
    scans = folder / "scans"
    scans.mkdir(exist_ok=True)
    for seed in range(2):
        write_ct(scans / f"{seed}.nii", (112, 112, 104), seed)
    started = time.monotonic()
    recipe = medptq.Recipe(patches=2)
    twin = medptq.quantize(folder / "network.onnx", scans, folder / "int8", recipe=recipe)
    agreement = twin.manifest["agreement_with_fp32"]
    return {"quantize_seconds": time.monotonic() - started, "agreement": agreement}


def network(name: str) -> Any:
    """Return the network with seeded random weights."""
    import torch

    torch.manual_seed(0)
    option = ARCHITECTURES[name].size_option
    if not option:
        return build_network(name)
    is_edge = isinstance(options_of(name)[option], int)
    return build_network(name, **{option: PATCH if is_edge else (PATCH,) * 3})


def patch(folder: Path) -> Any:
    """Return the patch that every way is run on, as the card prepares it."""
    import numpy as np
    import SimpleITK as sitk
    import torch

    path = folder / f"patch-{os.getpid()}.nii"  # several processes make it at once
    write_ct(path, (PATCH,) * 3, 2)
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32)
    path.unlink()
    return torch.from_numpy(np.clip((voxels + 175) / 425, 0, 1))[None, None]
