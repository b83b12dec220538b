"""Finished cells on the disk, each in a file of its own that is believed only if it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import medptq
from medptq.artifacts import atomic_file, write_json
from medptq.benchmarking.recipes import RECIPES
from medptq.benchmarking.subject import digest
from medptq.progress import Reporter

_FORMAT = 1
_FIELDS = {"inputs": dict, "network": dict, "result": dict, "run": dict}
_SCORES = ("dice", "nsd")
_COUNTS = ("voxels", "voxels_equal", "foreground")


@dataclass(frozen=True)
class Cell:
    """One network by one recipe on one data set.

    Attributes:
        inputs: All that decided the result; see :func:`medptq.benchmarking.subject.inputs_of`.
        network: What tables say of the network: ``title``, ``parameters``, and ``structures``,
            names by number.
        result: See :func:`medptq.benchmarking.measuring.measured_to_json`.
        run: When, where and how long it ran, which decided nothing.
    """

    inputs: Mapping[str, Any]
    network: Mapping[str, Any]
    result: Mapping[str, Any]
    run: Mapping[str, Any]


class CellStore:
    """The cells of a folder. Several processes may write to one at the same time.

    Args:
        folder: Where the cells lie; it is made with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, inputs: Mapping[str, Any]) -> Cell | None:
        """Return the cell that was made from these inputs; None if there is none that is whole."""
        cell = _read(self._path(inputs))
        return cell if cell is not None and cell.inputs == inputs else None

    def put(self, cell: Cell) -> None:
        """Keep a cell, in place of one from the same inputs.

        Raises:
            OutputError: It cannot be written.
        """
        content = {
            "format": _FORMAT,
            "inputs": cell.inputs,
            "network": cell.network,
            "result": cell.result,
            "run": cell.run,
        }
        with atomic_file(self._path(cell.inputs), overwrite=True) as part:
            write_json(part, {**content, "sha256": _checksum(content)})

    def cells(self, reporter: Reporter) -> list[Cell]:
        """Return every whole cell, in the order of their files' names.

        Args:
            reporter: Told how many files are damaged, or of another version or recipe.
        """
        paths = sorted(self._folder.glob("[!.]*.json"))
        found = [(path, _read(path)) for path in paths]
        cells = [cell for path, cell in found if cell and path == self._path(cell.inputs)]
        if len(cells) < len(paths):
            left_out = len(paths) - len(cells)
            reporter.warn(
                f"{left_out} of {len(paths)} files with results were left out, as they are damaged"
                " or of another version of the program or of a recipe."
            )
        return cells

    def _path(self, inputs: Mapping[str, Any]) -> Path:
        # The names are for people, who may want to delete some of them.
        network, recipe = inputs["network"]["id"], inputs["recipe"]["name"]
        return self._folder / f"{network}.{recipe}.{digest(dict(inputs))}.json"


def _read(path: Path) -> Cell | None:
    """Read a cell; None for what is damaged, of another format, or no cell at all."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        checksum = content.pop("sha256")
        if content.pop("format") != _FORMAT or checksum != _checksum({"format": 1, **content}):
            return None
        if not all(isinstance(content[field], kind) for field, kind in _FIELDS.items()):
            return None
        cell = Cell(**{field: content[field] for field in _FIELDS})
        return cell if _is_whole(cell) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _is_whole(cell: Cell) -> bool:
    """Tell whether all is there that tables are made of, and of the right kind."""
    structures, scans = cell.network["structures"], cell.result["scans"]
    return (
        cell.inputs["medptq"] == medptq.__version__
        and cell.inputs["recipe"] == RECIPES[cell.inputs["recipe"]["name"]].to_json()
        and all(isinstance(cell.inputs[name]["digest"], str) for name in ("network", "data"))
        and isinstance(cell.inputs["data"]["name"], str)
        and isinstance(cell.network["parameters"], int)
        and isinstance(cell.network["title"], str)
        and isinstance(cell.result["engine"], str)
        and isinstance(cell.result["layers"], dict)
        and isinstance(cell.run["versions"], dict)
        and all(isinstance(cell.run[name], str) for name in ("processor", "date"))
        and all(cell.run["seconds"][name] >= 0 for name in ("preparing", "testing"))
        and len(scans) > 0
        and all(
            scan[score].keys() == structures.keys()
            and all(value is None or 0 <= value <= 1 for value in scan[score].values())
            for scan in scans
            for score in _SCORES
        )
        and all(isinstance(scan[count], int) for scan in scans for count in _COUNTS)
    )


def _checksum(content: Mapping[str, Any]) -> str:
    return digest(dict(content))
