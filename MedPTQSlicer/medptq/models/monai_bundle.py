"""MONAI bundles: a folder with a network's weights, and how it is built and used.

Of a bundle's files these are read: ``configs/metadata.json``, ``configs/inference.json``, and
``models/model.pt`` (the weights) or ``models/model.ts`` (TorchScript). No code in them is run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medptq.artifacts import sha256_of
from medptq.errors import ModelError
from medptq.models.built_network import BuiltNetwork
from medptq.models.card import model_of
from medptq.models.checked_json import read_json
from medptq.models.label_colors import color_of
from medptq.models.monai_bundle_config import Config
from medptq.models.monai_bundle_networks import NetworkDef, channels_and_classes, network_of
from medptq.models.monai_bundle_outputs import Windows, finishing_of, windows_of
from medptq.models.monai_bundle_preprocessing import preprocessing_of
from medptq.models.monai_bundle_values import bundle_refused
from medptq.progress import Reporter

if TYPE_CHECKING:
    from torch import nn

METADATA = "configs/metadata.json"
"""Path of a file that every bundle has."""

_INFERENCE = "configs/inference.json"
_WEIGHTS, _TORCHSCRIPT = "models/model.pt", "models/model.ts"
_LONGEST_LINE = 1000
_LONGEST_NAME = 200


def read_monai_bundle(path: Path, reporter: Reporter) -> BuiltNetwork:
    """Read a bundle's folder.

    Args:
        path: The folder.
        reporter: Warned of what is not quite the same here.

    Returns:
        The network; its weights are only read when it is built.

    Raises:
        ModelError: ``model.bundle`` - it cannot be understood without running code, or does what
            cannot be done here; the sentence names the place in its configuration.
            ``model.missing`` - its weights are not there. ``model.card`` - what was made of it is
            no card that can be used.
    """
    name = path.resolve().name
    metadata = _read(path / METADATA, name)
    config = Config(_read_inference(path, name), name)
    network, why = _network_of(config)
    file = _network_file(path, network, why, name)
    to_build = network if file.suffix == ".pt" else None
    channels, classes = _channels(config, metadata, network)
    labels = _labels(metadata, classes, name, reporter)
    before = preprocessing_of(config, channels)
    windows = windows_of(config, before)
    _require_fit(network, windows, config)
    finishing = finishing_of(config, before, [label["value"] for label in labels], reporter)
    card = {
        "schema": 1,
        "id": _id_of(metadata.get("name"), name),
        "title": _line(metadata.get("name")) or name,
        "task": _line(metadata.get("task")) or _line(metadata.get("description")),
        "modality": _modality(metadata),
        "input": {
            "channels": channels,
            "patch_size": windows.size,
            "overlap": windows.overlap,
        },
        "preprocessing": [*before.steps, {"step": "pad_with", "value": windows.pad_value}],
        "labels": labels,
        "output": {"blending": windows.blending, "interpolated": finishing.interpolated},
        "postprocessing": finishing.steps,
        "source": _source(metadata),
        "licence": _licence(metadata, path),
        "citation": _line(metadata.get("references")),
    }
    return BuiltNetwork(
        model=model_of(card, Path(), f"What was made of the MONAI bundle {name}"),
        digest=_digest(to_build, file),
        build=_builder(to_build, file),
    )


def _read(path: Path, bundle: str) -> Mapping[str, Any]:
    try:
        content = read_json(path, path.name)
    except ModelError as error:
        raise bundle_refused(bundle, f"configs/{path.name}: {error.why}") from error
    if not isinstance(content, Mapping):
        raise bundle_refused(bundle, f"configs/{path.name} holds no settings")
    return content


def _read_inference(path: Path, bundle: str) -> Mapping[str, Any]:
    if (path / _INFERENCE).is_file():
        return _read(path / _INFERENCE, bundle)
    written = [p.name for p in (path / "configs").glob("inference.y*ml")]
    why = f"{_INFERENCE} is missing"
    if written:
        why = f"its configuration is in {written[0]}, and only JSON is read; convert it"
    raise bundle_refused(bundle, why)


def _network_of(config: Config) -> tuple[NetworkDef | None, ModelError | None]:
    """Return the network, or why it cannot be built."""
    try:
        return network_of(config.component("network_def")), None
    except ModelError as error:
        return None, error


def _network_file(
    path: Path, network: NetworkDef | None, why: ModelError | None, bundle: str
) -> Path:
    weights, script = path / _WEIGHTS, path / _TORCHSCRIPT
    if network is not None and weights.is_file():
        return weights
    if script.is_file():
        return script
    if why is not None:
        raise why
    raise ModelError(
        "missing",
        f"The weights of the MONAI bundle {bundle} cannot be read",
        why=f"there is neither {_WEIGHTS} nor {_TORCHSCRIPT} in it",
        todo="Download the whole bundle; large_files.yml in it may say where the weights are",
    )


def _channels(
    config: Config, metadata: Mapping[str, Any], network: NetworkDef | None
) -> tuple[int, int]:
    """Return the channels of the network's input and output."""
    if network is not None:
        return network.options["channels"], network.options["classes"]
    try:
        return channels_and_classes(config.component("network_def"))
    except ModelError as error:
        found = (
            _at(metadata, "network_data_format", "inputs", "image", "num_channels"),
            _at(metadata, "network_data_format", "outputs", "pred", "num_channels"),
        )
        if all(type(number) is int and number > 0 for number in found):
            return found
        raise error


def _require_fit(network: NetworkDef | None, windows: Windows, config: Config) -> None:
    """Refuse windows of another size than the one that the network is made for."""
    if network is not None and windows.size != network.options.get("img_size", windows.size):
        made_for = network.options["img_size"]
        raise config.refused(
            f"its network takes {made_for} voxels, and its windows are {windows.size}"
        )
    if network is not None and network.options["classes"] < 2:
        raise config.refused("its network has one output only, which is no choice between labels")


def _labels(
    metadata: Mapping[str, Any], classes: int, bundle: str, reporter: Reporter
) -> list[dict[str, Any]]:
    named = _at(metadata, "network_data_format", "outputs", "pred", "channel_def")
    names = named if isinstance(named, Mapping) else {}
    expected = [str(value) for value in range(classes)]
    if sorted(names) != sorted(expected):
        reporter.warn(
            f"The metadata of the MONAI bundle {bundle} do not name each of its {classes} outputs;"
            " those without a name are called by their numbers."
        )
    labels = []
    for value in range(1, classes):
        name = names.get(str(value))
        name = name.strip()[:_LONGEST_NAME] if isinstance(name, str) else ""
        labels.append(
            {"value": value, "name": name or f"Label {value}", "color": list(color_of(value))}
        )
    return labels


def _modality(metadata: Mapping[str, Any]) -> str:
    found = _line(_at(metadata, "network_data_format", "inputs", "image", "modality"))
    return {"MRI": "MR", "": "unknown"}.get(found, found)


def _source(metadata: Mapping[str, Any]) -> str:
    version = _line(metadata.get("version"))
    parts = [
        _line(metadata.get("authors")),
        f"MONAI bundle{' ' if version else ''}{version}",
        _line(metadata.get("data_source")),
    ]
    return _shortened("; ".join(part for part in parts if part))


def _licence(metadata: Mapping[str, Any], path: Path) -> str:
    """Return what the metadata say of the terms, or the first line of the licence's text."""
    stated = _line(metadata.get("license")) or _line(metadata.get("licence"))
    if not stated:
        for file in (path / "LICENSE", path / "LICENSE.txt", path / "docs" / "LICENSE"):
            if file.is_file():
                with file.open(encoding="utf-8", errors="replace") as text:
                    stated = next(
                        (line for line in map(_line, text.read(4096).splitlines()) if line), ""
                    )
                break
    parts = [stated, _line(metadata.get("copyright")), _line(metadata.get("intended_use"))]
    return _shortened("; ".join(part for part in parts if part))


def _at(metadata: Any, *keys: str) -> Any:
    """Return what lies below these keys, None if it is not there."""
    for key in keys:
        metadata = metadata.get(key) if isinstance(metadata, Mapping) else None
    return metadata


def _line(value: Any) -> str:
    """Return a text, or a list of texts, as one line."""
    texts = value if isinstance(value, list) else [value]
    joined = "; ".join(" ".join(text.split()) for text in texts if isinstance(text, str))
    return _shortened(joined)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 3] + "..."


def _id_of(*names: Any) -> str:
    """Return the first of these names that can be made an id, as one."""
    for name in names:
        found = (
            re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_") if isinstance(name, str) else ""
        )
        if found:
            return found[:64]
    return "monai-bundle"


def _digest(network: NetworkDef | None, file: Path) -> str:
    """Return the SHA-256 of what the graph depends on, which is not how it is used."""
    built = None if network is None else [network.architecture, dict(network.options)]
    content = json.dumps([built, sha256_of(file)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _builder(network: NetworkDef | None, file: Path) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        if network is None:
            from medptq.models.torchscript import load_torchscript

            return load_torchscript(file)
        from medptq.models.architectures.weighted import build_with_weights

        return build_with_weights(network.architecture, network.options, file)

    return build
