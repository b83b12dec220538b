"""Networks of the catalogue that are archives: fetched over HTTP, checked, unpacked and read."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import medptq
from medptq.answers import models_answer
from medptq.artifacts import sha256_of
from medptq.errors import ModelError
from medptq.models import catalogue
from medptq.models.architectures.building import build_network
from medptq.models.foreign import FORMATS
from medptq.models.label_maps import label_map
from medptq.models.loading import load_model
from medptq.progress import Reporter
from monai_bundles import metadata, write_bundle
from nnunet_folders import write_model_folder

pytestmark = pytest.mark.filterwarnings("ignore")  # of MONAI, as it is imported

WHY = "It could not be downloaded here."
OWN = {
    "schema": 1,
    "title": "Small",
    "task": "Finds small things",
    "modality": "CT",
    "region": "Abdomen",
    "source": "https://example.org",
    "licence": "Apache-2.0",
    "citation": "A test, 2026",
    "role": "model",
    "untested": WHY,
}
SPLEEN, KIDNEY = label_map("totalsegmentator-v2").labels[:2]
STRUCTURES = [
    {
        "value": 1,
        "name": "Spleen",
        "color": [1, 2, 3],
        "snomed": {"code": "78961009", "meaning": "Spleen"},
    },
    {"value": 2, "name": "Right kidney", "color": [4, 5, 6]},
]


@dataclass
class Served:
    """A folder that is served over HTTP, a catalogue's folder, and what was asked for."""

    files: Path
    catalogue: Path
    asked: list[str]

    def offer(self, source: Path, **entry: Any) -> Path:
        """Zip a folder, serve it, and write the entry for it; return the archive."""
        archive = self.files / f"{entry['id']}.zip"
        with zipfile.ZipFile(archive, "w") as opened:
            for path in sorted(source.rglob("*")):
                opened.write(path, path.relative_to(source.parent))
        download = {"kind": "url", "url": f"https://example.org/{archive.name}"}
        content = {**OWN, "download": download | entry.pop("checksum", {}), **entry}
        (self.catalogue / f"{entry['id']}.json").write_text(json.dumps(content), encoding="utf-8")
        catalogue._all_entries.cache_clear()
        return archive


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    found = Served(tmp_path / "served", tmp_path / "catalogue", [])
    found.files.mkdir()
    found.catalogue.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(found.files))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        monkeypatch.setenv("MEDPTQ_MIRROR", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("MEDPTQ_LIBRARY", str(tmp_path / "library"))
        monkeypatch.setattr(catalogue, "_FOLDER", found.catalogue)
        catalogue._all_entries.cache_clear()
        yield found
        catalogue._all_entries.cache_clear()
        running.shutdown()
        thread.join()


def offer_nnunet(served: Served, tmp_path: Path, **more: Any) -> Path:
    folder = write_model_folder(tmp_path / "Dataset291_Small_organs")
    entry = {"id": "small-organs", "format": "nnunet", "labels": "totalsegmentator-v2"} | more
    return served.offer(folder.parent, **entry)


def offer_bundle(served: Served, tmp_path: Path, **more: Any) -> Path:
    about = metadata()
    names = {"0": "background", "1": "spleen", "2": "Right Kideny"}
    about["network_data_format"]["outputs"]["pred"]["channel_def"] = names
    folder = write_bundle(tmp_path / "small_bundle", about=about)
    entry = {"id": "small-bundle", "format": "monai-bundle", "labels": STRUCTURES} | more
    return served.offer(folder, **entry)


def sha1_of(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


def listed(model_id: str) -> dict[str, Any]:
    rows = models_answer(medptq.list_models())["models"]
    return next(row for row in rows if row["id"] == model_id)


def load(model_id: str) -> tuple[Any, list[str]]:
    warnings: list[str] = []
    return load_model(model_id, Reporter(on_warning=warnings.append)), warnings


def test_an_nnunet_archive_is_fetched_read_and_then_at_hand(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_nnunet(served, tmp_path)
    before = listed("small-organs")
    assert before["untested"] == WHY
    assert (before["downloaded"], before["size_mb"], before["fp32_ready"]) == (False, None, False)
    assert len(before["structures"]) == 117
    assert not before["card"].keys() & {"input", "preprocessing"}

    model, warnings = load("small-organs")
    assert any("gives no checksum" in warning for warning in warnings)
    # What the card says is the files', and the words and codes are the catalogue's.
    assert (model.id, model.title, model.axis_order) == ("small-organs", "Small", "KJI")
    assert model.provenance.licence == "Apache-2.0"
    assert model.blending == "nnunet"
    assert model.labels == (SPLEEN, KIDNEY)
    assert model.onnx.is_file()
    after = listed("small-organs")
    assert after["downloaded"]
    assert after["structures"] == ["spleen", "kidney_right"]
    assert after["card"]["input"]["patch_size"] == list(model.patch_size)

    # Now neither the network nor the archive is needed.
    served.asked.clear()
    monkeypatch.delenv("MEDPTQ_MIRROR")
    (tmp_path / "cache" / "medptq-downloads" / "small-organs.zip").unlink()
    assert load("small-organs") == (model, [])
    assert served.asked == []
    assert not list((tmp_path / "cache" / "medptq-downloads").glob("unpacked-*"))


def test_a_bundles_archive_is_checked_by_its_sha1(served: Served, tmp_path: Path) -> None:
    archive = offer_bundle(served, tmp_path)
    offer_again = json.loads((served.catalogue / "small-bundle.json").read_text(encoding="utf-8"))
    offer_again["download"]["sha1"] = sha1_of(archive)
    (served.catalogue / "small-bundle.json").write_text(json.dumps(offer_again), encoding="utf-8")
    catalogue._all_entries.cache_clear()

    model, warnings = load("small-bundle")
    assert not warnings
    # The bundle misspells one of the two names, and its values are those of the catalogue.
    assert [label.name for label in model.labels] == ["Spleen", "Right kidney"]
    assert model.labels[0].coding.code == "78961009"
    recorded = tmp_path / "cache" / "medptq-downloads" / "small-bundle.zip.sha256"
    assert recorded.read_text(encoding="ascii").strip() == sha256_of(archive)


def test_another_file_is_never_believed_again(served: Served, tmp_path: Path) -> None:
    archive = offer_nnunet(served, tmp_path)
    good = archive.read_bytes()
    load("small-organs")
    fetched = tmp_path / "cache" / "medptq-downloads" / "small-organs.zip"
    for folder in (tmp_path / "cache" / "medptq-networks").iterdir():
        (folder / "network.onnx").unlink(missing_ok=True)  # so that the archive is needed again

    fetched.write_bytes(good[:-1] + b"x")
    archive.write_bytes(good[:-1] + b"x")  # and the server has another one by now
    with pytest.raises(ModelError):
        load("small-organs")
    assert not fetched.exists()
    archive.write_bytes(good)
    assert load("small-organs")[0].classes == 3


@pytest.mark.parametrize("checksum", [{"sha1": "0" * 40}, {"sha256": "0" * 64}])
def test_a_wrong_checksum_is_refused(
    served: Served, tmp_path: Path, checksum: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = offer_nnunet(served, tmp_path, checksum=checksum)
    monkeypatch.setenv("MEDPTQ_MIRROR", str(served.files))
    with pytest.raises(ModelError) as caught:
        load("small-organs")
    assert caught.value.code == "model.checksum"
    assert archive.is_file()  # the mirror's own is not touched
    assert not list((tmp_path / "cache").rglob("small-organs.zip"))
    assert not list((tmp_path / "cache").rglob("*.sha256"))


def test_removing_it_leaves_nothing(served: Served, tmp_path: Path) -> None:
    offer_nnunet(served, tmp_path)
    load("small-organs")
    assert medptq.remove_model("small-organs") > 0
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert not listed("small-organs")["downloaded"]


def test_what_was_read_and_is_damaged_is_read_again(served: Served, tmp_path: Path) -> None:
    offer_nnunet(served, tmp_path)
    model, _ = load("small-organs")
    [read] = (tmp_path / "cache").rglob("read.json")
    for text in ("{", "[]", '{"card": {}, "digest": "x"}'):
        read.write_text(text, encoding="utf-8")
        assert listed("small-organs")["downloaded"]
        assert load("small-organs") == (model, [])


def test_what_an_older_program_read_is_read_again(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_nnunet(served, tmp_path)
    model, _ = load("small-organs")
    [read] = (tmp_path / "cache").rglob("read.json")
    content = json.loads(read.read_text(encoding="utf-8"))
    content["card"]["modality"] = "As an older program had it"
    read.write_text(json.dumps(content), encoding="utf-8")
    assert load("small-organs")[0] != model
    monkeypatch.setattr("medptq.models.catalogue_archives._READ_VERSION", 1_000_000)
    assert load("small-organs")[0] == model


def test_an_archive_of_another_format_or_of_two_models_is_refused(
    served: Served, tmp_path: Path
) -> None:
    offer_nnunet(served, tmp_path, format="monai-bundle")
    with pytest.raises(ModelError, match="it holds no models"):
        load("small-organs")
    write_model_folder(tmp_path / "two" / "a")
    write_model_folder(tmp_path / "two" / "b")
    served.offer(tmp_path / "two", id="two", format="nnunet", labels="btcv")
    with pytest.raises(ModelError, match="it holds 2 models"):
        load("two")


def test_a_checkpoint_in_an_archive_has_its_card_in_the_catalogue(
    served: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "published"
    (folder / "models").mkdir(parents=True)
    torch.manual_seed(0)
    network = build_network("unet", classes=3, base_features=2)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    (folder / "LICENSE").write_text("Apache", encoding="utf-8")
    served.offer(
        folder,
        id="small-unet",
        format="checkpoint",
        input={"patch_size": [16, 16, 16]},
        preprocessing=[{"step": "zscore"}],
        labels=STRUCTURES,
        network={"architecture": "unet", "options": {"base_features": 2}},
        checksum={"member": "published/models/model.pt"},
    )
    assert not listed("small-unet")["downloaded"]
    model, _ = load("small-unet")
    assert (model.id, model.classes, model.patch_size) == ("small-unet", 3, (16, 16, 16))
    assert listed("small-unet")["downloaded"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input": {"patch_size": [8, 8, 8]}}, '"input" is in the files'),
        ({"network": {"architecture": "unet"}}, '"network" is in the files'),
        ({"format": "onnx"}, "download"),
        ({"format": "zip"}, '"monai-bundle"'),
        ({"labels": "btvc"}, "btcv"),
        ({"download": {"kind": "url", "url": "https://e.org/a.zip", "sha1": "0"}}, "sha1"),
        ({"untested": ""}, "untested"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    content = {**OWN, "id": "a", "format": "nnunet", "labels": "btcv"}
    content |= {"download": {"kind": "url", "url": "https://example.org/a.zip"}} | changes
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        catalogue.read_entry(tmp_path / "a.json")
    assert caught.value.code == "model.card"
    assert words in str(caught.value)


def test_every_format_has_a_reader() -> None:
    assert FORMATS.keys() == set(catalogue.ARCHIVES)
