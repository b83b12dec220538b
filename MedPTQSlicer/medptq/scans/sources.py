"""Where a scan's bytes lie: the files it is made of and their format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medptq.scans import refusals

DICOM = "GDCMImageIO"
METAIMAGE = "MetaImageIO"
NIFTI = "NiftiImageIO"
NRRD = "NrrdImageIO"

# ITK's reader of each format, by suffix. Naming the reader keeps ITK from trying all it has on
# files that nobody vouches for.
_READERS = {
    ".nii.gz": NIFTI,
    ".nii": NIFTI,
    ".nrrd": NRRD,
    ".nhdr": NRRD,
    ".mha": METAIMAGE,
    ".mhd": METAIMAGE,
}

_FORMATS = {DICOM: "DICOM", METAIMAGE: "MetaImage", NIFTI: "NIfTI", NRRD: "NRRD"}

_DICOM_MARK_AT = 128
_DICOM_MARK = b"DICM"


@dataclass(frozen=True)
class ScanSource:
    """The files that one scan is read from.

    Attributes:
        name: A name to show for it: the file's or the folder's, without the suffix. Never
            written to a log or a manifest, as it may name the patient.
        paths: One file; or the files of one DICOM series, in the order of their places.
    """

    name: str
    paths: tuple[Path, ...]

    @property
    def shown(self) -> str:
        """Name of the file, or of the series' folder, to be used in messages to the user."""
        return self.paths[0].name if len(self.paths) == 1 else self.name


def source_of_file(path: Path) -> ScanSource:
    """Return the source of a scan that is a single file."""
    return ScanSource(path.name.removesuffix(suffix_of(path)), (path,))


def suffix_of(path: Path) -> str:
    """Return the suffix of an image file as it is written, ``.nii.gz`` in one piece."""
    if path.name.lower().endswith(".nii.gz"):
        return path.name[-len(".nii.gz") :]
    return path.suffix


def reader_of(path: Path) -> str | None:
    """Return the name of ITK's reader for a file, or None if it is no image that is read here.

    DICOM files are told by their content, as they often have no suffix.

    Raises:
        ScanError: Its content would have to tell, and the user may not read it (``missing``).
    """
    reader = _READERS.get(suffix_of(path).lower())
    if reader is None and (path.suffix.lower() == ".dcm" or _has_dicom_mark(path)):
        return DICOM
    return reader


def format_of(path: Path) -> str:
    """Return the name of an image file's format, for a person to read; "" if it is none."""
    return _FORMATS.get(reader_of(path) or "", "")


def _has_dicom_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(_DICOM_MARK_AT)
            return file.read(len(_DICOM_MARK)) == _DICOM_MARK
    except PermissionError as error:  # it may well be a scan, not to be passed over in silence
        raise refusals.forbidden(path.name) from error
    except OSError:
        return False
