"""Taking a user's own network into the library, where it is found by its id."""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from medptq.errors import ModelError
from medptq.models.archive import extract_with_siblings
from medptq.models.card import card_of
from medptq.models.catalogue import has_entry
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


def import_model(path: str | Path, *, reporter: Reporter = _SILENT) -> SegmentationModel:
    """Check a network and copy it into the library.

    A network is known by its card's id from then on. Where that id is taken, by the catalogue or
    by another network, it gets the next free one (``spleen-2``), with a warning; one that is in
    the library already is not copied again.

    Args:
        path: An ``.onnx`` or TorchScript file (``.ts``, ``.pt``) with its card beside it under
            the same name; or a ``.zip`` that holds one such pair. TorchScript is exported to
            ONNX; take it from sources that you trust only.
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
        from medptq.graph.loading import load_graph

        graph = load_graph(model.onnx).SerializeToString()  # weights of other files inside it
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
        names = [file.relative_to(path).as_posix() for file in (*path.glob("*"), *path.glob("*/*"))]
        raise _refused(path, _foreign(names) or "it is a folder")
    if path.suffix.lower() != ".zip":
        yield path
        return
    if not path.is_file():
        raise _refused(path, "there is no such file")

    def choose(names: Sequence[str]) -> str:
        networks = [n for n in names if PurePosixPath(n).suffix.lower() in NETWORK_SUFFIXES]
        foreign = _foreign(names)
        if foreign is not None or len(networks) != 1:
            raise _refused(path, foreign or f"it holds {len(networks) or 'no'} networks")
        return networks[0]

    with tempfile.TemporaryDirectory(prefix="medptq-import-", ignore_cleanup_errors=True) as folder:
        yield extract_with_siblings(path, choose, Path(folder), reporter)


def _foreign(names: Sequence[str]) -> str | None:
    """Say what other program's model a folder is, by the names in it; None if of none."""
    paths = {PurePosixPath(name) for name in names}
    for path in paths:
        if path.name == "int8.onnx" and path.with_name("manifest.json") in paths:
            return "it is a quantized network, which is used by its folder's path"
        if path.parts[-2:] == ("configs", "metadata.json"):
            return "it is a MONAI bundle, which this version cannot import"
        if path.name == "plans.json" and path.with_name("dataset.json") in paths:
            return "it is an nnU-Net model, which this version cannot import"
    return None


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
        " or a .zip of the two",
    )
