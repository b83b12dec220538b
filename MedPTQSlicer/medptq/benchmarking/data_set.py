"""Pairs of a scan and a label map, and which of them networks are calibrated and tested on."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medptq.errors import ScanError
from medptq.evaluate.reference import read_reference
from medptq.scans.reading import read_scan
from medptq.scans.scan import LabelArray, Scan
from medptq.scans.sources import ScanSource, source_of_file

_FIELDS = {"name": str, "image": str, "label": str, "groups": str, "split": str}
_OPTIONAL = ("groups", "split")
_PARTS = ("train", "test")
_TEST_SHARE = 0.75
_TOLERANCE_MM = 1.0
_MOST_HELD = 2 << 30  # bytes of scans and label maps


@dataclass(frozen=True)
class Pair:
    """A scan and its label map on the same voxels, uint16 [K, J, I], with the card's values."""

    scan: Scan
    labels: LabelArray


@dataclass(frozen=True)
class DataSet:
    """Where the pairs of a data set lie, and what they are for.

    Attributes:
        name: Short name, for tables.
        folder: Where images and labels lie.
        image: An image's path in the folder, with ``{}`` in the place of the pair's name.
        label: A label map's path, likewise.
        split: Names of pairs by part: at least ``train``, whose images networks are calibrated
            on, and ``test``.
        groups: File in the folder that groups the label maps' values, if they are not those of
            the networks' cards: a mapping from ``"<new value> <name>"`` to old values.
        nsd_tolerance_mm: Distance up to which surfaces count as the same.
    """

    name: str
    folder: Path
    image: str
    label: str
    split: Mapping[str, Sequence[str]]
    groups: str = ""
    nsd_tolerance_mm: float = _TOLERANCE_MM

    def image_of(self, name: str) -> ScanSource:
        """Return where the image of a pair lies."""
        return source_of_file(self.folder / self.image.replace("{}", name))

    def label_map_of(self, name: str) -> Path:
        """Return the label map's file of a pair."""
        return self.folder / self.label.replace("{}", name)

    def read(self, name: str, channels: int = 1) -> Pair:
        """Read a pair.

        Args:
            name: The pair's name.
            channels: Channels that its scan must have.

        Raises:
            ScanError: It is not there, cannot be used, or has a label that is in no group.
        """
        scan = read_scan(self.image_of(name), channels)
        labels = read_reference(self.label_map_of(name), scan)
        if self.groups:
            values = self._new_values()
            if labels.max() >= len(values) or (values[labels] < 0).any():
                raise _refused(f"a label of {name!r} is in none of the groups")
            labels = values[labels].astype(np.uint16)
        return Pair(scan, labels)

    def _new_values(self) -> NDArray[np.intp]:
        """Return the new value of each old one; -1 where there is none."""
        groups = _read_json(self.folder / self.groups)
        try:
            values = np.full(1 + max(map(max, groups.values())), -1, dtype=np.intp)
            for name, old in groups.items():
                values[old] = int(name.split()[0])
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise _refused(f"{self.groups} does not map new values to old ones") from error
        return values


class HeldPairs:
    """Pairs that are gone through again and again; the first ones stay in memory.

    Args:
        data: The data set.
        names: Which of its pairs.
    """

    def __init__(self, data: DataSet, names: Sequence[str]) -> None:
        self._data = data
        self._names = names
        self._held: dict[tuple[str, int], Pair] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._names)

    def with_channels(self, channels: int) -> Iterator[Pair]:
        """Yield the pairs, whose scans must have so many channels.

        Raises:
            ScanError: As :meth:`DataSet.read`.
        """
        for name in self._names:
            pair = self._held.get((name, channels))
            if pair is None:
                pair = self._data.read(name, channels)
                size = pair.scan.array.nbytes + pair.labels.nbytes
                if self._bytes + size <= _MOST_HELD:
                    self._held[name, channels] = pair
                    self._bytes += size
            yield pair


def read_data_set(path: Path, folder: Path | None = None) -> DataSet:
    """Read the description of a data set.

    A JSON object: ``name``; ``image`` and ``label``, paths with ``{}`` where a pair's name stands;
    and if need be ``groups``, ``split`` and ``nsd_tolerance_mm`` (1 by default). The first three
    paths are meant from ``folder``, that of the split from the description: a JSON object with
    lists of names for ``train`` and ``test``. Without it, three quarters of the pairs that are
    there are for the test, always the same ones.

    Args:
        path: The description.
        folder: Where images and labels lie; where the description does by default.

    Raises:
        ScanError: ``scan.data-set`` - it cannot be used; or there are no such scans.

    Example:
        >>> read_data_set(Path("hippocampus.json")).read("hippocampus_006")  # doctest: +SKIP
    """
    content = _read_json(path)
    for field, kind in _FIELDS.items():
        value = content.get(field, "" if field in _OPTIONAL else None)
        if not isinstance(value, kind):
            raise _refused(f'{path.name} has no "{field}"')
    unknown = sorted(content.keys() - _FIELDS.keys() - {"nsd_tolerance_mm"})
    if unknown:
        raise _refused(f'{path.name} has the unknown field "{unknown[0]}"')
    tolerance = content.get("nsd_tolerance_mm", _TOLERANCE_MM)
    if not isinstance(tolerance, int | float) or not 0 < tolerance < 100:
        raise _refused(f'the "nsd_tolerance_mm" of {path.name} is no distance')
    for field in ("image", "label"):
        if content[field].count("{}") != 1 or content[field].replace("{}", "").count("{"):
            raise _refused(f'the "{field}" of {path.name} has no {{}} for the name of a pair')
    folder = path.parent if folder is None else folder
    split = content.get("split")
    return DataSet(
        name=content["name"],
        folder=folder,
        image=content["image"],
        label=content["label"],
        split=_found(folder, content["image"], content["label"])
        if split is None
        else _split(path.parent / split),
        groups=content.get("groups", ""),
        nsd_tolerance_mm=float(tolerance),
    )


def _split(path: Path) -> dict[str, list[str]]:
    content = _read_json(path)
    for part in _PARTS:
        names = content.get(part)
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise _refused(f'{path.name} has no list of names for "{part}"')
    named = [name for part in _PARTS for name in content[part]]
    if len(set(named)) < len(named):
        raise _refused(f"{path.name} names a pair twice: what is tested must not be calibrated on")
    return content


def _found(folder: Path, image: str, label: str) -> dict[str, list[str]]:
    """Share the pairs that are there among the parts."""
    before, after = image.split("{}")
    found = glob.glob(  # noqa: PTH207 - the path may lead out of the folder
        f"{glob.escape(before)}*{glob.escape(after)}", root_dir=folder
    )
    names = sorted(path[len(before) : len(path) - len(after)] for path in found)
    # Label maps often lie beside their images, and may have names that an image could have.
    names = [name for name in names if (folder / label.replace("{}", name)).is_file()]
    if len(names) < len(_PARTS):
        raise _refused(
            f"{folder} holds fewer than two pairs of {image} and {label}, and no split names them"
        )
    order = [names[n] for n in np.random.default_rng(0).permutation(len(names))]
    tested = min(max(1, round(_TEST_SHARE * len(names))), len(names) - 1)
    return {"train": sorted(order[tested:]), "test": sorted(order[:tested])}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _refused(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise _refused(f"{path.name} is no JSON") from error
    if not isinstance(content, dict):
        raise _refused(f"{path.name} is no JSON object")
    return content


def _refused(why: str) -> ScanError:
    return ScanError(
        "data-set",
        "The data set cannot be used",
        why=why,
        todo="Correct its description; the README says what it holds",
    )
