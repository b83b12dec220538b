"""Loading a model of the catalogue: fetched with its locator, checked, and then at hand."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from medptq.artifacts import sha256_of
from medptq.errors import ModelError
from medptq.models import catalogue
from medptq.models.loading import load_model
from model_files import network, save_onnx, save_torchscript, write_card

pytestmark = [
    pytest.mark.usefixtures("networks"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]


def test_a_card_can_only_crop_to_the_catalogue(tmp_path: Path) -> None:
    path = save_onnx(network(), tmp_path / "net.onnx")
    crop = {"step": "crop_to_model", "model": "../other", "margin": 0.1}
    write_card(tmp_path / "net.json", preprocessing=[crop])

    with pytest.raises(ModelError, match="not in the catalogue"):
        load_model(path)


@pytest.fixture
def small_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A catalogue of three small networks, whose files lie in a mirror; yields its folder."""
    mirror, folder = tmp_path / "mirror", tmp_path / "catalogue"
    mirror.mkdir()
    folder.mkdir()
    weights = save_torchscript(network(), tmp_path / "weights")
    graph = save_onnx(network(), mirror / "net.onnx")
    with zipfile.ZipFile(mirror / "net-1.0-py3-none-any.whl", "w") as archive:
        archive.write(weights, "data/net.pt")
    wheel = {
        "kind": "pypi",
        "package": "net",
        "version": "1.0",
        "file": "net-1.0-py3-none-any.whl",
        "sha256": sha256_of(mirror / "net-1.0-py3-none-any.whl"),
        "size_mb": 0.1,
        "member": "data/net.pt",
        "member_sha256": sha256_of(weights),
    }
    url = {
        "kind": "url",
        "url": "https://127.0.0.1:1/net.onnx",
        "sha256": sha256_of(graph),
        "size_mb": 0.1,
    }
    crop = {"step": "crop_to_model", "model": "locator", "margin": 0.1}
    for name, preprocessing, stored, role, download in (
        ("net", [crop], "torchscript", "model", wheel),
        ("locator", [], "onnx", "locator", url),
    ):
        write_card(
            folder / f"{name}.json",
            id=name,
            preprocessing=preprocessing,
            format=stored,
            role=role,
            download=download,
        )
    monkeypatch.setattr(catalogue, "_FOLDER", folder)
    monkeypatch.setenv("MEDPTQ_MIRROR", str(mirror))
    catalogue._all_entries.cache_clear()
    yield folder
    catalogue._all_entries.cache_clear()


def test_a_catalogue_model_is_fetched_with_its_locator_and_then_at_hand(
    small_catalogue: Path, networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model("net")

    assert model.id == "net"
    assert model.onnx.is_file()
    assert [path.name.split("-")[0] for path in sorted(networks.iterdir())] == ["locator", "net"]

    # Without the mirror, a network or the heavy imports, in a process of its own.
    monkeypatch.delenv("MEDPTQ_MIRROR")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from medptq.models import catalogue, loading\n"
        f"catalogue._FOLDER = Path({str(small_catalogue)!r})\n"
        f"assert str(loading.load_model('net').onnx) == {str(model.onnx)!r}\n"
        "assert not {'torch', 'monai', 'onnx'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_swapped_member_is_refused(small_catalogue: Path, networks: Path) -> None:
    path = small_catalogue / "net.json"
    content = json.loads(path.read_text())
    content["download"]["member_sha256"] = hashlib.sha256(b"other").hexdigest()
    path.write_text(json.dumps(content))

    with pytest.raises(ModelError) as caught:
        load_model("net")

    assert caught.value.code == "model.checksum"
    assert list(networks.iterdir()) == []
