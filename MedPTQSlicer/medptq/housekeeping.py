"""What is kept on this machine of each network, and how to be rid of it.

Nothing here loads a network or an engine: it reads small files only, so that a list of networks is
shown at once.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medptq.artifacts import folder_size, remove_folder
from medptq.engines.built import graphs_built_here, remove_builds_of
from medptq.errors import ModelError, OutputError
from medptq.models import cache, library
from medptq.models.card import Card, card_of
from medptq.models.catalogue import (
    ARCHIVES,
    CatalogueEntry,
    entries,
    entry,
    has_entry,
    unknown_model,
)
from medptq.models.catalogue_archives import known_card
from medptq.models.download import place_of, record_of
from medptq.models.loading import graph_of_id
from medptq.models.network_cache import graph_digest
from medptq.quantization.quantized_model import FP32, INT8, read_manifest

BuiltGraphs = Mapping[str, set[str]]


@dataclass(frozen=True)
class TwinState:
    """The INT8 twin of a network, as it lies in the library.

    Attributes:
        folder: Where.
        created: When it was made, as ISO 8601.
        scans: How many scans it was calibrated on.
        agreement_with_fp32: How well it agreed with FP32 at calibration, as its manifest has it:
            ``patches``, ``voxels_equal``, ``dice``, ``least_alike`` and more.
        ready: Whether it is built for this machine, so that it starts without building.
        size_bytes: Of its files.
    """

    folder: Path
    created: str
    scans: int
    agreement_with_fp32: Mapping[str, Any]
    ready: bool
    size_bytes: int


@dataclass(frozen=True)
class ModelState:
    """A network of the catalogue or the library, and what of it is on this machine.

    Attributes:
        id: What it is asked for by.
        card: Its card, whole; None if it cannot be read. Of an archive of the catalogue that was
            never opened, without ``input`` and ``preprocessing``.
        origin: Whether the program knows where to get it, it comes with the program, or the user
            brought it.
        downloaded: Whether it, and the network it is cropped with, can be used without a download.
        size_bytes: Of the network's file, or of what is downloaded for it; 0 if not known.
        int8: Its INT8 twin in the library, if there is one that can be used.
        fp32_ready: Whether FP32 is built for this machine.
        problem: What of it cannot be used and why, in one sentence; "" if nothing.
        untested: Why nobody who made this program has tried it, or "" if it was tried.
    """

    id: str
    card: Card | None
    origin: Literal["catalogue", "included", "imported"]
    downloaded: bool
    size_bytes: int
    int8: TwinState | None
    fp32_ready: bool
    problem: str = ""
    untested: str = ""


def list_models() -> list[ModelState]:
    """Return the networks of the catalogue, then those of the library.

    What is damaged is listed with its problem; nothing is raised for it. Sums of whole files are
    not checked here but before a network is used.

    Example:
        >>> [state.id for state in list_models()]  # doctest: +SKIP
        ['deepbet', 'spleen']
    """
    built = graphs_built_here()
    known = [_state_of_entry(found, built) for found in entries()]
    own = [_state_of_import(name, built) for name in library.library_ids() if not has_entry(name)]
    return known + own


def remove_model(model_id: str, what: Literal["int8", "all"] = "all") -> int:
    """Delete a network, or its INT8 twin alone, with all that was built of it.

    Of a network of the catalogue, the twin and what was downloaded are deleted: it can be fetched
    again, and what comes with the program stays. Nothing outside the library and the cache is
    touched. Close sessions of it first.

    Args:
        model_id: The network.
        what: ``"int8"`` for the twin alone.

    Returns:
        The bytes that were freed.

    Raises:
        ModelError: ``model.unknown`` - there is no such network.
        OutputError: Something could not be removed.

    Example:
        >>> remove_model("spleen", "int8")  # doctest: +SKIP
        43012034
    """
    if not has_entry(model_id) and model_id not in library.library_ids():
        raise unknown_model(model_id)
    twin = library.twin_folder(model_id)
    graphs = set(_twin_graphs(twin))
    freed = 0
    if what == "all":
        graph = None
        with contextlib.suppress(ModelError):  # it is damaged, and goes all the same
            graph = _digest_of(model_id)
        graphs |= {graph} if graph is not None else set()
        freed += _remove_network(model_id)
    freed += remove_folder(twin)
    with contextlib.suppress(OSError):  # of the user's own files there, none is touched
        twin.parent.rmdir()
    return freed + remove_builds_of(graphs)


def clear_cache() -> int:
    """Delete all downloads, exported networks and built engines; the library stays.

    Returns:
        The bytes that were freed.

    Raises:
        ModelError: ``model.cache`` - something cannot be deleted.
    """
    return cache.clear_cache()


def _state_of_entry(found: CatalogueEntry, built: BuiltGraphs) -> ModelState:
    twin, problem = _twin_state(found.id, built)
    archive = found.format in ARCHIVES
    return ModelState(
        id=found.id,
        card=known_card(found) if archive else card_of(found.model(Path())),
        origin="included" if found.is_included else "catalogue",
        downloaded=_is_downloaded(found),
        size_bytes=round(found.download.size_mb * 1e6),
        int8=twin,
        fp32_ready=_is_fp32_ready(found.id, twin, built),
        problem=problem,
        untested=found.untested,
    )


def _state_of_import(model_id: str, built: BuiltGraphs) -> ModelState:
    twin, problem = _twin_state(model_id, built)
    card: Card | None = None
    size, fp32_ready, downloaded = 0, False, False
    try:
        if not library.has_network(model_id):
            raise ModelError(
                "library",
                f"The network {model_id} cannot be used",
                why="only its INT8 twin is in the library",
                todo="Import it again, or remove it",
            )
        model = library.read_network(model_id)
        card = card_of(model)
        size = model.onnx.stat().st_size
        fp32_ready = _is_fp32_ready(model_id, twin, built)
        downloaded = all(_is_downloaded(entry(name)) for name in _cropped_with(card))
    except (ModelError, OSError) as error:
        problem = str(error)
    return ModelState(model_id, card, "imported", downloaded, size, twin, fp32_ready, problem)


def _twin_state(model_id: str, built: BuiltGraphs) -> tuple[TwinState | None, str]:
    """Return the state of a network's twin, if there is one; or what is wrong with it."""
    if not library.has_twin(model_id):
        return None, ""
    folder = library.twin_folder(model_id)
    try:
        manifest = read_manifest(folder)
        state = TwinState(
            folder=folder,
            created=str(manifest["created"]),
            scans=int(manifest["calibration"]["scans"]),
            agreement_with_fp32=dict(manifest["agreement_with_fp32"]),
            ready="int8" in built.get(manifest["files"][INT8], ()),
            size_bytes=folder_size(folder),
        )
    except ModelError as error:
        return None, str(error)
    except (KeyError, TypeError, ValueError, AttributeError, OSError):
        return None, f"The INT8 twin of {model_id} cannot be used: its manifest is damaged."
    return state, ""


def _is_fp32_ready(model_id: str, twin: TwinState | None, built: BuiltGraphs) -> bool:
    # Where there is a twin, its own FP32 graph is what runs: see medptq.api.segment.
    graph = _digest_of(model_id) if twin is None else read_manifest(twin.folder)["files"][FP32]
    return "fp32" in built.get(graph or "", ())


def _digest_of(model_id: str) -> str | None:
    graph = graph_of_id(model_id)
    return None if graph is None else graph_digest(graph)


def _twin_graphs(twin: Path) -> list[str]:
    try:
        files = read_manifest(twin)["files"]
        return [str(files[name]) for name in (FP32, INT8)]
    except (ModelError, KeyError, TypeError):
        return []


def _is_downloaded(found: CatalogueEntry) -> bool:
    graph = graph_of_id(found.id)
    is_exported = graph is not None and graph_digest(graph) is not None
    is_here = is_exported or place_of(found.download).is_file()
    return is_here and all(_is_downloaded(entry(name)) for name in _cropped_with(found.card))


def _cropped_with(card: Card) -> list[str]:
    steps = card.get("preprocessing", ())
    return [step["model"] for step in steps if step["step"] == "crop_to_model"]


def _remove_network(model_id: str) -> int:
    """Delete an imported network, or what was downloaded or exported of one of the catalogue."""
    if not has_entry(model_id):
        return remove_folder(library.network_folder(model_id))
    freed = 0
    exported = re.compile(rf"{re.escape(model_id)}-[0-9a-f]{{16}}")
    folder = cache.cache_folder("networks")
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if exported.fullmatch(path.name):
            freed += remove_folder(path)
    if entry(model_id).is_included:
        return freed
    download = place_of(entry(model_id).download)
    try:
        freed += download.stat().st_size if download.is_file() else 0
        download.unlink(missing_ok=True)
        record_of(download).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            "unremovable",
            f"{download} could not be removed",
            why=error.strerror or str(error),
            todo="Close the programs that use it, or delete it by hand",
        ) from error
    return freed
