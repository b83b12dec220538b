"""A package index of small wheels, for tests of what pip would do and does."""

from __future__ import annotations

import functools
import http.server
import os
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


class PackageIndex:
    """Two indexes on one server: ``simple`` as PyPI, and ``cpu`` as PyTorch's of builds for CPUs.

    Attributes:
        folder: What is served.
        url: Where it is served.
        stalls: Names of files that never arrive.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.stalls: set[str] = set()
        for name in ("simple", "cpu"):
            (folder / name).mkdir(parents=True)

    def add(
        self, name: str, version: str, requires: Sequence[str] = (), index: str = "simple"
    ) -> Path:
        """Add a wheel that holds one module, and return it."""
        module = name.replace("-", "_")
        wheel = self.folder / index / name / f"{module}-{version}-py3-none-any.whl"
        wheel.parent.mkdir(exist_ok=True)
        info = f"{module}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{module}.py", f"version = {version!r}\n")
            archive.writestr(
                f"{info}/METADATA",
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
            )
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        self._list(wheel.parent)
        return wheel

    def add_source(self, name: str, version: str) -> None:
        """Add a package that there is no wheel of."""
        folder = self.folder / "simple" / name
        folder.mkdir()
        (folder / f"{name}-{version}.tar.gz").write_bytes(b"setup.py would be run")
        self._list(folder)

    def _list(self, folder: Path) -> None:
        links = "".join(
            f'<a href="{path.name}">{path.name}</a>'
            for path in sorted(folder.iterdir())
            if path.suffix != ".html"
        )
        (folder / "index.html").write_text(f"<!DOCTYPE html>{links}", encoding="utf-8")

    @contextmanager
    def serve(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
        """Serve it, and have pip know no other."""
        index, ended = self, threading.Event()

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.rpartition("/")[2] in index.stalls:
                    self.send_response(200)
                    self.send_header("Content-Length", "1000000")
                    self.end_headers()
                    ended.wait(60)
                    return
                super().do_GET()

            def log_message(self, *_: object) -> None: ...

        handler = functools.partial(Handler, directory=str(self.folder))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            self.url = f"http://127.0.0.1:{server.server_port}"
            configuration = self.folder.parent / "pip.conf"
            configuration.write_text(
                f"[global]\nindex-url = {self.url}/simple\nno-cache-dir = true\n",
                encoding="utf-8",
            )
            for key in [key for key in os.environ if key.startswith("PIP_")]:
                monkeypatch.delenv(key)
            monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
            for key in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
                monkeypatch.setenv(key, "")
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            yield self
            ended.set()
            server.shutdown()
            thread.join()
