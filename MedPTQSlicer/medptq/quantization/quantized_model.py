"""A quantized network on disk: a folder that proves that it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medptq.artifacts import recover, refuse_losing, require_free, sha256_of
from medptq.errors import ModelError
from medptq.models.card import read_card
from medptq.models.segmentation_model import SegmentationModel
from medptq.quantization.recipe import Recipe

MANIFEST = "manifest.json"
CARD = "model.json"
FP32 = "fp32.onnx"
INT8 = "int8.onnx"
FORMAT = 1

_FILES = (CARD, FP32, INT8)
_DATA = (f"{FP32}.data", f"{INT8}.data")  # as medptq.graph.external_data names them


@dataclass(frozen=True)
class QuantizedModel:
    """A network with its INT8 twin.

    Attributes:
        folder: Where it lies.
        model: The network; its ``onnx`` is the FP32 graph in the folder.
        int8: The graph with INT8 weights and Q/DQ nodes.
        recipe: How it was quantized.
        manifest: All that is known of how it came to be: see :mod:`medptq.quantization.quantizing`.
    """

    folder: Path
    model: SegmentationModel
    int8: Path
    recipe: Recipe
    manifest: Mapping[str, Any]


def is_quantized_model(path: Path) -> bool:
    """Tell whether ``path`` is the folder of a quantized network."""
    recover(path)
    return (path / MANIFEST).is_file()


def require_place(folder: Path, *, overwrite: bool) -> None:
    """Make sure, before any work is done for it, that a twin can be written to a folder.

    Raises:
        OutputError: Something is there and ``overwrite`` is false, or something that is not a
            twin's; or it cannot be written.
    """
    require_free(folder, overwrite=overwrite)
    refuse_losing(folder, {MANIFEST, *_FILES, *_DATA})


def load_quantized_model(folder: Path) -> QuantizedModel:
    """Read a quantized network, checking every file against the manifest.

    Raises:
        ModelError: A file is missing, was changed, or was written by a newer version.
    """
    manifest = read_manifest(folder)
    try:
        recipe = Recipe.from_json(manifest["recipe"])
    except (KeyError, TypeError) as error:
        raise _broken(folder, f"its recipe cannot be read ({error})") from error
    for name in manifest["files"]:
        if sha256_of(folder / name) != manifest["files"][name]:
            raise _broken(folder, f"the SHA-256 of {name} is not the manifest's")
    model = replace(read_card(folder / CARD, folder / FP32), onnx=folder / FP32)
    return QuantizedModel(folder, model, folder / INT8, recipe, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what is known of a quantized network, without a look into its graphs.

    Raises:
        ModelError: A file is missing, or was written by a newer version.
    """
    recover(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = manifest["format"]
        # Networks above 2 GiB have their weights in another file.
        large = [name for name in _DATA if name in manifest["files"]]
        manifest["files"] = {name: str(manifest["files"][name]) for name in (*_FILES, *large)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _broken(folder, f"its {MANIFEST} cannot be read ({error})") from error
    if version != FORMAT:
        raise _broken(folder, f"its format is {version}, this program reads {FORMAT}")
    for name in manifest["files"]:
        if not (folder / name).is_file():
            raise _broken(folder, f"{name} is missing")
    return dict(manifest)


def _broken(folder: Path, why: str) -> ModelError:
    return ModelError(
        "quantized",
        f"The quantized network {folder.name} cannot be used",
        why=why,
        todo="Quantize the network again",
    )
