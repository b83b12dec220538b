"""What keeps the user's scans from being written over, and results from being taken for scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medptq.errors import OutputError, ScanError
from medptq.scans.finding import Slices
from medptq.scans.sources import ScanSource


def without_results(
    found: Sequence[tuple[ScanSource, Slices]], scan: Path, output: Path
) -> list[tuple[ScanSource, Slices]]:
    """Return the scans of a folder without what lies in the folder for results within it.

    Args:
        found: The scans that were found, with the headers of their slices.
        scan: What the user named: one scan, or a folder of scans.
        output: Where label maps are to be written.

    Raises:
        ScanError: ``empty`` - nothing is left.
    """
    results = output.resolve()
    if scan.resolve() not in results.parents:
        return list(found)
    left = [each for each in found if results not in each[0].paths[0].resolve().parents]
    if not left:
        raise ScanError(
            "empty",
            f"No scan was found in {scan}",
            why=f"all that there is lies in {output}, where label maps are written",
            todo="Choose the folder that holds the scans, or another --output",
        )
    return left


def require_no_scan(targets: Sequence[Path | None], sources: Sequence[ScanSource]) -> None:
    """Make sure that no label map takes the place of a scan, whatever may be overwritten.

    Args:
        targets: The files of label maps; None where none is written.
        sources: The scans that are segmented.

    Raises:
        OutputError: ``is-scan`` - a target is one of the scans' files.
    """
    # By what they are: names may differ in case only, or be links.
    scans = {_identity(path) for source in sources for path in source.paths} - {None}
    for target in targets:
        if target is not None and _identity(target) in scans:
            raise OutputError(
                "is-scan",
                f"{target} was not written",
                why="it is the scan that is to be segmented",
                todo="Choose another folder or name",
            )


def _identity(path: Path) -> tuple[int, int] | Path | None:
    """Return what tells a file from all others, or None if there is none of that name."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # whether it can be written is told elsewhere
        return None
    # Some network drives do not number their files.
    return (found.st_dev, found.st_ino) if found.st_ino else path.resolve()
