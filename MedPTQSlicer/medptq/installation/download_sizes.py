"""``python -m medptq.installation.download_sizes FILE``: how large the files of some URLs are.

The file is a JSON list of URLs. The sizes are printed as one: bytes, or null where the server does
not tell. It is run by the Python that will download them, whose proxy and certificates
are taken from the environment.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_AT_ONCE = 8
_TIMEOUT_SECONDS = 10


def download_sizes(urls: Sequence[str]) -> list[int | None]:
    """Return each file's size in bytes, or None where it is not told."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(_size, urls))


def _size(url: str) -> int | None:
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - pip gave the URL
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            return int(answer.headers["Content-Length"])
    except (OSError, ValueError, TypeError):
        return None


if __name__ == "__main__":
    urls = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(json.dumps(download_sizes(urls)) + "\n")
