"""Where the label map of each scan is written, so that it tells whose it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medptq.errors import OutputError
from medptq.scans.sources import DICOM, ScanSource, reader_of, suffix_of
from medptq.scans.writing import LABEL_MAP_SUFFIXES


def label_map_files(
    scan: Path, sources: Sequence[ScanSource], output: Path | None
) -> list[Path | None]:
    """Return the file to write for each scan.

    For several it is named after the scan. Where that would be one name for two of them, as in
    ``sub-01/T1w.nii.gz`` and ``sub-02/T1w.nii.gz``, all lie in the output as the scans lie in their
    folder: whose result it is must not depend on what else was found.

    Args:
        scan: What the user named: one scan, or a folder of scans.
        sources: The scans in it.
        output: A file for one scan, a folder for several; None if nothing is to be written.

    Raises:
        OutputError: A file's suffix is no format of label maps, or it is one for several scans.
    """
    if output is None:
        return [None] * len(sources)
    is_image = suffix_of(output).lower() in LABEL_MAP_SUFFIXES
    if len(sources) == 1 and is_image:
        return [output]
    if scan.is_file():
        raise OutputError(
            "format",
            f"{output} was not written",
            why="label maps are not written in a format of that name",
            todo=f"Choose a name that ends in {', '.join(LABEL_MAP_SUFFIXES)}",
        )
    if is_image:
        raise OutputError(
            "several",
            f"{output} was not written",
            why=f"there are {len(sources)} scans, and it is one file",
            todo="Name a folder as --output",
        )
    names = [Path(source.name) for source in sources]
    homes = {_home(source) for source in sources}  # the series of one folder have one
    if _alike(names) or _alike([Path(home.name) for home in homes]):
        names = _mirrored(scan, sources)
    return [output / name.with_name(f"{name.name}.nii.gz") for name in names]


def _alike(names: Sequence[Path]) -> set[str]:
    """Return, in lower case, the names that some file systems could not tell apart."""
    counts = Counter(str(name).lower() for name in names)
    return {name for name, count in counts.items() if count > 1}


def _home(source: ScanSource) -> Path:
    """Return a scan's path without suffix, or the folder of a DICOM series: series share it."""
    first = source.paths[0]
    return first.parent.resolve() if reader_of(first) == DICOM else first.with_name(source.name)


def _mirrored(folder: Path, sources: Sequence[ScanSource]) -> list[Path]:
    """Return a path within a folder for each of its scans, without suffix, no two alike.

    Other scans that come or go do not change it, as long as names differ in more than case.
    """
    in_series = [reader_of(source.paths[0]) == DICOM for source in sources]
    count = Counter(
        source.paths[0].parent
        for source, is_series in zip(sources, in_series, strict=True)
        if is_series
    )
    plain: list[Path] = []
    whole: list[Path] = []
    for source, is_series in zip(sources, in_series, strict=True):
        holder = source.paths[0].parent
        place = holder.relative_to(folder)
        # Of the series of one folder, numbers would change with what is added to it.
        first = min(path.name for path in source.paths)
        if not is_series:
            plain.append(place / source.name)
            whole.append(place / first)
            continue
        series = holder.resolve().name
        whole.append(place.parent / f"{series}-{first}")
        plain.append(place.parent / series if count[holder] == 1 else whole[-1])
    alike = _alike(plain)  # such as a.nii and a.nrrd
    names: list[Path] = []
    taken: set[str] = set()
    for short, long in zip(plain, whole, strict=True):
        stem = name = long if str(short).lower() in alike else short
        number = 2
        while str(name).lower() in taken:
            name, number = stem.with_name(f"{stem.name}-{number}"), number + 1
        taken.add(str(name).lower())
        names.append(name)
    return names
