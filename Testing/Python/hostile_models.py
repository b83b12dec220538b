"""Sound models for tests that spoil them, and what must be so when one of those is refused."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest

import medptq
from medptq.errors import ModelError
from monai_bundles import write_bundle
from nnunet_folders import write_model_folder
from tiny_network import write_network

WEIGHTS = {
    "bundle": "bundle/models/model.pt",
    "nnunet": "*__*__*/fold_0/checkpoint_final.pth",
    "checkpoint": "checkpoint/net.pth",
}


def kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a payload would leave a trace; what the program may write to is elsewhere."""
    for name in ("cache", "library", "temporary"):
        (tmp_path / "own" / name).mkdir(parents=True)
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "own" / "cache"))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(tmp_path / "own" / "library"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "own" / "temporary"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "canary"


def write_sound_models(folder: Path) -> Path:
    """Write a bundle, a model folder, a checkpoint and a graph with nothing wrong with them."""
    write_bundle(folder / "bundle")
    write_model_folder(folder)
    write_network(folder / "onnx")
    card = json.loads((folder / "onnx" / "net.json").read_text())
    options = {"level_channels": [4, 8], "strides": [2], "num_res_units": 0}
    card["network"] = {"architecture": "monai-unet", "options": options}
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "net.json").write_text(json.dumps(card))
    (folder / "checkpoint" / "net.pth").touch()
    return folder


def refused(path: Path, root: Path) -> ModelError:
    """Return how a file is refused when it is imported; nothing may have happened by then."""
    before = _tree(root)
    with pytest.raises(ModelError) as caught:
        medptq.import_model(path)
    assert not (root / "canary").exists()
    assert _tree(root) == before
    assert caught.value.why
    assert caught.value.todo
    return caught.value


def _tree(root: Path) -> dict[str, tuple[int, int]]:
    """Return all that is below a folder but for the cache, with sizes and times."""
    paths = [path for path in root.rglob("*") if "cache" not in path.parts]
    return {
        str(path): (path.lstat().st_size, 0 if path.is_dir() else path.lstat().st_mtime_ns)
        for path in paths
    }


def copied(sound: Path, root: Path, form: str) -> tuple[Path, Path]:
    """Copy a sound model; return what is imported, and where its weights lie."""
    [weights] = sound.glob(WEIGHTS[form])
    top = weights.relative_to(sound).parts[0]
    shutil.copytree(sound / top, root / top)
    weights = root / weights.relative_to(sound)
    return (weights if form == "checkpoint" else root / top), weights
