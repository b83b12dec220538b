"""Networks of the catalogue that are archives of other programs' model folders.

Their files say how scans are prepared; the catalogue adds id, title, terms, colours and codes. What
was read of an archive is remembered in the cache, so that it is unpacked only to make its graph.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from medptq.artifacts import atomic_folder, write_json
from medptq.errors import ModelError
from medptq.models.archive import extract_folder
from medptq.models.built_network import BuiltNetwork
from medptq.models.cache import cache_folder
from medptq.models.card import Card, card_of, labels_of, model_of
from medptq.models.catalogue import CatalogueEntry
from medptq.models.checked_json import read_json, refused
from medptq.models.download import fetch
from medptq.models.foreign import FORMATS, Format, roots_of
from medptq.models.label_maps import with_codes
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter

_READ = "read.json"
_READ_VERSION = 1
"""Another one wherever an archive is read differently, so that what was read before is not kept."""


@contextlib.contextmanager
def unpacked(found: CatalogueEntry, reporter: Reporter) -> Iterator[BuiltNetwork]:
    """Yield the network of an entry's archive; it can be built as long as the context is open.

    Raises:
        ModelError: As :func:`medptq.models.download.fetch`,
            :func:`medptq.models.archive.extract_folder` and the format's reader.
        OSError: It cannot be unpacked.
    """
    archive = fetch(found.download, reporter)
    layout = FORMATS[found.format]
    with tempfile.TemporaryDirectory(
        prefix="unpacked-", dir=archive.parent, ignore_cleanup_errors=True
    ) as folder:
        root = extract_folder(archive, partial(_root, layout, archive), Path(folder), reporter)
        built = layout.read(root, reporter)
        model = built.model
        own = replace(
            model,
            id=found.id,
            title=found.title,
            task=found.task,
            modality=found.modality,
            region=found.region,
            labels=with_codes(model.labels, labels_of(found.card)),
            provenance=found.provenance,
        )
        yield replace(built, model=own)


def remember(found: CatalogueEntry, built: BuiltNetwork) -> None:
    """Record what was read of an entry's archive.

    Raises:
        OutputError: The cache cannot be written.
    """
    with atomic_folder(_folder(found), overwrite=True) as part:
        write_json(part / _READ, {"card": card_of(built.model), "digest": built.digest})


def remembered(found: CatalogueEntry) -> tuple[SegmentationModel, str] | None:
    """Return what :func:`remember` recorded: the model, and the digest of what it is made from."""
    path = _folder(found) / _READ
    if not path.is_file():
        return None
    try:
        content = read_json(path, f"What was read of {found.id}")
        return model_of(content["card"], Path(), found.id), str(content["digest"])
    except (ModelError, KeyError, TypeError):
        return None  # it is read again


def known_card(found: CatalogueEntry) -> Card:
    """Return an entry's card, or of an archive that was never read what is known of it."""
    known = remembered(found)
    return found.card if known is None else card_of(known[0])


def _folder(found: CatalogueEntry) -> Path:
    download = found.download
    depends_on = [_READ_VERSION, found.card, download.file, download.sha256 or download.sha1]
    key = json.dumps(depends_on, sort_keys=True)
    # Called as the graphs of the network are, beside which it lies: they are removed together.
    digest = hashlib.sha256(key.encode()).hexdigest()
    return cache_folder("networks") / f"{found.id}-{digest[:16]}"


def _root(layout: Format, archive: Path, names: Sequence[str]) -> str:
    """Return the folder in an archive that a model of the format lies in."""
    roots = roots_of(names, [layout])
    if len(roots) != 1:
        raise refused(f"The archive {archive.name}", f"it holds {len(roots) or 'no'} models")
    return roots[0]
