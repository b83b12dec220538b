"""DICOM series: which files belong together, in which order, and whether any are missing.

ITK takes slices as they come: it warns of a missing one and goes on, and it drops the shear of a
tilted gantry. Here the places of all slices, and of all frames of a file, are compared, and such
series are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medptq.artifacts import is_text
from medptq.errors import ScanError
from medptq.scans import refusals
from medptq.scans.dicom_frames import frame_positions
from medptq.scans.sources import DICOM

Positions: TypeAlias = NDArray[np.float64]

_SERIES_UID = "0020|000e"
_MODALITY = "0008|0060"
_POSITION = "0020|0032"

# Objects with pixels that are results, not scans.
_RESULTS = ("SEG", "RTDOSE")

_SAME_DIRECTION = 1e-3  # between direction cosines, which scanners write with rounding
_SAME_PLACE = 0.01  # mm
_UNEVEN = 0.1  # of the slice spacing, by which a slice may lie off its place


@dataclass(frozen=True)
class DicomImage:
    """The header of one DICOM file that holds an image.

    Attributes:
        path: The file.
        series: The UID of its series; empty if it has none.
        kind: What all slices of a series have in common: its UID, size and voxel size.
        frames: Images in the file.
        direction: Direction cosines, 3x3, columns the image's axes in LPS.
        position: LPS position of its first voxel, in mm.
        pixel_spacing: Voxel size in mm along I and J.
    """

    path: Path
    series: str
    kind: tuple[object, ...]
    frames: int
    direction: NDArray[np.float64]
    position: Positions
    pixel_spacing: tuple[float, float]


def read_header(path: Path) -> DicomImage | None:
    """Read one file's header; None if it holds no image, or only a result such as a dose."""
    if not is_text(path):
        return None
    reader = sitk.ImageFileReader()
    reader.SetImageIO(DICOM)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None

    def tag(name: str) -> str:
        return str(reader.GetMetaData(name)).strip() if reader.HasMetaDataKey(name) else ""

    if tag(_MODALITY) in _RESULTS:
        return None
    size = reader.GetSize()  # 3D for any DICOM file
    return DicomImage(
        path=path,
        series=tag(_SERIES_UID),
        # Not as it is written: some mix 0.5 and 0.500 in a series.
        kind=(tag(_SERIES_UID), size[:2], tuple(round(mm, 4) for mm in reader.GetSpacing()[:2])),
        frames=size[2],
        direction=np.reshape(reader.GetDirection(), (3, 3)),
        position=np.array(reader.GetOrigin()),
        pixel_spacing=reader.GetSpacing()[:2],
    )


def series_of(images: Iterable[DicomImage]) -> list[tuple[DicomImage, ...]]:
    """Sort the images of one folder into series, each in the order of its slices' places.

    A file of several frames is a series by itself. A series whose slices lie in several
    directions (a localizer) is taken apart by direction.
    """
    groups: list[list[DicomImage]] = []
    for image in images:
        for group in groups:
            first = group[0]
            if (
                max(first.frames, image.frames) == 1
                and first.kind == image.kind
                and np.allclose(first.direction, image.direction, atol=_SAME_DIRECTION)
            ):
                group.append(image)
                break
        else:
            groups.append([image])
    return [
        tuple(sorted(group, key=lambda image: float(group[0].direction[:, 2] @ image.position)))
        for group in groups
    ]


def slice_spacing_of(slices: Sequence[DicomImage], name: str) -> float:
    """Return the distance of the slices of one series in mm, as far as their headers tell.

    Args:
        slices: Headers, in the order of the slices' places; at least two.
        name: The series' name, for errors.

    Raises:
        ScanError: The slices do not fill a box evenly, as in :func:`read_series`.
    """
    positions = np.array([image.position for image in slices])
    _check_places(positions, name)
    way = positions[-1] - positions[0]
    normal = slices[0].direction[:, 2]
    if np.linalg.norm(way - normal * (normal @ way)) > 0.5 * min(slices[0].pixel_spacing):
        raise refusals.sheared(name)
    return float(np.linalg.norm(way) / (len(slices) - 1))


def read_series(paths: tuple[Path, ...], name: str, pixel_type: int) -> sitk.Image:
    """Read the slices of one series, in this order, as one image.

    Args:
        paths: The files, in the order of their places.
        name: The series' name, for errors.
        pixel_type: SimpleITK's pixel type to read as. Each slice is rescaled by its own slope and
            intercept.

    Raises:
        ScanError: A file cannot be read (``corrupt``), or the slices do not fill a box evenly
            (``missing-slices``, ``duplicate-slices``, ``uneven-slices``, ``sheared``,
            ``no-position``).
    """
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO(DICOM)
    reader.SetFileNames([str(path) for path in paths])
    reader.SetOutputPixelType(pixel_type)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        image = reader.Execute()
    except RuntimeError as error:
        why = "its files are damaged, or do not belong together"
        raise refusals.corrupt(name, why) from error
    try:
        positions = np.array(
            [
                [float(number) for number in reader.GetMetaData(n, _POSITION).split("\\")]
                for n in range(len(paths))
            ]
        ).reshape(len(paths), 3)
    except (RuntimeError, ValueError) as error:
        raise _no_position(name) from error
    _check_places(positions, name)
    last = np.array(image.TransformIndexToPhysicalPoint((0, 0, image.GetSize()[2] - 1)))
    if np.linalg.norm(last - positions[-1]) > 0.5 * min(image.GetSpacing()[:2]):
        raise refusals.sheared(name)
    return image


def check_frames(path: Path, reader: sitk.ImageFileReader, name: str) -> None:
    """Refuse a file whose frames do not fill a box evenly in their order, as ITK stacks them.

    A file whose frames have no places of their own (ultrasound, nuclear medicine, screenshots) is
    left to ITK.

    Args:
        path: The file.
        reader: One that has read its header.
        name: The scan's name, for errors.

    Raises:
        ScanError: As :func:`read_series`.
    """
    try:
        positions = frame_positions(path)
    except ValueError as error:
        raise _no_position(name) from error
    if positions is None:
        return
    frames = reader.GetSize()[2]
    if len(positions) != frames:
        raise _no_position(name)
    normal = np.reshape(reader.GetDirection(), (3, 3))[:, 2]
    order = np.argsort(positions @ normal)
    _check_places(positions[order], name)
    if list(order) not in (list(range(frames)), list(range(frames))[::-1]):
        raise _unusable(
            name,
            "uneven-slices",
            "its frames are not in the order of their places",
            "Convert it to NIfTI first",
        )
    last = np.array(reader.GetOrigin()) + normal * reader.GetSpacing()[2] * (frames - 1)
    if np.linalg.norm(last - positions[-1]) > 0.5 * min(reader.GetSpacing()[:2]):
        raise refusals.sheared(name)


def _check_places(positions: Positions, name: str) -> None:
    """Refuse slices that are missing, come twice or are unevenly spaced."""
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    usual = float(np.median(gaps))
    if gaps.min() < _SAME_PLACE:
        raise _unusable(
            name,
            "duplicate-slices",
            "several of its slices lie at the same place, as in series of several phases or echoes",
            "Export the phases as separate series, or convert the one you want to NIfTI",
        )
    even = np.linspace(positions[0], positions[-1], len(positions))
    apart = np.linalg.norm(positions - even, axis=1).max()
    if apart <= _UNEVEN * usual:
        return
    if gaps.max() > 1.5 * usual:
        absent = int(np.maximum(np.round(gaps / usual) - 1, 0).sum())
        raise _unusable(
            name,
            "missing-slices",
            f"{absent} of its slices {'is' if absent == 1 else 'are'} missing",
            "Export the whole series again",
        )
    raise _unusable(
        name,
        "uneven-slices",
        f"its slices are unevenly spaced, from {gaps.min():.2f} to {gaps.max():.2f} mm apart",
        "Resample it to even spacing first, or choose another reconstruction",
    )


def _no_position(name: str) -> ScanError:
    return _unusable(
        name,
        "no-position",
        "its slices do not say where they lie (Image Position (Patient) is missing)",
        "Export the original series from the archive, not a secondary capture",
    )


def _unusable(name: str, code: str, why: str, todo: str) -> ScanError:
    return ScanError(code, f"{name} cannot be used", why=why, todo=todo)
