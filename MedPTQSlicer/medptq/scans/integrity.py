"""Headers that keep their voxels in another file, and compressed voxels that are damaged."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from medptq.errors import ScanError
from medptq.scans import refusals

_BLOCK = 1 << 20
_LONGEST_HEADER = 1 << 20
_DATA_FILE = re.compile(
    rb"^[ \t]*(?:ElementDataFile[ \t]*=|data ?file:)[ \t]*(.*?)[ \t]*(?:\r?\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_COMPRESSED = re.compile(
    rb"^[ \t]*(?:CompressedData[ \t]*=[ \t]*True|encoding:[ \t]*gz)", re.IGNORECASE | re.MULTILINE
)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


def data_file_of(path: Path) -> Path | None:
    """Return the file in which a MetaImage or NRRD header keeps its voxels, if it is another one.

    Raises:
        ScanError: The header spreads its voxels over several files, or names a file outside its
            own folder (``detached``): a header that nobody vouches for must not have any file of
            the machine read as an image.
    """
    if path.suffix.lower() not in (".mhd", ".mha", ".nhdr", ".nrrd"):
        return None
    found = _DATA_FILE.search(_header_of(path))
    if found is None or found[1].upper() == b"LOCAL":
        return None
    name = found[1].decode("utf-8", errors="replace").removeprefix("./")
    data = path.parent / name
    plain = name not in ("", ".", "..") and not set(name) & set('/\\%:*?"<>|')
    if not plain or name.upper().startswith("LIST"):
        raise ScanError(
            "detached",
            f"{path.name} cannot be used",
            why="its header does not keep the voxels in one file beside it",
            todo="Convert it to a format of one file, .nii.gz, .nrrd or .mha",
        )
    return data


def check_compressed(path: Path) -> None:
    """Check that the voxels of a compressed MetaImage or NRRD are whole.

    ITK reads what is missing or damaged of a MetaImage as zeros or noise. (What is not compressed
    it does check.)

    Raises:
        ScanError: The data is cut off, damaged (``corrupt``) or not in its folder (``detached``),
            or the user may not read it (``missing``).
    """
    header = _header_of(path)
    if _COMPRESSED.search(header) is None:
        return
    data = data_file_of(path)
    inflate = zlib.decompressobj(wbits=47)  # zlib or gzip, as ITK takes either
    try:
        with (data or path).open("rb") as file:
            file.seek(len(header) if data is None else 0)
            while not inflate.eof and (block := file.read(_BLOCK)):
                while block and not inflate.eof:
                    inflate.decompress(block, _BLOCK)
                    block = inflate.unconsumed_tail
    except (OSError, zlib.error) as error:
        if refusals.is_forbidden(error):
            raise refusals.forbidden((data or path).name) from error
        raise refusals.corrupt(path.name, "its content is missing or damaged") from error
    if not inflate.eof:
        raise refusals.corrupt(path.name, "its content is cut off")


def _header_of(path: Path) -> bytes:
    """Return all before the voxels: to a blank line (NRRD) or the data file's name (MetaImage)."""
    try:
        with path.open("rb") as file:
            head = file.read(_LONGEST_HEADER)
    except OSError as error:
        if refusals.is_forbidden(error):
            raise refusals.forbidden(path.name) from error
        raise refusals.missing(path) from error
    end = _BLANK_LINE if path.suffix.lower() in (".nhdr", ".nrrd") else _DATA_FILE
    found = end.search(head)
    return head if found is None else head[: found.end()]
