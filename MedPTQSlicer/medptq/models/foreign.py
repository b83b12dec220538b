"""The folders that other programs write their models as: what marks them, and what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medptq.models.built_network import BuiltNetwork
from medptq.models.monai_bundle import METADATA, read_monai_bundle
from medptq.models.nnunet_folder import DATASET, PLANS, read_nnunet_folder
from medptq.progress import Reporter


@dataclass(frozen=True)
class Format:
    """How another program lays out a model's folder.

    Attributes:
        marks: Paths of the files that such a folder has, and no other.
        read: Reads the folder.
    """

    marks: tuple[str, ...]
    read: Callable[[Path, Reporter], BuiltNetwork]


FORMATS: Mapping[str, Format] = {
    "monai-bundle": Format((METADATA,), read_monai_bundle),
    "nnunet": Format((PLANS, DATASET), read_nnunet_folder),
}
"""By the names that the catalogue has for them."""


def format_of(folder: Path) -> Format | None:
    """Return the format of a model's folder; None if it is none of these."""
    return next(
        (
            found
            for found in FORMATS.values()
            if all((folder / mark).is_file() for mark in found.marks)
        ),
        None,
    )


def roots_of(names: Iterable[str], formats: Iterable[Format] = FORMATS.values()) -> list[str]:
    """Return which folders are models of these formats, by the paths of the files in them.

    Args:
        names: Paths with slashes, of all that an archive or a folder holds.
        formats: What counts.

    Returns:
        Paths of folders, sorted; ``"."`` for where the names begin.
    """
    paths = {PurePosixPath(name) for name in names}
    roots = set()
    for found in formats:
        first, depth = PurePosixPath(found.marks[0]), len(PurePosixPath(found.marks[0]).parts)
        for path in paths:
            if path.parts[-depth:] != first.parts:
                continue
            root = path.parents[depth - 1]
            if all(root / mark in paths for mark in found.marks):
                roots.add(root.as_posix())
    return sorted(roots)
