"""The catalogue: networks that the program knows where to get, or that come with it.

One JSON file an entry, in the folder ``catalogue``: a card, and what ``catalogue.schema.json``
describes. What comes with the program lies in the folder ``networks``, with its licence and the
record of its training. Reading the catalogue imports nothing heavy.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from medptq.errors import ModelError
from medptq.models.card import EXAMPLE, Card, model_of
from medptq.models.checked_json import check, read_json, refused
from medptq.models.label_entries import entry_of
from medptq.models.segmentation_model import Provenance, SegmentationModel

_FOLDER = Path(__file__).with_name("catalogue")
INCLUDED = Path(__file__).with_name("networks")
"""Where the networks lie that come with the program."""

_OWN_FIELDS = ("format", "role", "download", "untested")
ARCHIVES = ("monai-bundle", "nnunet")
"""The formats that say themselves how scans are prepared: the entry has no whole card."""
_CARD_OF_ARCHIVES = {
    *("schema", "id", "title", "task", "modality", "region", "labels"),
    *("source", "licence", "citation"),
}


@dataclass(frozen=True)
class Release:
    """A file of a release in the Python package index."""

    package: str
    version: str


@dataclass(frozen=True)
class Member:
    """A file in an archive: its path there, and its SHA-256, or "" if the archive's is enough."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Download:
    """Where a network's file comes from.

    Attributes:
        file: Name of the file.
        sha256: Its SHA-256, or "" if its publisher does not give it.
        size_mb: Its size in MB (10^6 bytes), rounded, or 0 if its publisher does not give it.
        origin: The release that it belongs to, or its URL; or its path, if it comes with the
            program.
        member: Which of its members the network is, if it is an archive of which only that counts.
        sha1: Its SHA-1, where its publisher gives only that.
    """

    file: str
    sha256: str
    size_mb: float
    origin: Release | str | Path
    member: Member | None = None
    sha1: str = ""


@dataclass(frozen=True)
class CatalogueEntry:
    """A network that can be had by its id.

    Attributes:
        id: What it is asked for by.
        title: Name for a person to read.
        task: What it does, in a few words.
        modality: ``"CT"`` or ``"MR"``, with the sequence where it matters.
        region: Part of the body that must be in view.
        provenance: Source, licence, citation.
        format: What the network is stored as.
        role: ``"model"`` if it is offered to users, ``"locator"`` if it only finds where another
            one shall look.
        download: Where its file comes from.
        card: The whole card; of :data:`ARCHIVES` what is known of it before they are downloaded,
            without ``input`` and ``preprocessing``.
        untested: Why nobody here has tried it, or "" if it was tried.
    """

    id: str
    title: str
    task: str
    modality: str
    region: str
    provenance: Provenance
    format: Literal["torchscript", "onnx", "checkpoint", "monai-bundle", "nnunet"]
    role: Literal["model", "locator"]
    download: Download
    card: Card = field(repr=False)
    untested: str = ""

    @property
    def is_included(self) -> bool:
        """Whether it comes with the program, so that nothing is downloaded."""
        return isinstance(self.download.origin, Path)

    def model(self, onnx: Path) -> SegmentationModel:
        """Return the model whose graph lies at ``onnx``; not for :data:`ARCHIVES`."""
        return model_of(self.card, onnx, _about(self.id))


def entries() -> tuple[CatalogueEntry, ...]:
    """Return the entries that are offered to users, in the order of their ids."""
    return tuple(entry for entry in _all_entries().values() if entry.role == "model")


def entry(model_id: str) -> CatalogueEntry:
    """Return the entry with this id, locators included.

    Raises:
        ModelError: ``model.unknown`` - there is none.
    """
    try:
        return _all_entries()[model_id]
    except KeyError:
        raise unknown_model(model_id) from None


def unknown_model(name: str) -> ModelError:
    """Return the error for a name that is neither an id nor the path of a file."""
    known = ", ".join(offered.id for offered in entries())
    return ModelError(
        "unknown",
        f'There is no model "{name}"',
        why="it is neither in the catalogue or your library, nor the path of an .onnx, .ts or .pt"
        " file",
        todo=f"Choose one of the catalogue ({known}), or give a file's path",
    )


def has_entry(name: str) -> bool:
    """Say whether ``name`` is an id of the catalogue, locators included."""
    return name in _all_entries()


def read_entry(path: Path) -> CatalogueEntry:
    """Read one file of the catalogue.

    Raises:
        ModelError: ``model.card`` - it breaks the format; the sentence names the field.
    """
    about = _about(path.stem)
    content = read_json(path, about)
    own = {key: content[key] for key in _OWN_FIELDS if key in content}
    check(own, "catalogue", about)
    card = {key: value for key, value in content.items() if key not in _OWN_FIELDS}
    if own["format"] in ARCHIVES:
        extra = sorted(card.keys() - _CARD_OF_ARCHIVES)
        if extra:
            raise refused(about, f'"{extra[0]}" is in the files of the format "{own["format"]}"')
        model = model_of({**EXAMPLE, **card}, path, about)
    else:
        model = model_of(card, path, about)
        if ("network" in card) != (own["format"] == "checkpoint"):
            raise refused(about, 'checkpoints have the field "network", and no other formats')
    return CatalogueEntry(
        id=model.id,
        title=model.title,
        task=model.task,
        modality=model.modality,
        region=model.region,
        provenance=model.provenance,
        format=own["format"],
        role=own["role"],
        download=_download(own["download"]),
        card=card | {"labels": [entry_of(label) for label in model.labels]},
        untested=own.get("untested", ""),
    )


@functools.cache
def _all_entries() -> Mapping[str, CatalogueEntry]:
    found = [read_entry(path) for path in sorted(_FOLDER.glob("*.json"))]
    return {entry.id: entry for entry in found}


def _download(content: Mapping[str, Any]) -> Download:
    origin: Release | str | Path
    if content["kind"] == "pypi":
        origin, file = Release(content["package"], content["version"]), content["file"]
    elif content["kind"] == "included":
        origin, file = INCLUDED / content["file"], content["file"]
    else:
        origin = content["url"]
        file = PurePosixPath(urlsplit(content["url"]).path).name
    member = (
        Member(content["member"], content.get("member_sha256", "")) if "member" in content else None
    )
    return Download(
        file,
        content.get("sha256", ""),
        float(content.get("size_mb", 0)),
        origin,
        member,
        content.get("sha1", ""),
    )


def _about(model_id: str) -> str:
    return f'The catalogue\'s entry "{model_id}"'
