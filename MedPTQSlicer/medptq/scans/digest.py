"""The fingerprint of a scan, which says that two runs used the same one without naming it."""

from __future__ import annotations

import hashlib

from medptq.scans import refusals
from medptq.scans.integrity import data_file_of
from medptq.scans.sources import ScanSource


def digest_of(source: ScanSource) -> str:
    """Return the SHA-256 over the bytes of a scan's files, as 64 hexadecimal digits.

    The files count one after the other, in the source's order, and the data file of a detached
    header right after it. Neither names nor dates count. For a scan in one file it is what
    ``sha256sum`` prints.

    Raises:
        ScanError: A file is not there.
    """
    digest = hashlib.sha256()
    for path in source.paths:
        data = data_file_of(path) if path.is_file() else None
        for file in (path,) if data is None else (path, data):
            if not file.is_file():
                raise refusals.missing(file)
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
