"""Loading a model by its catalogue id or from a file.

What only a first use needs (PyTorch, the exporter) is imported there, so that a model that is in
the cache is loaded at once.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medptq.artifacts import sha256_of
from medptq.errors import ModelError
from medptq.models.archive import extract_member
from medptq.models.built_network import BuiltNetwork
from medptq.models.card import EXAMPLE, read_card
from medptq.models.catalogue import ARCHIVES, CatalogueEntry, entry, has_entry, unknown_model
from medptq.models.catalogue_archives import remember, remembered, unpacked
from medptq.models.checked_json import refused
from medptq.models.checkpoint import (
    CHECKPOINT_SUFFIXES,
    is_checkpoint,
    network_of,
    read_checkpoint,
)
from medptq.models.download import fetch
from medptq.models.foreign import format_of
from medptq.models.library import has_network, load_network, read_network
from medptq.models.network_cache import cached_graph, cached_network
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter

if TYPE_CHECKING:
    from torch import nn

_SILENT = Reporter()
_TORCHSCRIPT = (".ts", ".pt")
NETWORK_SUFFIXES = (".onnx", *_TORCHSCRIPT, *CHECKPOINT_SUFFIXES)
"""Of the files that a network can be loaded from."""


def load_model(name_or_path: str | Path, reporter: Reporter = _SILENT) -> SegmentationModel:
    """Load a segmentation network, and whatever other network it is cropped with.

    Args:
        name_or_path: An id of the catalogue, which is downloaded and exported to ONNX on first
            use; the id of an imported network; or the path of an ``.onnx`` file or of a
            TorchScript file (``.ts``, ``.pt``) with its card beside it under the same name
            (``spleen.onnx``, ``spleen.json``), of a checkpoint (``.pth``, ``.ckpt``, ``.pt``)
            whose card names its network, or of the folder of a MONAI bundle or of a model of
            nnU-Net v2. Load TorchScript from sources that you trust only.
        reporter: Told of the progress, asked for cancellation.

    Returns:
        The model; its graph was checked against its card.

    Raises:
        ModelError: ``model.unknown`` - no such id, and no file of these formats.
            ``model.missing`` - no such file. ``model.card-missing`` and ``model.card`` - the card
            is not there, or cannot be used. ``model.mismatch`` - card and graph do not fit.
            ``model.parity`` and ``model.export`` - the export to ONNX failed. Also as
            :func:`medptq.models.download.fetch`, :func:`medptq.graph.loading.load_graph` and
            :func:`medptq.models.torchscript.load_torchscript`.
        OutputError: The cache cannot be written.

    Example:
        >>> model = load_model("deepbet")  # doctest: +SKIP
        >>> model.patch_size  # doctest: +SKIP
        (256, 256, 256)
    """
    if isinstance(name_or_path, str) and has_entry(name_or_path):
        model = _load_entry(entry(name_or_path), reporter)
    elif isinstance(name_or_path, str) and has_network(name_or_path):
        model = load_network(name_or_path)
    else:
        model = _load_file(Path(name_or_path).expanduser(), reporter)
    for step in model.preprocessing:
        if step["step"] == "crop_to_model":
            if not has_entry(step["model"]):
                raise refused(
                    f"The card of {model.id}",
                    f'it crops to "{step["model"]}", which is not in the catalogue',
                )
            load_model(step["model"], reporter)  # now, as there may be no network later on
    return model


def is_known(name_or_path: str | Path) -> bool:
    """Tell whether this is the id of a network of the catalogue or the library, not a path."""
    return isinstance(name_or_path, str) and (has_entry(name_or_path) or has_network(name_or_path))


def graph_of_id(model_id: str) -> Path | None:
    """Return where the graph of a network with this id is kept; None if that is not known.

    It need not be there: networks of the catalogue are fetched on first use.
    """
    if has_entry(model_id):
        found = entry(model_id)
        if found.format not in ARCHIVES:
            return cached_graph(found.model(Path()), _source_digest(found))
        known = remembered(found)
        return None if known is None else cached_graph(*known)
    return read_network(model_id).onnx if has_network(model_id) else None


def _source_digest(found: CatalogueEntry) -> str:
    """Return the checksum of the file that an entry's graph is made from."""
    download = found.download
    whole = download.sha256 or download.sha1
    return whole if download.member is None else download.member.sha256 or whole


def _load_entry(found: CatalogueEntry, reporter: Reporter) -> SegmentationModel:
    if found.format in ARCHIVES:
        return _load_archive(found, reporter)
    download = found.download

    def make(model: SegmentationModel) -> dict[str, Any]:
        file = fetch(download, reporter)
        with tempfile.TemporaryDirectory(dir=model.onnx.parent) as folder:
            if download.member is not None:
                archive, file = file, Path(folder) / "network"
                extract_member(archive, download.member, file, reporter)
            if found.format == "torchscript":
                return _export_torchscript(file, model, reporter)
            if found.format == "checkpoint":
                from medptq.models.architectures.weighted import build_with_weights

                name, options = network_of(found.card, model, f"The card of {found.id}")
                return _export(build_with_weights(name, options, file), model, reporter)
            shutil.copyfile(file, model.onnx)
        _check(model)
        return {}

    return cached_network(found.model(Path()), _source_digest(found), make, reporter)


def _load_archive(found: CatalogueEntry, reporter: Reporter) -> SegmentationModel:
    known = remembered(found)
    if known is None:
        with unpacked(found, reporter) as built:
            model = _load_built(built, reporter)
            remember(found, built)
            return model

    def make(model: SegmentationModel) -> dict[str, Any]:
        with unpacked(found, reporter) as built:
            return _export(built.build(), model, reporter)

    return cached_network(*known, make, reporter)


def _load_file(path: Path, reporter: Reporter) -> SegmentationModel:
    folder = format_of(path)
    if folder is not None:
        return _load_built(folder.read(path, reporter), reporter)
    if is_checkpoint(path):
        return _load_built(read_checkpoint(path, reporter), reporter)
    suffix = path.suffix.lower()
    if suffix not in NETWORK_SUFFIXES:
        raise _unknown(path)
    if not path.is_file():
        raise ModelError(
            "missing",
            f"The network {path} cannot be read",
            why="there is no such file",
            todo="Check the path",
        )
    card = path.with_suffix(".json")
    if not card.is_file():
        raise _card_missing(path, card)
    model = read_card(card, path)
    if suffix == ".onnx":
        _check(model)
        return model

    def make(model: SegmentationModel) -> dict[str, Any]:
        return _export_torchscript(path, model, reporter)

    return cached_network(model, sha256_of(path), make, reporter)


def _load_built(built: BuiltNetwork, reporter: Reporter) -> SegmentationModel:
    def make(model: SegmentationModel) -> dict[str, Any]:
        return _export(built.build(), model, reporter)

    return cached_network(built.model, built.digest, make, reporter)


def _export_torchscript(file: Path, model: SegmentationModel, reporter: Reporter) -> dict[str, Any]:
    from medptq.models.torchscript import load_torchscript

    return _export(load_torchscript(file), model, reporter)


def _export(network: nn.Module, model: SegmentationModel, reporter: Reporter) -> dict[str, Any]:
    """Export a network to ``model.onnx``, and check it against the card."""
    from medptq.models.export import export_onnx

    shape = (1, model.channels, *model.patch_size)
    report = export_onnx(network, shape, model.onnx, reporter)
    _check(model)
    return {
        "opset": report.opset,
        "difference": report.difference,
        "checked_shape": report.checked_shape,
        "dynamic_batch": report.dynamic_batch,
    }


def _check(model: SegmentationModel) -> None:
    from medptq.graph.loading import load_graph
    from medptq.models.fitting import require_fit

    require_fit(model, load_graph(model.onnx))


def _unknown(path: Path) -> ModelError:
    if path.is_dir():
        return ModelError(
            "unknown",
            f"The folder {path} cannot be loaded as a model",
            why="it is neither a MONAI bundle (configs/metadata.json) nor an nnU-Net model folder"
            " (plans.json, dataset.json)",
            todo="Give such a folder itself, or the path of a model's .onnx, .ts, .pt, .pth or"
            " .ckpt file with its card beside it",
        )
    if path.is_file():
        return ModelError(
            "unknown",
            f"The network {path.name} cannot be read",
            why=f'files of the type "{path.suffix}" are not known',
            todo="Export it to ONNX (.onnx) or TorchScript (.ts, .pt), or give a checkpoint with"
            " its card (.pth, .ckpt, .pt), a MONAI bundle's or an nnU-Net model's folder",
        )
    return unknown_model(str(path))


def _card_missing(path: Path, card: Path) -> ModelError:
    return ModelError(
        "card-missing",
        f"The network {path.name} has no card",
        why=f"there is no file {card}, and a graph alone does not say how scans are prepared for"
        " it or what it finds",
        todo='Write it as the README describes under "The card"; at the least, '
        f"{json.dumps(EXAMPLE)}",
    )
