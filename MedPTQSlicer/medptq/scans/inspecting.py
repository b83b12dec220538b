"""What a folder of scans holds, as far as headers tell: a look before calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medptq.errors import ScanError
from medptq.progress import Reporter
from medptq.scans.finding import find_with_slices
from medptq.scans.reading import Header, read_header
from medptq.scans.sources import format_of

_SILENT = Reporter()


@dataclass(frozen=True)
class ScanFolder:
    """What was found in a folder of scans.

    Attributes:
        scans: How many can be used, as far as their headers tell.
        formats: How many of them are in each format.
        unusable: What cannot be used and why, to show to the user: names may name patients.
        spacings: Voxel size in mm along (K, J, I) of each scan that can be used.
        shapes: Voxels along (K, J, I) of each.
        size_bytes: Of their files.
    """

    scans: int
    formats: Mapping[str, int]
    unusable: tuple[tuple[str, str], ...]
    spacings: tuple[tuple[float, float, float], ...]
    shapes: tuple[tuple[int, int, int], ...]
    size_bytes: int


def inspect_scans(
    path: str | Path, channels: int = 1, *, reporter: Reporter = _SILENT
) -> ScanFolder:
    """Look at the scans in a folder without reading their voxels.

    What only the voxels tell, such as a file that is cut off, is found later, at calibration.

    Args:
        path: A folder of scans in any mix of formats, or one scan.
        channels: Channels that a scan must have.
        reporter: Told of progress, and of DICOM files without an image; may cancel.

    Raises:
        ScanError: There is no such path, or nothing in it looks like a scan.
        Cancelled: The user asked to stop.

    Example:
        >>> found = inspect_scans("scans/")  # doctest: +SKIP
        >>> found.scans, dict(found.formats)  # doctest: +SKIP
        (37, {'NIfTI': 30, 'DICOM': 7})
    """
    headers: list[Header] = []
    formats: Counter[str] = Counter()
    unusable: list[tuple[str, str]] = []
    size = 0
    found = find_with_slices(Path(path), reporter)
    for source, slices in reporter.track(found, "Looking at the scans"):
        try:
            headers.append(read_header(source, slices, channels))
            size += sum(file.stat().st_size for file in source.paths)
        except (ScanError, OSError) as error:
            why = error.why if isinstance(error, ScanError) else error.strerror
            unusable.append((source.shown, why or "it cannot be read"))
        else:
            formats[format_of(source.paths[0])] += 1
    return ScanFolder(
        scans=len(headers),
        formats=dict(formats),
        unusable=tuple(unusable),
        spacings=tuple(header.spacing for header in headers),
        shapes=tuple(header.shape for header in headers),
        size_bytes=size,
    )
