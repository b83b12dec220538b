"""What a Python tells of itself, asked in real Pythons with nothing installed."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment

from medptq.installation.facts import Facts, facts

SOURCES = Path(__file__).parents[2] / "MedPTQSlicer"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with nothing, not even pip."""
    folder = tmp_path_factory.mktemp("env") / "é with space"
    venv.create(folder, with_pip=False)
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _ask(python: Path, cwd: Path = SOURCES) -> Facts:
    done = subprocess.run(
        [python, "-m", "medptq.installation"], cwd=cwd, capture_output=True, text=True, check=True
    )
    assert done.stdout.isascii()
    return Facts.from_json(done.stdout)


def test_a_bare_environment_is_described(bare: Path) -> None:
    found = _ask(bare)
    assert found.packages.keys() <= {"medptq"}  # of the sources that it is run from
    assert found.kind == "venv"
    assert not found.externally_managed
    assert found.writable
    assert found.free_disk_gb > 0
    assert Path(found.prefix) == bare.parents[1]
    assert bare.parents[1] in Path(found.site_packages).parents
    assert found.python == "{}.{}.{}".format(*sys.version_info[:3])


def test_this_environment_is_described() -> None:
    found = facts()
    assert Facts.from_json(found.to_json()) == found
    for name in ("numpy", "simpleitk", "torch", "onnx-ir"):  # normalized
        assert found.packages[name] == metadata.version(name)
    assert found.environment == {
        key: value for key, value in default_environment().items() if key != "extra"
    }
    assert Marker("python_version >= '3.10'").evaluate(dict(found.environment))


def test_a_python_that_the_system_keeps_says_so(bare: Path, tmp_path: Path) -> None:
    code = (
        "import sys, sysconfig\n"
        "sys.base_prefix = sys.prefix\n"  # as in a Python that is no environment
        f"sysconfig.get_path = lambda name: {str(tmp_path)!r}\n"
        "from medptq.installation.facts import facts\n"
        "print(facts().to_json())"
    )

    def ask() -> Facts:
        done = subprocess.run(
            [bare, "-c", code], cwd=SOURCES, capture_output=True, text=True, check=True
        )
        return Facts.from_json(done.stdout)

    assert (ask().kind, ask().externally_managed) == ("plain", False)
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    assert (ask().kind, ask().externally_managed) == ("plain", True)


def test_what_an_interrupted_installation_left_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "~umpy-1.0.dist-info").mkdir()
    (tmp_path / "good_One-2.0.dist-info").mkdir()
    (tmp_path / "good_One-2.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: good_One\nVersion: 2.0\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert facts().packages["good-one"] == "2.0"


def test_nothing_but_the_standard_library_is_needed(bare: Path) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import medptq.installation.__main__, medptq.installation.download_sizes\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [bare, "-c", code], cwd=SOURCES, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) - {"medptq"} <= sys.stdlib_module_names


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"python": "3.12"}', "Python 2.7", "null"])
def test_anything_else_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match="no facts"):
        Facts.from_json(text)


class _Files(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        known = {"/small.whl": 17, "/large.whl": 190_000_000}
        self.send_response(200 if self.path in known else 404)
        if self.path in known:
            self.send_header("Content-Length", str(known[self.path]))
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_sizes_are_told_where_they_are_known(server: str, bare: Path, tmp_path: Path) -> None:
    local = tmp_path / "é local.whl"
    local.write_bytes(b"12345")
    urls = [f"{server}/small.whl", f"{server}/gone.whl", local.as_uri(), f"{server}/large.whl"]
    urls += ["http://127.0.0.1:9/refused.whl", "nonsense"]
    asked = tmp_path / "urls.json"
    asked.write_text(json.dumps(urls), encoding="utf-8")
    done = subprocess.run(
        [bare, "-m", "medptq.installation.download_sizes", asked],
        cwd=SOURCES,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [17, None, 5, 190_000_000, None, None]
