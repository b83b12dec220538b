"""The errors of scans that are raised in more than one place."""

from __future__ import annotations

import errno
from pathlib import Path

from medptq.artifacts import shown_name
from medptq.errors import ScanError

FORMATS_IN_WORDS = "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) and DICOM"
_MEND_HEADER = "Mend the header, or convert the scan again from its DICOM files"


def missing(path: Path) -> ScanError:
    """Return the error for a file or folder that is not there."""
    return ScanError(
        "missing",
        f"{path} cannot be read",
        why="there is no such file or folder",
        todo="Check the spelling, and that the disk it is on is connected",
    )


FORBIDDEN = "you may not read it"


def is_forbidden(error: BaseException) -> bool:
    """Return whether an error says that the user lacks the permission to read."""
    return isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM)


def forbidden(name: str) -> ScanError:
    """Return the error for a file or folder that the user has no permission to read."""
    return ScanError(
        "missing",
        f"{name} cannot be read",
        why=FORBIDDEN,
        todo="Ask its owner for the permission to read it, or copy it to a folder of yours",
    )


def missing_or_forbidden(path: Path) -> ScanError:
    """Return the error for a path that is neither a file nor a folder, as far as can be seen."""
    try:
        path.stat()
    except OSError as error:
        if is_forbidden(error):
            return forbidden(str(path))
    return missing(path)


def unknown_format(path: Path) -> ScanError:
    """Return the error for a file whose format is not read here."""
    return ScanError(
        "format",
        f"{path.name} cannot be read",
        why="it is in none of the formats that are read here",
        todo=f"Convert it to one of {FORMATS_IN_WORDS}",
    )


def unnamable(path: Path) -> ScanError:
    """Return the error for a path that libraries cannot be told: its bytes are no text."""
    return ScanError(
        "format",
        f"{shown_name(path)} cannot be read",
        why="its name, or a folder's that it lies in, holds letters in an encoding that this "
        "system does not use",
        todo="Rename it in plain letters",
    )


def corrupt(name: str, why: str) -> ScanError:
    """Return the error for a file that is damaged or not what its suffix says."""
    return ScanError(
        "corrupt", f"{name} cannot be read", why=why, todo="Copy, download or export it again"
    )


def singular(name: str, found: str) -> ScanError:
    """Return the error for a geometry from which no position in the patient follows."""
    return ScanError(
        "singular",
        f"{name} cannot be used",
        why=f"its header has {found}, so it does not say where the voxels lie",
        todo=_MEND_HEADER,
    )


def sheared(name: str) -> ScanError:
    """Return the error for voxels that are not rectangular boxes."""
    return ScanError(
        "sheared",
        f"{name} cannot be used",
        why="its axes are not at right angles (a shear, as from a tilted CT gantry or an affine"
        " registration), and leaving the shear out would move the anatomy",
        todo="Resample it to a rectangular grid first",
    )


def misplaced(name: str) -> ScanError:
    """Return the error for a header that contradicts itself."""
    return ScanError(
        "geometry",
        f"{name} cannot be used",
        why="its header gives one voxel size in pixdim and another in its sform",
        todo=_MEND_HEADER,
    )


def not_finite(name: str, count: int, voxels: int) -> ScanError:
    """Return the error for intensities that no arithmetic can be done with."""
    return ScanError(
        "not-finite",
        f"{name} cannot be used",
        why=f"{count} of its {voxels} voxels are not numbers (NaN) or infinite",
        todo="Replace them with the background's intensity, for example with numpy.nan_to_num, and"
        " save the scan again",
    )
