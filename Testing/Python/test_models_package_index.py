"""Wheels from a package index, through the pip that is installed."""

from __future__ import annotations

import functools
import hashlib
import http.server
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from medptq.errors import Cancelled, ModelError
from medptq.models.catalogue import Download, Release, entry
from medptq.models.download import fetch
from medptq.models.loading import load_model
from medptq.progress import Progress, Reporter

WHEEL = "medptq_fake_net-1.0-py3-none-any.whl"


@pytest.fixture
def wheel(tmp_path: Path) -> Download:
    """A wheel in a simple index under ``tmp_path / "index"``."""
    folder = tmp_path / "index" / "simple" / "medptq-fake-net"
    folder.mkdir(parents=True)
    info = "medptq_fake_net-1.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("net.pt", bytes(range(256)) * 4000)  # pip reports progress from 512 kB on
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: medptq-fake-net\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (folder / "index.html").write_text(f'<!DOCTYPE html><a href="{WHEEL}">{WHEEL}</a>')
    sha256 = hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()
    return Download(WHEEL, sha256, 1.0, Release("medptq-fake-net", "1.0"))


@pytest.fixture
def index(wheel: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the index, and have pip know no other; yields its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/simple"
        configuration = tmp_path / "pip.conf"
        configuration.write_text(f"[global]\nindex-url = {url}\nretries = 0\nno-cache-dir = true\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
        for key in ("PIP_INDEX_URL", "PIP_NO_INDEX"):
            monkeypatch.delenv(key, raising=False)
        for key in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
            monkeypatch.setenv(key, "")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("MEDPTQ_MIRROR", raising=False)
        yield url
        server.shutdown()
        thread.join()


def test_a_wheel_is_found_where_pip_looks(index: str, wheel: Download, tmp_path: Path) -> None:
    seen: list[Progress] = []

    path = fetch(wheel, Reporter(on_progress=seen.append))

    assert path == tmp_path / "cache" / "medptq-downloads" / WHEEL
    assert hashlib.sha256(path.read_bytes()).hexdigest() == wheel.sha256
    assert [entry.name for entry in path.parent.iterdir()] == [WHEEL]
    assert seen[-1].fraction == 1.0


def test_another_wheel_of_that_name_is_not_taken(
    index: str, wheel: Download, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        fetch(replace(wheel, sha256="0" * 64), Reporter())

    assert caught.value.code == "model.checksum"
    assert list((tmp_path / "cache" / "medptq-downloads").iterdir()) == []


def test_what_the_index_lacks_can_be_put_there_by_hand(
    index: str, wheel: Download, tmp_path: Path
) -> None:
    wanted = replace(wheel, origin=Release("medptq-fake-net", "2.0"))

    with pytest.raises(ModelError) as caught:
        fetch(wanted, Reporter())

    target = tmp_path / "cache" / "medptq-downloads" / WHEEL
    assert caught.value.code == "model.offline"
    assert "medptq-fake-net==2.0" in caught.value.why
    assert str(target) in caught.value.todo
    target.write_bytes((tmp_path / "index/simple/medptq-fake-net" / WHEEL).read_bytes())
    assert fetch(wanted, Reporter()) == target


def test_cancelling_ends_pip(index: str, wheel: Download, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        fetch(wheel, Reporter(cancelled=lambda: True))

    assert list((tmp_path / "cache" / "medptq-downloads").iterdir()) == []


@pytest.mark.network
def test_deepbet_is_had_from_the_real_index(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MEDPTQ_MIRROR", raising=False)
    try:
        fetch(entry("deepbet").download, Reporter())
    except ModelError as error:
        if error.code == "model.offline":
            pytest.skip(f"no package index can be reached: {error.why}")
        raise

    model = load_model("deepbet")

    assert model.onnx.stat().st_size > 8_000_000
    networks = sorted(path.name for path in (tmp_path / "cache" / "medptq-networks").iterdir())
    assert len(networks) == 2
    assert networks[1].startswith("deepbet-locator-")
    # From the cache: without PyTorch, and without an index.
    code = (
        "import sys\n"
        "from medptq.models.loading import load_model\n"
        f"assert str(load_model('deepbet').onnx) == {str(model.onnx)!r}\n"
        "assert not {'torch', 'onnx', 'monai'} & sys.modules.keys()\n"
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    subprocess.run([sys.executable, "-c", code], check=True)
