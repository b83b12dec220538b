"""Finding the scans in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from medptq.errors import ScanError
from medptq.progress import Reporter
from medptq.scans import dicom, refusals
from medptq.scans.quiet import quiet
from medptq.scans.sources import DICOM, ScanSource, reader_of, source_of_file


def find_scans(path: Path, reporter: Reporter) -> list[ScanSource]:
    """Find the scans that a path stands for.

    Args:
        path: An image file, or a folder that is searched with all its subfolders for any mix of
            NIfTI, NRRD, MetaImage and DICOM. Hidden files and folders are left out, and links to
            folders are not followed. The DICOM files of one folder are sorted into series by their
            headers; those without an image (reports, structure sets) and results (segmentations,
            doses) are left out.
        reporter: Is told of DICOM files that hold no readable image.

    Returns:
        The scans, in the order of their paths. None of them was read yet, so some may turn out to
        be unreadable.

    Raises:
        ScanError: There is no such path (``missing``), the file is in no format that is read here
            (``format``), or the folder holds no scan (``empty``).
    """
    if path.is_file():
        if reader_of(path) is None:
            raise refusals.unknown_format(path)
        return [source_of_file(path)]
    if not path.is_dir():
        raise refusals.missing(path)
    sources: list[ScanSource] = []
    slices: list[Path] = []
    for file in _visible_files(path):
        reader = reader_of(file)
        if reader == DICOM:
            slices.append(file)
        elif reader is not None:
            sources.append(source_of_file(file))
    sources += _series_among(slices, reporter)
    if not sources:
        raise ScanError(
            "empty",
            f"No scan was found in {path}",
            why=f"neither it nor its subfolders hold files of {refusals.FORMATS_IN_WORDS}",
            todo="Choose the folder that holds the scans",
        )
    return sorted(sources, key=lambda source: source.paths[0].parts)


def _visible_files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(parent, name)
            if not name.startswith(".") and file.is_file():
                yield file


def _series_among(slices: list[Path], reporter: Reporter) -> list[ScanSource]:
    if not slices:
        return []
    with quiet():
        headers = {
            path: dicom.read_header(path)
            for path in reporter.track(slices, "Reading DICOM headers")
        }
    sources = []
    for folder, paths in groupby(slices, key=lambda path: path.parent):
        images = [(path, headers[path]) for path in paths]
        readable = [image for _, image in images if image is not None]
        if len(readable) < len(images):
            reporter.warn(
                f"{len(images) - len(readable)} DICOM files in {folder} hold no image that can be"
                " read, and were left out"
            )
        series = dicom.series_of(readable)
        name = folder.resolve().name
        for number, files in enumerate(sorted(series), start=1):
            sources.append(ScanSource(name if len(series) == 1 else f"{name}-{number}", files))
    return sources
