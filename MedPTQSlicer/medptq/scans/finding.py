"""Finding the scans in a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from medptq.errors import ScanError
from medptq.progress import Reporter
from medptq.scans import dicom, refusals
from medptq.scans.quiet import quiet
from medptq.scans.sources import DICOM, ScanSource, reader_of, source_of_file

Slices: TypeAlias = tuple[dicom.DicomImage, ...]


def find_scans(path: Path, reporter: Reporter) -> list[ScanSource]:
    """Find the scans that a path stands for.

    Args:
        path: An image file, or a folder that is searched with all its subfolders for any mix of
            NIfTI, NRRD, MetaImage and DICOM. Hidden files and folders are left out, and links to
            folders are not followed. The DICOM files of one folder are sorted into series by their
            headers; those without an image (reports, structure sets) and results (segmentations,
            doses) are left out.
        reporter: Is told of DICOM files that hold no readable image, of series that several
            folders share, and of what the user may not read, which is passed over.

    Returns:
        The scans, in the order of their paths. None of them was read yet, so some may turn out to
        be unreadable.

    Raises:
        ScanError: There is no such path, or it may not be read (``missing``), the file
            is in no format that is read here (``format``), or the folder holds no scan
            (``empty``).
    """
    return [source for source, _ in find_with_slices(path, reporter)]


def find_with_slices(path: Path, reporter: Reporter) -> list[tuple[ScanSource, Slices]]:
    """Find scans as :func:`find_scans`, each with its slices' headers if it is a DICOM series.

    A DICOM file that was named itself comes without.
    """
    # Not Path.is_file: up to Python 3.13 it raises PermissionError within a forbidden folder.
    if os.path.isfile(path):  # noqa: PTH113
        if reader_of(path) is None:
            raise refusals.unknown_format(path)
        return [(source_of_file(path), ())]
    if not os.path.isdir(path):  # noqa: PTH112
        raise refusals.missing_or_forbidden(path)
    found: list[tuple[ScanSource, Slices]] = []
    slices: list[Path] = []
    forbidden: Counter[Path] = Counter()  # by folder: a series may have thousands of files
    for file in _visible_files(path, reporter):
        try:
            reader = reader_of(file)
        except ScanError:
            forbidden[file.parent] += 1
            continue
        if reader == DICOM and not os.access(file, os.R_OK):  # else taken for one without image
            forbidden[file.parent] += 1
        elif reader == DICOM:
            slices.append(file)
        elif reader is not None:
            found.append((source_of_file(file), ()))
    for folder, count in forbidden.items():
        files = "one file" if count == 1 else f"{count} files"
        reporter.warn(f"Of {folder} {files} could not be looked at: {refusals.FORBIDDEN}")
    found += _series_among(slices, reporter)
    if not found:
        raise ScanError(
            "empty",
            f"No scan was found in {path}",
            why=f"neither it nor its subfolders hold files of {refusals.FORMATS_IN_WORDS}",
            todo="Choose the folder that holds the scans",
        )
    return sorted(found, key=lambda scan: scan[0].paths[0].parts)


def _warn_of_forbidden(path: Path, reporter: Reporter) -> None:
    reporter.warn(f"{path} was left out: {refusals.FORBIDDEN}")


def _visible_files(top: Path, reporter: Reporter) -> Iterator[Path]:
    def passed_over(error: OSError) -> None:
        if refusals.is_forbidden(error):
            if Path(error.filename) == top:
                raise refusals.forbidden(str(top)) from error
            _warn_of_forbidden(Path(error.filename), reporter)

    for parent, folders, files in os.walk(top, onerror=passed_over):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = [Path(parent, name) for name in sorted(files) if not name.startswith(".")]
        if visible and not os.access(parent, os.X_OK):  # it can be listed, and nothing in it opened
            _warn_of_forbidden(Path(parent), reporter)
            continue
        yield from (file for file in visible if os.path.isfile(file))  # noqa: PTH113


def _series_among(slices: list[Path], reporter: Reporter) -> list[tuple[ScanSource, Slices]]:
    if not slices:
        return []
    with quiet():
        headers = {
            path: dicom.read_header(path)
            for path in reporter.track(slices, "Reading DICOM headers")
        }
    found = []
    for folder, paths in groupby(slices, key=lambda path: path.parent):
        all_headers = [headers[path] for path in paths]
        readable = [header for header in all_headers if header is not None]
        without = len(all_headers) - len(readable)
        if without:
            reporter.warn(
                f"{without} DICOM files in {folder} hold no image that can be"
                " read, and were left out"
            )
        series = dicom.series_of(readable)
        name = folder.resolve().name
        by_path = sorted(series, key=lambda images: [image.path for image in images])
        for number, images in enumerate(by_path, start=1):
            files = tuple(image.path for image in images)
            source = ScanSource(name if len(series) == 1 else f"{name}-{number}", files)
            found.append((source, images))
    _warn_of_shared_series([images for _, images in found], reporter)
    return found


def _warn_of_shared_series(found: Iterable[Slices], reporter: Reporter) -> None:
    """Tell of series with slices in several folders: half a scan looks like a whole one."""
    folders: dict[tuple[object, ...], dict[Path, None]] = {}
    for images in found:
        first = images[0]
        if first.frames == 1 and first.series:  # any other is a scan of its own anyway
            folders.setdefault(first.kind, {})[first.path.parent] = None
    for first_folder, *others in folders.values():
        if others:
            reporter.warn(
                f"Slices of one DICOM series lie in {1 + len(others)} folders, such as"
                f" {first_folder} and {others[0]}; those of each are taken for a scan of their own"
            )
