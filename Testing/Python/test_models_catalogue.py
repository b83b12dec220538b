"""The catalogue: what it offers, and that looking at it is cheap."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medptq.cli import main
from medptq.errors import ModelError
from medptq.models import catalogue
from medptq.models.architectures.registry import ARCHITECTURES
from medptq.models.catalogue import Member, Release, entries, entry, has_entry, read_entry
from medptq.models.checkpoint import network_of

FOLDER = Path(catalogue.__file__).with_name("catalogue")
FILES = sorted(FOLDER.glob("*.json"))


def test_looking_at_it_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from medptq.models.catalogue import entries\n"
        "assert entries()\n"
        "heavy = {'torch', 'monai', 'onnx', 'openvino', 'scipy', 'SimpleITK'}\n"
        "assert not heavy & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_locator_is_there_but_not_offered() -> None:
    offered = {found.id for found in entries()}

    assert "deepbet" in offered
    assert "deepbet-locator" not in offered
    assert has_entry("deepbet-locator")
    assert entry("deepbet-locator").role == "locator"


def test_deepbet_is_described() -> None:
    found = entry("deepbet")

    assert (found.task, found.modality) == ("Brain extraction", "MR T1w")
    assert found.provenance.licence == "MIT"
    assert found.download.origin == Release("deepbet", "1.0.2")
    assert isinstance(found.download.member, Member)
    model = found.model(Path("deepbet.onnx"))
    assert model.onnx == Path("deepbet.onnx")
    assert (model.patch_size, model.overlap, model.classes) == ((256, 256, 256), 0.0, 2)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_entry_is_sound(path: Path) -> None:
    found = read_entry(path)

    assert found.id == path.stem
    for step in found.card.get("preprocessing", ()):
        if step["step"] == "crop_to_model":  # no chains, so no circles
            assert entry(step["model"]).role == "locator"
            assert found.role == "model"
    assert all((found.title, found.task, found.region))
    assert all((found.provenance.source, found.provenance.licence, found.provenance.citation))
    if found.format == "checkpoint":
        model = found.model(Path())
        network_of(found.card, model, found.id)  # whose options and patch fit


def test_what_cannot_be_checked_here_is_marked() -> None:
    untested = {found.id for found in entries() if found.untested}
    tried = {"brain-regions-t1", "deepbet", "hippocampus-t1"}
    assert untested == {found.id for found in entries()} - tried
    assert all(found.untested or found.download.sha256 for found in entries())


def test_the_public_weights_of_the_papers_networks_are_there() -> None:
    by_host = {}
    for found in entries():
        if isinstance(found.download.origin, str):
            by_host.setdefault(found.download.origin.split("/")[2], []).append(found)
    assert len(by_host["api.ngc.nvidia.com"]) == 4
    assert all(found.download.sha1 for found in by_host["api.ngc.nvidia.com"])
    assert sum(len(f.card["labels"]) for f in by_host["github.com"] if f.id[-3:] != "3mm") == 117


def test_an_unknown_id_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="deepbet") as caught:
        entry("deepbeet")

    assert caught.value.code == "model.unknown"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("url", "http://example.org/net.onnx", "download.url"),
        ("url", "https://example.org/../../net", None),
        ("url", "https://example.org/..", "download.url"),
        ("sha256", "0" * 63, "download.sha256"),
        ("member", "net.onnx", "download"),
        ("kind", "ftp", '"pypi", "url"'),
        ("kind", "pypi", 'lacks the field "package"'),
        ("kind", "included", 'lacks the field "file"'),
        ("mirror", "x", 'unknown field "mirror"'),
    ],
)
def test_a_wrong_download_is_named(tmp_path: Path, key: str, value: str, words: str | None) -> None:
    content = json.loads((FOLDER / "deepbet.json").read_text(encoding="utf-8"))
    content["download"] = {
        "kind": "url",
        "url": "https://example.org/net.onnx",
        "sha256": "0" * 64,
        "size_mb": 1,
        key: value,
    }
    path = tmp_path / "net.json"
    path.write_text(json.dumps(content), encoding="utf-8")

    if words is None:  # the file's name is the last part alone
        assert read_entry(path).download.file == "net"
        return
    with pytest.raises(ModelError) as caught:
        read_entry(path)
    assert words in str(caught.value)


def test_the_command_shows_licences_and_citations(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(tmp_path / "library"))
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    for found in entries():
        assert found.id in shown
        assert found.provenance.citation[:40] in shown
    assert "not tried by us" in shown
    assert "Apache-2.0" in shown

    assert main(["models", "--architectures", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["architectures"]
    assert [row["name"] for row in listed] == list(ARCHITECTURES)
    assert all(row["licence"] and row["citation"] and row["source"] for row in listed)
    assert main(["models", "--architectures"]) == 0
    assert "Weights have licences of their own." in capsys.readouterr().out
