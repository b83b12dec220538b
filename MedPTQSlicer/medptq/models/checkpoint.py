"""A checkpoint with its card beside it, which names the network that the weights are for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medptq.artifacts import sha256_of
from medptq.errors import ModelError
from medptq.models.architectures.building import options_of
from medptq.models.architectures.registry import Architecture, architecture
from medptq.models.built_network import BuiltNetwork
from medptq.models.card import model_of
from medptq.models.checked_json import read_json, refused
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter

if TYPE_CHECKING:
    from torch import nn

CHECKPOINT_SUFFIXES = (".pth", ".ckpt")
"""Of the files that are checkpoints whatever their card says; a ``.pt`` may be TorchScript."""


def is_checkpoint(path: Path) -> bool:
    """Tell whether this is a checkpoint that has a card, or ought to have one.

    TorchScript has the suffix ``.pt`` too, so for that the card tells: it names a network.
    """
    suffix = path.suffix.lower()
    if suffix not in (*CHECKPOINT_SUFFIXES, ".pt"):
        return False
    card = path.with_suffix(".json")
    if not path.is_file() or not card.is_file():
        return False  # as for a missing file of any format
    if suffix in CHECKPOINT_SUFFIXES:
        return True
    try:
        content = read_json(card, "The card")
    except ModelError:  # whoever loads it says so
        return False
    return isinstance(content, Mapping) and "network" in content


def read_checkpoint(path: Path, reporter: Reporter) -> BuiltNetwork:
    """Read the card of a checkpoint, and prepare to build its network.

    The network's channels, classes and patch size are the card's, unless its ``network.options``
    name them. The checkpoint is opened with PyTorch's restricted unpickler, see
    :func:`medptq.models.architectures.weights.load_weights`.

    Args:
        path: The checkpoint; its card lies beside it under the same name.
        reporter: Asked for cancellation.

    Raises:
        ModelError: ``model.card`` - the card breaks the format, or names no network, or a patch
            size that the network does not take. ``model.architecture`` and ``model.options`` -
            there is no such network, or it has no such option.
    """
    about = f"The card {path.stem}.json"
    card = read_json(path.with_suffix(".json"), about)
    model = model_of(card, Path(), about)
    if "network" not in card:
        raise refused(
            about, f'it lacks the field "network", which names the network that {path.name} is for'
        )
    name, options = network_of(card, model, about)
    reporter.check()

    def build() -> nn.Module:
        from medptq.models.architectures.weighted import build_with_weights

        return build_with_weights(name, options, path)

    return BuiltNetwork(model, _digest(path, name, options), build)


def network_of(
    card: Mapping[str, Any], model: SegmentationModel, about: str
) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of the network that a card names.

    Args:
        card: The card, with the field ``network``.
        model: What the card describes.
        about: What the card is, for the error's sentence.

    Raises:
        ModelError: As :func:`read_checkpoint`.
    """
    name, given = card["network"]["architecture"], card["network"].get("options", {})
    entry = architecture(name)
    options = _options(entry, given, model, about)
    if not given.keys() - {"channels", "classes", entry.size_option}:
        _check_patch(entry, model, about)  # others may change what patches it takes
    return name, options


def _options(
    entry: Architecture, given: Mapping[str, Any], model: SegmentationModel, about: str
) -> dict[str, Any]:
    """Return the options of the card's network, those included that the card says elsewhere."""
    known = options_of(entry.name)
    options = dict(given)
    if "channels" in known:
        options.setdefault("channels", model.channels)
    if "classes" in known:
        options.setdefault("classes", model.classes)
    if entry.size_option:
        size = options.setdefault(entry.size_option, _as_option(model.patch_size, entry, known))
        if size not in (_as_option(model.patch_size, entry, known), list(model.patch_size)):
            raise refused(
                about,
                f'its patch is {_sides(model.patch_size)} and the option "{entry.size_option}" of'
                f" its network is {json.dumps(size)}, and this network takes only the one",
            )
    return options


def _as_option(size: Sequence[int], entry: Architecture, known: Mapping[str, Any]) -> Any:
    """Return a patch size as the network's option takes it: one number if it takes only cubes."""
    if isinstance(known[entry.size_option], int) and len(set(size)) == 1:
        return size[0]
    return list(size)


def _check_patch(entry: Architecture, model: SegmentationModel, about: str) -> None:
    sides = tuple(zip(model.patch_size, entry.multiple, entry.smallest, strict=True))
    if all(side % multiple == 0 and side >= smallest for side, multiple, smallest in sides):
        return
    below = tuple(max(side // multiple * multiple, least) for side, multiple, least in sides)
    above = tuple(max(-(-side // multiple) * multiple, least) for side, multiple, least in sides)
    nearest = " or ".join(dict.fromkeys((_sides(below), _sides(above))))
    raise refused(
        about,
        f"its patch is {_sides(model.patch_size)}, and {entry.name} takes multiples of"
        f" {_sides(entry.multiple)} from {_sides(entry.smallest)} on, such as {nearest}",
    )


def _digest(path: Path, name: str, options: Mapping[str, Any]) -> str:
    settings = json.dumps([name, options], sort_keys=True)
    return hashlib.sha256(f"{sha256_of(path)} {settings}".encode()).hexdigest()


def _sides(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
