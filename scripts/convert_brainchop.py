"""Convert a MeshNet of brainchop (TensorFlow.js) to a checkpoint with a card.

    python scripts/convert_brainchop.py public/models/model11_gw_ae meshnets --patch 192 192 224

writes ``meshnets/model11_gw_ae.pth`` and ``.json``, which ``medptq.load_model`` and the panel take.
The folders are those of https://github.com/neuroneural/brainchop (MIT), below ``public/models``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

CITATION = (
    "Plis et al., Brainchop: Providing an Edge Ecosystem for Deployment of Neuroimaging Artificial"
    " Intelligence Models, Aperture Neuro 4, 2024; Fedorov et al., End-to-end learning of brain"
    " tissue segmentation from imperfect labeling, IJCNN 2017, arXiv:1612.00940"
)
QUANTILES = {"model20chan3cls": (5, 95), "mindgrab": (2, 98)}
"""What brainchop's page clips the conformed scan at, in percent; its model.json does not say."""
TISSUES = (("White matter", (245, 245, 245)), ("Grey matter", (205, 62, 78)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="of model.json and its .bin")
    parser.add_argument("out", type=Path, help="folder for the checkpoint and the card")
    parser.add_argument("--patch", type=int, nargs=3, default=(256, 256, 256), metavar="N")
    options = parser.parse_args()
    print(convert(options.folder, options.out, tuple(options.patch)))


def convert(folder: Path, out: Path, patch: tuple[int, int, int]) -> Path:
    """Write ``out/<name>.pth`` and its card, and return the checkpoint's path.

    The patch is best as large as the conformed scan: brainchop runs on 256 x 256 x 256 at once, and
    a window's borders lack what the network would see beyond them.
    """
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    layers = content["modelTopology"]["model_config"]["config"]["layers"]
    convolutions = [layer["config"] for layer in layers if layer["class_name"] == "Conv3D"]
    weights = read_weights(content["weightsManifest"], folder)
    network = {"architecture": "meshnet", "options": options_of(layers, convolutions)}
    state: dict[str, torch.Tensor] = {}
    for number, config in enumerate(convolutions):
        name = f"model.{number}." + ("0." if number < len(convolutions) - 1 else "")
        # TensorFlow has [D, H, W, in, out], PyTorch [out, in, D, H, W].
        kernel = weights[f"{config['name']}/kernel"].transpose(4, 3, 0, 1, 2)
        state[f"{name}weight"] = torch.from_numpy(np.ascontiguousarray(kernel))
        if config["use_bias"]:
            state[f"{name}bias"] = torch.from_numpy(weights[f"{config['name']}/bias"].copy())
    out.mkdir(parents=True, exist_ok=True)
    card = card_of(folder, network, convolutions[-1]["filters"], patch)
    (out / f"{folder.name}.json").write_text(json.dumps(card, indent=2), encoding="utf-8")
    checkpoint = out / f"{folder.name}.pth"
    torch.save(state, checkpoint)
    return checkpoint


def read_weights(manifest: list[dict[str, Any]], folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for group in manifest:
        data = b"".join((folder / Path(path).name).read_bytes() for path in group["paths"])
        offset = 0
        for weight in group["weights"]:
            if weight["dtype"] != "float32" or "quantization" in weight:
                raise SystemExit(f"{weight['name']} is not float32")
            size = int(np.prod(weight["shape"]))
            values = np.frombuffer(data, "<f4", size, offset)
            found[weight["name"]] = values.reshape(weight["shape"])
            offset += 4 * size
        if offset != len(data):
            raise SystemExit(f"{group['paths']} has {len(data)} bytes, and {offset} were expected")
    return found


def options_of(layers: list[dict[str, Any]], convolutions: list[dict[str, Any]]) -> dict[str, Any]:
    known = {"InputLayer", "Conv3D", "Activation", "Dropout"}
    *stack, head = convolutions
    activations = {
        layer["config"]["activation"] for layer in layers if layer["class_name"] == "Activation"
    }
    features = {config["filters"] for config in stack}
    if (
        {layer["class_name"] for layer in layers} - known
        or len(activations) != 1
        or len(features) != 1
        or head["kernel_size"] != [1, 1, 1]
        or any(config["kernel_size"] != [3, 3, 3] for config in stack)
        or any(config["padding"] != "same" for config in convolutions)
    ):
        raise SystemExit("this is no MeshNet")
    # By its name brainchop tells that a layer normalizes each channel.
    norms = {"channel" if "_gn" in config["name"] else "none" for config in stack}
    return {
        "features": features.pop(),
        "dilations": [config["dilation_rate"][0] for config in stack],
        "norm": norms.pop(),
        "activation": activations.pop(),
    }


def card_of(
    folder: Path, network: dict[str, Any], classes: int, patch: tuple[int, int, int]
) -> dict[str, Any]:
    colormap = folder / "colormap.json"
    listed = json.loads(colormap.read_text(encoding="utf-8")) if colormap.is_file() else None
    if listed is not None and len(listed["labels"]) == classes:
        colors = zip(listed["R"], listed["G"], listed["B"], strict=True)
        structures = list(zip(listed["labels"], colors, strict=True))[1:]
    elif classes == 1 + len(TISSUES):
        structures = list(TISSUES)
    else:
        raise SystemExit(f"{colormap} does not name {classes - 1} structures")
    clipping = []
    if folder.name in QUANTILES:
        low, high = QUANTILES[folder.name]
        clipping = [{"step": "clip_percentiles", "low": low, "high": high}]
    return {
        "schema": 1,
        "id": f"brainchop-{folder.name}",
        "title": f"brainchop {folder.name}",
        "task": "Brain segmentation",
        "modality": "MR T1w",
        "region": "Head",
        "input": {"patch_size": list(patch), "axis_order": "IJK", "overlap": 0.25},
        "preprocessing": [
            {"step": "orient", "to": "LIA"},
            {"step": "spacing", "mm": [1, 1, 1]},
            *clipping,
            {"step": "minmax"},
        ],
        "labels": [
            {"value": value, "name": name, "color": list(color)}
            for value, (name, color) in enumerate(structures, 1)
        ],
        "network": network,
        "source": "https://github.com/neuroneural/brainchop",
        "licence": "MIT",
        "citation": CITATION,
    }


if __name__ == "__main__":
    main()
