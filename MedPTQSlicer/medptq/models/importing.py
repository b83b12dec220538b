"""Taking a user's own network into the library, where it is found by its id."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from medptq.errors import ModelError
from medptq.models.archive import extract_folder, extract_with_siblings, names_in
from medptq.models.card import card_of
from medptq.models.catalogue import has_entry
from medptq.models.foreign import format_of, roots_of
from medptq.models.library import (
    library_ids,
    read_network,
    recorded_digest,
    store_network,
)
from medptq.models.loading import NETWORK_SUFFIXES, load_model
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter

_SILENT = Reporter()
_LONGEST_ID = 64
# How far a model is looked for in a folder, which may be the root of a disk.
_DEEPEST, _MOST_NAMES = 3, 10_000
_OTHER_ARCHIVES = (".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")


def import_model(path: str | Path, *, reporter: Reporter = _SILENT) -> SegmentationModel:
    """Check a network and copy it into the library.

    A network is known by its card's id from then on. Where that id is taken, by the catalogue or
    by another network, it gets the next free one (``spleen-2``), with a warning; one that is in
    the library already is not copied again.

    Args:
        path: An ``.onnx`` or TorchScript file (``.ts``, ``.pt``) with its card beside it under
            the same name; the folder of a MONAI bundle or of another program's model that
            :func:`medptq.models.loading.load_model` reads; or a ``.zip`` that holds one of these.
            What is no ONNX file is exported; take TorchScript from sources that you trust only.
        reporter: Told of the progress and of another id; may cancel.

    Returns:
        The network as it lies in the library.

    Raises:
        ModelError: ``model.import`` - it is nothing that can be imported; ``model.archive`` - the
            archive is damaged or not safe. Or as :func:`medptq.models.loading.load_model`.
        OutputError: The library cannot be written.
        Cancelled: The user asked to stop.

    Example:
        >>> import_model("spleen.zip").id  # doctest: +SKIP
        'spleen'
        >>> segment("spleen", "ct.nii.gz", "spleen.nii.gz")  # doctest: +SKIP
    """
    with _network_file(Path(path).expanduser(), reporter) as file:
        model = load_model(file, reporter)
        from medptq.graph.external_data import serialized
        from medptq.graph.loading import load_graph

        graph = serialized(load_graph(model.onnx))  # weights of other files inside it
        same = _same_network(model, graph)
        if same is not None:
            reporter.warn(f"{model.title} is in the library already, as {same.id}.")
            return same
        model_id = _free_id(model.id)
        if model_id != model.id:
            reporter.warn(
                f'There is a network "{model.id}" already, so this one is called "{model_id}".'
            )
        reporter.check()
        return store_network(replace(model, id=model_id), graph)


@contextlib.contextmanager
def _network_file(path: Path, reporter: Reporter) -> Iterator[Path]:
    """Yield the file of the network that a path stands for, its card beside it."""
    if path.is_dir():
        yield _folder_in(path)
        return
    if path.suffix.lower() in _OTHER_ARCHIVES:
        raise _refused(path, "only .zip archives are unpacked")
    if path.suffix.lower() != ".zip":
        yield path
        return
    if not path.is_file():
        raise _refused(path, "there is no such file")
    with tempfile.TemporaryDirectory(prefix="medptq-import-", ignore_cleanup_errors=True) as folder:
        if _foreign_roots(path, names_in(path)):
            unpacked = extract_folder(path, partial(_only_root, path), Path(folder), reporter)
            if format_of(unpacked) is None:
                raise _refused(path, "what it holds is no model that can be read here")
            yield unpacked
        else:
            yield extract_with_siblings(path, partial(_only_network, path), Path(folder), reporter)


def _folder_in(path: Path) -> Path:
    """Return the folder of another program's model that a folder is, or holds."""
    if format_of(path) is not None:
        return path
    found = path / _only_root(path, list(itertools.islice(_names_in(path), _MOST_NAMES)))
    if format_of(found) is None:
        raise _refused(path, "it is a folder")
    return found


def _names_in(path: Path) -> Iterator[str]:
    """Yield the names of the files down to the third level; what cannot be read is passed over."""
    for folder, below, files in os.walk(path):
        here = Path(folder).relative_to(path)
        yield from ((here / name).as_posix() for name in files)
        if len(here.parts) == _DEEPEST - 1:
            below.clear()


def _only_network(path: Path, names: Sequence[str]) -> str:
    networks = [name for name in names if PurePosixPath(name).suffix.lower() in NETWORK_SUFFIXES]
    if len(networks) != 1:
        raise _refused(path, f"it holds {len(networks) or 'no'} networks")
    return networks[0]


def _only_root(path: Path, names: Sequence[str]) -> str:
    roots = _foreign_roots(path, names)
    if len(roots) > 1:
        raise _refused(path, f"it holds {len(roots)} models: {', '.join(roots)[:200]}")
    return roots[0] if roots else ""


def _foreign_roots(path: Path, names: Sequence[str]) -> list[str]:
    """Return which folders are other programs' models, by the names of the files in them."""
    paths = {PurePosixPath(name) for name in names}
    for file in paths:
        if file.name == "int8.onnx" and file.with_name("manifest.json") in paths:
            raise _refused(path, "it is a quantized network, which is used by its folder's path")
    return roots_of(names)


def _same_network(model: SegmentationModel, graph: bytes) -> SegmentationModel | None:
    """Return the network with this graph and card that an earlier import wrote, if any did."""
    digest = hashlib.sha256(graph).hexdigest()
    given = re.compile(rf"{re.escape(model.id)}(-\d+)?")
    for model_id in filter(given.fullmatch, library_ids()):
        with contextlib.suppress(ModelError):  # it is damaged, and no hindrance
            if recorded_digest(model_id) == digest:
                found = read_network(model_id)
                if _without_id(found) == _without_id(model):
                    return found
    return None


def _without_id(model: SegmentationModel) -> dict[str, Any]:
    # A card without a title has its id for one.
    title = "" if model.title == model.id else model.title
    return {**card_of(model), "id": "", "title": title}


def _free_id(wanted: str) -> str:
    # Without regard to case, as folders are on Windows and macOS.
    taken = {name.lower() for name in library_ids()}
    candidate, number = wanted, 2
    while has_entry(candidate.lower()) or has_entry(candidate) or candidate.lower() in taken:
        suffix = f"-{number}"
        candidate, number = wanted[: _LONGEST_ID - len(suffix)] + suffix, number + 1
    return candidate


def _refused(path: Path, why: str) -> ModelError:
    return ModelError(
        "import",
        f"{path.name} was not imported",
        why=why,
        todo="Give an .onnx, .ts or .pt file with its card (.json) beside it under the same name,"
        " a MONAI bundle's or an nnU-Net model's folder, or a .zip of these",
    )
