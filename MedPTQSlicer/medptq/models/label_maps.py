"""Named label maps: lists of structures that many networks share, with SNOMED CT codes.

One JSON file each, in the folder ``labels``, in the form that ``label_map.schema.json`` describes.
Each says where its names, values, codes and colours come from; a structure for which no public
source gives a code has none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medptq.models.checked_json import check, read_json, refused
from medptq.models.label_entries import label_of
from medptq.models.segmentation_model import Label

_FOLDER = Path(__file__).with_name("labels")


@dataclass(frozen=True)
class LabelMap:
    """A list of structures that has a name.

    Attributes:
        name: What cards ask for it by.
        title: Name for a person to read.
        sources: Where its names and values, its codes and its colours come from.
        labels: The structures, without the background.
    """

    name: str
    title: str
    sources: tuple[str, ...]
    labels: tuple[Label, ...]


def label_map_names() -> tuple[str, ...]:
    """Return the names of all label maps, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def label_map(name: str) -> LabelMap:
    """Return the label map of that name.

    Raises:
        ModelError: ``model.card`` - there is none.

    Example:
        >>> label_map("btcv").labels[0].name
        'Spleen'
    """
    if name not in label_map_names():
        known = ", ".join(label_map_names())
        raise refused(f'The label map "{name[:40]}"', f"it is not one of {known}")
    return _read(name)


def with_codes(labels: Sequence[Label], known: Sequence[Label]) -> tuple[Label, ...]:
    """Return structures with the names, colours and codes that a list of known ones has for them.

    Names say which is which, without regard to case and separators. Where they do not, the values
    do if both have the same ones, and no name contradicts that. What is not known stays as it is.

    Args:
        labels: The structures as a network's files name them.
        known: The structures of the list that they are of, or a part of.
    """
    by_name = {_bare(label.name): label for label in known}
    by_value = {label.value: label for label in known}
    named = [
        (label, by_name[_bare(label.name)]) for label in labels if _bare(label.name) in by_name
    ]
    same_values = by_value.keys() == {label.value for label in labels} and all(
        own.value == found.value for own, found in named
    )
    if same_values:
        return tuple(by_value[label.value] for label in labels)
    return tuple(
        replace(by_name.get(_bare(label.name), label), value=label.value) for label in labels
    )


@functools.cache
def _read(name: str) -> LabelMap:
    about = f"The label map {name}"
    content = read_json(_FOLDER / f"{name}.json", about)
    check(content, "label_map", about)
    labels = tuple(label_of(entry) for entry in content["labels"])
    return LabelMap(name, content["title"], tuple(content["sources"]), labels)


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
