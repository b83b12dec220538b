"""Downloads: resumed, checked, and never made twice. Against a real HTTP server."""

from __future__ import annotations

import hashlib
import http.server
import random
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from medptq.errors import Cancelled, ModelError
from medptq.models.archive import extract_member
from medptq.models.catalogue import Download, Member
from medptq.models.download import fetch
from medptq.progress import Progress, Reporter

CONTENT = random.Random(0).randbytes(1 << 20)  # noqa: S311 - 1 MiB: several blocks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


@dataclass
class Server:
    """What the server serves, how it misbehaves, and what it was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)  # bytes, for each of the next answers
    refuse: list[int] = field(default_factory=list)  # status, for each of the next answers
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            state.asked.append((self.path, wanted))
            if state.refuse:
                self.send_error(state.refuse.pop(0))
                return
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = 0
            if wanted and state.ranges:
                match = re.fullmatch(r"bytes=(\d+)-", wanted)
                assert match
                start = int(match[1])
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                end = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            sent = content[start:]
            if state.cut_after:
                sent = sent[: state.cut_after.pop(0)]
            self.wfile.write(sent)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{running.server_port}"
        yield state
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, no mirror, no proxy; the folder that downloads go to."""
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MEDPTQ_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache" / "medptq-downloads"


def download(server: Server, sha256: str = SHA256) -> Download:
    server.files.setdefault("/net.bin", CONTENT)
    return Download("net.bin", sha256, len(CONTENT) / 1e6, f"{server.url}/net.bin")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(server: Server, downloads: Path) -> None:
    seen: list[Progress] = []

    path = fetch(download(server), Reporter(on_progress=seen.append))

    assert path == downloads / "net.bin"
    assert path.read_bytes() == CONTENT
    assert names(downloads) == ["net.bin"]
    assert (seen[0].fraction, seen[-1].fraction) == (0.0, 1.0)
    assert len(server.asked) == 1
    assert fetch(download(server), Reporter()) == path
    assert len(server.asked) == 1


def test_a_connection_that_is_cut_is_taken_up_again(server: Server) -> None:
    server.cut_after = [HALF, 100_000]

    path = fetch(download(server), Reporter())

    assert path.read_bytes() == CONTENT
    ranges = [wanted for _, wanted in server.asked]
    assert ranges[0] is None
    starts = [int(wanted[6:-1]) for wanted in ranges[1:] if wanted]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1] <= HALF + 100_000


def test_a_cancelled_download_goes_on_next_time(server: Server, downloads: Path) -> None:
    reports: list[Progress] = []
    stopping = Reporter(on_progress=reports.append, cancelled=lambda: len(reports) > 2)
    with pytest.raises(Cancelled):
        fetch(download(server), stopping)
    assert names(downloads) == ["net.bin.part"]
    have = (downloads / "net.bin.part").stat().st_size
    assert 0 < have < len(CONTENT)

    assert fetch(download(server), Reporter()).read_bytes() == CONTENT
    assert server.asked[-1] == ("/net.bin", f"bytes={have}-")


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("rest", [b"of another file", CONTENT, CONTENT + b"more", CONTENT[:HALF]])
def test_whatever_was_left_behind_the_right_file_arrives(
    server: Server, downloads: Path, rest: bytes, ranges: bool
) -> None:
    downloads.mkdir(parents=True)
    (downloads / "net.bin.part").write_bytes(rest)
    server.ranges = ranges

    assert fetch(download(server), Reporter()).read_bytes() == CONTENT
    assert names(downloads) == ["net.bin"]


def test_a_wrong_file_is_deleted(server: Server, downloads: Path) -> None:
    with pytest.raises(ModelError) as caught:
        fetch(download(server, sha256="0" * 64), Reporter())

    assert caught.value.code == "model.checksum"
    assert names(downloads) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server, downloads: Path) -> None:
    downloads.mkdir(parents=True)
    (downloads / "net.bin").write_bytes(CONTENT[:-1])
    warnings: list[str] = []

    path = fetch(download(server), Reporter(on_warning=warnings.append))

    assert path.read_bytes() == CONTENT
    assert len(warnings) == 1
    assert "damaged" in warnings[0]


def test_an_endless_answer_is_cut_short(server: Server, downloads: Path) -> None:
    server.files["/net.bin"] = CONTENT * 4

    with pytest.raises(ModelError, match="more than twice the expected") as caught:
        fetch(download(server), Reporter())

    assert caught.value.code == "model.download"
    assert (downloads / "net.bin.part").stat().st_size == 0


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server: Server) -> None:
    server.refuse = [503, 429]
    assert fetch(download(server), Reporter()).read_bytes() == CONTENT
    assert len(server.asked) == 3

    with pytest.raises(ModelError, match="404") as caught:
        fetch(Download("other.bin", SHA256, 1.0, f"{server.url}/other.bin"), Reporter())
    assert caught.value.code == "model.download"
    assert len(server.asked) == 4


def test_without_a_network_the_sentence_says_where_to_put_the_file(
    server: Server, downloads: Path
) -> None:
    wanted = Download("net.bin", SHA256, 1.0, "http://user:secret@127.0.0.1:1/net.bin")

    with pytest.raises(ModelError) as caught:
        fetch(wanted, Reporter())

    assert caught.value.code == "model.offline"
    assert str(downloads / "net.bin") in caught.value.todo
    assert "http://127.0.0.1:1/net.bin" in caught.value.todo
    assert "secret" not in str(caught.value)
    (downloads / "net.bin").write_bytes(CONTENT)  # by hand, as told
    assert fetch(wanted, Reporter()).read_bytes() == CONTENT


def test_a_mirror_folder_is_asked_first(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEDPTQ_MIRROR", str(tmp_path))
    (tmp_path / "net.bin").write_bytes(CONTENT)

    assert fetch(download(server), Reporter()).read_bytes() == CONTENT
    assert server.asked == []
    assert (tmp_path / "net.bin").exists()


def test_a_wrong_file_in_the_mirror_folder_is_refused_and_left_there(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, downloads: Path
) -> None:
    monkeypatch.setenv("MEDPTQ_MIRROR", str(tmp_path))
    (tmp_path / "net.bin").write_bytes(b"old")

    with pytest.raises(ModelError) as caught:
        fetch(download(server), Reporter())

    assert caught.value.code == "model.checksum"
    assert names(downloads) == []
    assert (tmp_path / "net.bin").read_bytes() == b"old"


def test_a_mirror_server_is_asked_first_and_then_the_origin(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDPTQ_MIRROR", f"{server.url}/mirror/")
    server.files["/mirror/net.bin"] = CONTENT
    fetch(download(server), Reporter()).unlink()
    assert [path for path, _ in server.asked] == ["/mirror/net.bin"]

    del server.files["/mirror/net.bin"]
    warnings: list[str] = []
    fetch(download(server), Reporter(on_warning=warnings.append))
    assert [path for path, _ in server.asked[1:]] == ["/mirror/net.bin", "/net.bin"]
    assert "404" in warnings[0]


def test_a_login_page_is_not_recorded_in_an_archive_s_place(
    server: Server, downloads: Path
) -> None:
    wanted = Download("net.zip", "", 1.0, f"{server.url}/net.zip")
    server.files["/net.zip"] = b"<html>Please log in</html>"

    with pytest.raises(ModelError, match="no zip archive") as caught:
        fetch(wanted, Reporter())

    assert caught.value.code == "model.download"
    assert names(downloads) == []


def test_without_a_checksum_another_file_is_believed_once_the_first_is_gone(
    server: Server, downloads: Path, tmp_path: Path
) -> None:
    wanted = Download("net.zip", "", 1.0, f"{server.url}/net.zip")
    for content in (b"first", b"second"):
        served = archive_of(tmp_path / "served.zip", {"net": content}).read_bytes()
        server.files["/net.zip"] = served
        path = fetch(wanted, Reporter())
        assert path.read_bytes() == served
        assert names(downloads) == ["net.zip", "net.zip.sha256"]
        path.unlink()


def archive_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_one_member_is_taken_and_nothing_else(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.whl", {"../../evil": b"evil", "data/net.pt": CONTENT})

    extract_member(archive, Member("data/net.pt", SHA256), tmp_path / "out" / "net", Reporter())

    assert (tmp_path / "out" / "net").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.whl", "out"]
    assert names(tmp_path / "out") == ["net"]


@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        ({"other": b""}, "model.archive", "has no member"),
        ({"net": b"other"}, "model.checksum", "deleted"),
        ({"net": bytes(10 << 20)}, "model.archive", "would take 10 MB"),
    ],
)
def test_a_bad_member_is_refused(
    tmp_path: Path, members: dict[str, bytes], code: str, words: str
) -> None:
    archive = archive_of(tmp_path / "a.whl", members)

    with pytest.raises(ModelError, match=words) as caught:
        extract_member(archive, Member("net", SHA256), tmp_path / "net", Reporter())

    assert caught.value.code == code
    assert names(tmp_path) == ["a.whl"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_a_member_whose_unpacking_has_no_limit_is_refused(tmp_path: Path, method: int) -> None:
    archive = tmp_path / "a.whl"
    with zipfile.ZipFile(archive, "w", method) as opened:
        opened.writestr("net", CONTENT)

    with pytest.raises(ModelError, match="compressed in a way") as caught:
        extract_member(archive, Member("net", SHA256), tmp_path / "net", Reporter())

    assert caught.value.code == "model.archive"
    assert names(tmp_path) == ["a.whl"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_damaged_archive_is_refused(tmp_path: Path, whole: bool) -> None:
    archive = archive_of(tmp_path / "a.whl", {"net": CONTENT})
    content = bytearray(archive.read_bytes())
    if whole:
        content[HALF] ^= 1
    else:
        del content[HALF:]
    archive.write_bytes(content)

    with pytest.raises(ModelError, match="no readable zip archive"):
        extract_member(archive, Member("net", SHA256), tmp_path / "net", Reporter())
    assert names(tmp_path) == ["a.whl"]
