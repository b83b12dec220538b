"""Downloading a file over HTTP, resuming what was cut off.

Proxies and certificate authorities are those that ``requests`` takes from the environment
(``HTTPS_PROXY``, ``REQUESTS_CA_BUNDLE``).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import requests

from medptq.errors import ModelError
from medptq.progress import Reporter

_ATTEMPTS = 3
_BLOCK = 1 << 16  # also what may be lost as a connection is cut
_TIMEOUT = (15.0, 60.0)  # seconds to connect, and between two blocks
_UNKNOWN_MB = 2000.0
_OK, _PARTIAL, _BEYOND_THE_END = 200, 206, 416
_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500


class _TransferError(Exception):
    """The transfer stopped for a reason that may pass."""


def download_url(
    url: str,
    require: Callable[[Path], None],
    size_mb: float,
    target: Path,
    reporter: Reporter,
) -> None:
    """Download ``url`` to ``target``.

    What has arrived is kept beside the target as ``.part`` until the file is whole, so a
    transfer that was cut off or cancelled goes on from there, also in another process.

    Args:
        url: ``https://...``, or ``http://...`` for a mirror.
        require: Raises ModelError if a file is not the one that was meant, and deletes it.
        size_mb: Its size in MB, about; a server that sends twice as much is not listened to. 0
            if it is not known; then a server may send 4 GB.
        target: Where it shall lie; its folder exists.
        reporter: Told of the progress, asked for cancellation.

    Raises:
        ModelError: ``model.offline``, ``model.download`` or ``model.checksum``; see
            :func:`medptq.models.download.fetch`.
        OSError: It cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    resumed = _size(part) > 0
    _receive_all(url, size_mb, part, target, reporter)
    try:
        require(part)
    except ModelError:
        if not resumed:
            raise
        # The first part may be of an older file, or of a process that wrote at the same time.
        _receive_all(url, size_mb, part, target, reporter)
        require(part)
    part.replace(target)


def _receive_all(url: str, size_mb: float, part: Path, target: Path, reporter: Reporter) -> None:
    most, failures = _size(part), 0
    while failures < _ATTEMPTS:
        try:
            return _receive_rest(url, size_mb, part, reporter)
        except _TransferError as error:
            reason = str(error)
        arrived = _size(part)
        # A slow, shaky line may take any number of attempts, as long as each brings it further.
        failures = 0 if arrived > most else failures + 1
        most = max(most, arrived)
        if failures < _ATTEMPTS:
            _wait(0.25 * 2**failures, reporter)
    raise ModelError(
        "offline",
        f"{target.name} could not be downloaded",
        why=reason,
        todo="Connect to the network (a proxy is taken from the environment variable HTTPS_PROXY)"
        f" and try again, or fetch {_shown(url)} on another computer and put it at {target}",
    )


def _receive_rest(url: str, size_mb: float, part: Path, reporter: Reporter) -> None:
    """Ask for the bytes that ``part`` lacks and append them, or start again if need be."""
    have = _size(part)
    # "identity": a byte range of a compressed transfer could not be appended.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == _BEYOND_THE_END and have:
                part.unlink()
                raise _TransferError("the server has no more of it than was already here")
            _require_success(response, url)
            goes_on = response.status_code == _PARTIAL
            if goes_on and not _starts_at(response, have):
                part.unlink(missing_ok=True)
                raise _TransferError("the server sent another part than was asked for")
            start = have if goes_on else 0
            length = response.headers.get("Content-Length", "")
            end = start + int(length) if length.isdecimal() else None
            with part.open("ab" if goes_on else "wb") as file:
                _write_blocks(response, file, start, end, size_mb, reporter)
    except requests.RequestException as error:  # it is an OSError too, but not the disk's
        raise _TransferError(_cause(error)) from error
    if end is not None and _size(part) < end:
        raise _TransferError("the connection was cut")


def _write_blocks(
    response: requests.Response,
    file: BinaryIO,
    start: int,
    end: int | None,
    size_mb: float,
    reporter: Reporter,
) -> None:
    most = int(2e6 * (size_mb or _UNKNOWN_MB)) + _BLOCK
    expected = int(1e6 * size_mb) if end is None else end
    blocks: Iterator[bytes] = response.iter_content(_BLOCK)
    for block in reporter.track(blocks, "Downloading", -(-(expected - start) // _BLOCK)):
        start += len(block)
        if start > most:
            file.truncate(0)
            raise ModelError(
                "download",
                "The download was stopped",
                why=f"more than twice the expected {size_mb or _UNKNOWN_MB:g} MB arrived",
                todo="Check whether a proxy or the mirror answers in place of the server",
            )
        file.write(block)
    file.flush()
    os.fsync(file.fileno())


def _require_success(response: requests.Response, url: str) -> None:
    status = response.status_code
    if status in (_OK, _PARTIAL):
        return
    if status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS:
        raise _TransferError(f"the server answered {status} {response.reason}")
    raise ModelError(
        "download",
        f"{_shown(url)} could not be downloaded",
        why=f"the server answered {status} {response.reason}",
        todo="Check that this computer may reach it, or try a newer version of MedPTQ",
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _starts_at(response: requests.Response, start: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _cause(error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "the server's certificate is not trusted here (REQUESTS_CA_BUNDLE names those that are)"
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy cannot be reached"
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.ConnectionError):
        return "the server cannot be reached"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    return str(error)


def _shown(url: str) -> str:
    """Return the URL without a user's name and password."""
    return re.sub(r"//[^/@]*@", "//", url)


def _wait(seconds: float, reporter: Reporter) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        reporter.check()
        time.sleep(0.05)
