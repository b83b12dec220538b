"""The user's library: networks that were imported, and INT8 twins.

It lies where the system keeps a user's data, or where the environment variable ``MEDPTQ_LIBRARY``
says. Unlike the cache it holds what cannot be made again without the user, so nothing clears it as
a whole. In it, by a network's id:

================  =============================================================================
``<id>/network``  an imported network: ``network.onnx``, ``card.json`` and ``record.json``
``<id>/int8``     the INT8 twin of an imported network, or of one of the catalogue
================  =============================================================================

Anything else in the folder is left alone.
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import replace
from pathlib import Path

import platformdirs

from medptq.artifacts import atomic_folder, recover, sha256_of, write_json
from medptq.errors import ModelError
from medptq.models.card import card_of, read_card
from medptq.models.segmentation_model import SegmentationModel
from medptq.models.user_folders import user_folder

NETWORK, TWIN = "network", "int8"
_GRAPH, _CARD, _RECORD = "network.onnx", "card.json", "record.json"
_FORMAT = 1
# As card.schema.json, but for Windows' own names.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def library_root() -> Path:
    """Return the library's folder; it need not exist yet."""
    return user_folder(
        "MEDPTQ_LIBRARY", lambda: platformdirs.user_data_path("medptq", appauthor=False)
    )


def library_ids() -> tuple[str, ...]:
    """Return the ids that have something in the library, sorted."""
    root = library_root()
    try:
        folders = sorted(path.name for path in root.iterdir() if _ID.fullmatch(path.name))
    except OSError:
        return ()
    return tuple(name for name in folders if has_network(name) or has_twin(name))


def has_network(model_id: str) -> bool:
    """Tell whether a network of this id was imported; it may be damaged."""
    return _is_there(model_id, NETWORK)


def has_twin(model_id: str) -> bool:
    """Tell whether the network of this id has an INT8 twin; it may be damaged."""
    return _is_there(model_id, TWIN)


def network_folder(model_id: str) -> Path:
    """Return where an imported network of this id lies, or would lie."""
    return library_root() / model_id / NETWORK


def twin_folder(model_id: str) -> Path:
    """Return where the INT8 twin of the network with this id lies, or would lie."""
    return library_root() / model_id / TWIN


def store_network(model: SegmentationModel, graph: bytes) -> SegmentationModel:
    """Write a network that was checked to the library, under its id.

    Args:
        model: The network; its ``onnx`` is not read.
        graph: The ONNX file that shall lie there, whole.

    Raises:
        OutputError: A network of this id is there already, or the library cannot be written.
    """
    with atomic_folder(network_folder(model.id)) as folder:
        (folder / _GRAPH).write_bytes(graph)
        write_json(folder / _CARD, card_of(model))
        record = {
            "format": _FORMAT,
            "imported": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "sha256": sha256_of(folder / _GRAPH),
        }
        write_json(folder / _RECORD, record)
    return replace(model, onnx=network_folder(model.id) / _GRAPH)


def read_network(model_id: str) -> SegmentationModel:
    """Return an imported network, after a look at its card and record, not at its graph.

    Raises:
        ModelError: ``model.library`` or ``model.card`` - it is damaged.
    """
    folder = network_folder(model_id)
    recorded_digest(model_id)
    if not (folder / _GRAPH).is_file():
        raise _damaged(model_id, f"{_GRAPH} is missing")
    return replace(read_card(folder / _CARD, folder / _GRAPH), id=model_id)


def load_network(model_id: str) -> SegmentationModel:
    """Return an imported network whose graph is the one that was imported.

    Raises:
        ModelError: ``model.library`` or ``model.card`` - it is damaged.
    """
    model = read_network(model_id)
    if sha256_of(model.onnx) != recorded_digest(model_id):
        raise _damaged(model_id, f"the SHA-256 of {_GRAPH} is not the one that was recorded")
    return model


def recorded_digest(model_id: str) -> str:
    """Return the SHA-256 that an imported network's graph had when it was imported.

    Raises:
        ModelError: ``model.library`` - the record cannot be read.
    """
    try:
        record = json.loads((network_folder(model_id) / _RECORD).read_text(encoding="utf-8"))
        version, digest = record["format"], str(record["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(model_id, f"its {_RECORD} cannot be read") from error
    if version != _FORMAT:
        raise _damaged(model_id, f"its format is {version}, this program reads {_FORMAT}")
    return digest


def _is_there(model_id: str, part: str) -> bool:
    if not _ID.fullmatch(model_id):
        return False
    folder = library_root() / model_id / part
    try:
        recover(folder)  # a program may have been killed while it wrote or replaced it
        return folder.is_dir()
    except OSError:  # nobody may look into it
        return False


def _damaged(model_id: str, why: str) -> ModelError:
    return ModelError(
        "library",
        f"The imported network {model_id} cannot be used",
        why=why,
        todo="Remove it and import it again",
    )
