"""nnU-Net v2's model folders, such as TotalSegmentator's weights are.

A folder is called ``TRAINER_PLANS__CONFIGURATION`` and holds ``plans.json``, ``dataset.json`` and
a folder ``fold_N`` for each training with ``checkpoint_final.pth`` in it. Nothing of the nnU-Net
package is needed, and no code is run from the files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medptq.artifacts import sha256_of
from medptq.errors import ModelError
from medptq.models.built_network import BuiltNetwork
from medptq.models.card import model_of
from medptq.models.checked_json import read_json
from medptq.models.nnunet_dataset import channels_of, labels_of, modality_of, title_of
from medptq.models.nnunet_fields import mapping, nnunet_refused, shortened
from medptq.models.nnunet_network import network_of
from medptq.models.nnunet_preprocessing import preprocessing_of
from medptq.progress import Reporter

if TYPE_CHECKING:
    from torch import nn

PLANS, DATASET = "plans.json", "dataset.json"
"""Names of the files that every model folder has."""

_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_CITATION = (
    "Isensee et al., nnU-Net: a self-configuring method for deep learning-based biomedical image"
    " segmentation, Nature Methods 18, 2021"
)
_READ_AGAIN = "Export the model folder from nnU-Net again"
_DIGEST_VERSION = 1
_NAMED_STRUCTURES = 4

# nnU-Net's own trainers that leave the network as the plans have it: they change how long, by what
# and on what it is trained.
_OWN_TRAINER = re.compile(
    r"nnUNetTrainer"
    r"(_?(NoMirroring|onlyMirror01|noDummy2DDA|NoDA|DA5|DA5ord0|DA5Segord0|DASegOrd0"
    r"|NoDeepSupervision|CosAnneal|warmup|(Vanilla)?Ada[mn]|\d+e[np]\d+"
    r"|(Dice|CE|DiceCE|DiceTopK10|Topk10)Loss(_noSmooth|LS01)?|probabilisticOversampling(_\d+)?"
    r"|\d+ep(ochs?)?|Benchmark_5epochs(_noDataLoading)?))*"
)


@dataclass(frozen=True)
class _Training:
    """What a model folder's name tells: ``nnUNetTrainer__nnUNetPlans__3d_fullres``."""

    trainer: str
    configuration: str


def read_nnunet_folder(path: Path, reporter: Reporter) -> BuiltNetwork:
    """Read a model folder of nnU-Net v2.

    Args:
        path: The folder that holds ``plans.json``.
        reporter: Warned where nnU-Net itself would do more: average several folds.

    Returns:
        The network; its weights are only read when it is built.

    Raises:
        ModelError: ``model.nnunet`` - the folder is not complete, or asks for what is not done
            here: two dimensions, a cascade, regions, another network, normalization or
            resampling. ``model.card`` - what was made of it is no card that can be used.
    """
    plans, dataset = _read(path / PLANS), _read(path / DATASET)
    checkpoint = _checkpoint(path, reporter)
    training = _training_of(path.resolve().name) or _training_in(checkpoint)
    configuration = _configuration(plans, training.configuration)
    _require_3d(configuration, training.configuration)
    if not _OWN_TRAINER.fullmatch(training.trainer):
        reporter.warn(
            f"The trainer {training.trainer} is none of nnU-Net's own; its network is taken to be"
            " the one that the plans describe."
        )
    network = network_of(configuration)
    names = channels_of(dataset)
    labels = labels_of(dataset, plans)
    preprocessing = preprocessing_of(plans, configuration, len(names))
    title = title_of(plans)
    card = {
        "schema": 1,
        "id": _id(title, training.configuration),
        "title": f"{title} (nnU-Net {training.configuration})",
        "task": _task([label["name"] for label in labels]),
        "modality": modality_of(names, configuration),
        "input": {
            "channels": len(names),
            "patch_size": configuration.get("patch_size"),
            "axis_order": "KJI",
        },
        "preprocessing": preprocessing,
        "labels": labels,
        "output": {"blending": "nnunet"},
        "source": f"nnU-Net model folder {path.resolve().name}, {checkpoint.parent.name}; without"
        " mirroring at test time",
        "citation": _CITATION,
    }
    options = {**network.options, "channels": len(names), "classes": len(labels) + 1}

    def build() -> nn.Module:
        from medptq.models.architectures.weighted import build_with_weights

        _require_same(_training_in(checkpoint), training)
        return build_with_weights(network.name, options, checkpoint)

    return BuiltNetwork(
        model_of(card, Path(), "What was made of the nnU-Net model"),
        _digest(path, checkpoint, training),
        build,
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = read_json(path, path.name)
    except ModelError as error:
        raise nnunet_refused(f"of {path.name}, {error.why}", _READ_AGAIN) from error
    if not isinstance(content, Mapping):
        raise nnunet_refused(f"{path.name} holds no object", _READ_AGAIN)
    return content


def _checkpoint(path: Path, reporter: Reporter) -> Path:
    """Return the weights to use: of the first fold whose training was finished."""
    folds = sorted(
        (f for f in path.glob("fold_*") if re.fullmatch(r"fold_(all|\d{1,3})", f.name)),
        # fold_10 after fold_9, and fold_all at the end.
        key=lambda fold: (fold.name == "fold_all", len(fold.name), fold.name),
    )
    for name in _CHECKPOINTS:
        found = [fold / name for fold in folds if (fold / name).is_file()]
        if found:
            break
    else:
        raise nnunet_refused(
            f"no {' or '.join(_CHECKPOINTS)} is in a folder fold_0, fold_1, ... or fold_all of it",
            "Give the folder that holds plans.json and the folds",
        )
    if len(found) > 1:
        reporter.warn(
            f"Of the {len(found)} folds, {found[0].parent.name} alone is used: averaging several"
            " is not supported."
        )
    if name != _CHECKPOINTS[0]:
        reporter.warn(f"The training was not finished: {name} of {found[0].parent.name} is used.")
    return found[0]


def _training_of(folder_name: str) -> _Training | None:
    parts = folder_name.split("__")
    return _Training(parts[0], parts[2]) if len(parts) == 3 and all(parts) else None


def _training_in(checkpoint: Path) -> _Training:
    """Return what the checkpoint says of itself, whatever its folder is called."""
    from medptq.models.architectures.weights import checkpoint_content

    content = checkpoint_content(checkpoint)
    settings = content.get("init_args") if isinstance(content, Mapping) else None
    configuration = settings.get("configuration") if isinstance(settings, Mapping) else None
    trainer = content.get("trainer_name") if isinstance(content, Mapping) else None
    if not isinstance(configuration, str) or not isinstance(trainer, str):
        raise nnunet_refused(
            f"{checkpoint.name} does not say which trainer and which configuration it is of",
            "Use a checkpoint that nnU-Net v2 has written",
        )
    return _Training(trainer, configuration)


def _require_same(found: _Training, named: _Training) -> None:
    if found != named:
        raise nnunet_refused(
            f"its checkpoint is of {found.configuration} by {found.trainer}, and its folder's name"
            f" says {named.configuration} by {named.trainer}",
            "Give the folder its own name again, TRAINER_PLANS__CONFIGURATION",
        )


def _configuration(plans: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a configuration with what it inherits from others."""
    configurations = mapping(plans, "configurations")
    merged: dict[str, Any] = {}
    for _ in range(len(configurations) + 1):
        if name not in configurations:
            raise nnunet_refused(
                f"its plans have no configuration {shortened(name)}, only"
                f" {shortened(', '.join(configurations))}",
                _READ_AGAIN,
            )
        found = mapping(configurations, name)
        merged = {**found, **merged}
        if "inherits_from" not in found:
            return merged
        name = str(found["inherits_from"])
    raise nnunet_refused("its plans' configurations inherit from each other", _READ_AGAIN)


def _require_3d(configuration: Mapping[str, Any], name: str) -> None:
    if configuration.get("previous_stage") is not None:
        raise nnunet_refused(
            f"{name} is the second stage of a cascade, which needs the first one's result",
            "Use the configuration 3d_fullres or 3d_lowres",
        )
    if isinstance(configuration.get("patch_size"), list) and len(configuration["patch_size"]) == 2:
        raise nnunet_refused(
            f"{name} segments slice by slice, in two dimensions",
            "Use the configuration 3d_fullres or 3d_lowres",
        )


def _id(title: str, configuration: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "-", f"{title}-{configuration}").strip("-").lower()
    return words[:64].rstrip("-") or "nnunet"


def _task(names: list[str]) -> str:
    shown = ", ".join(name[:40] for name in names[:_NAMED_STRUCTURES])
    more = len(names) - _NAMED_STRUCTURES
    return f"Finds {shown}" + (f" and {more} more" if more > 0 else "")


def _digest(path: Path, checkpoint: Path, training: _Training) -> str:
    try:
        files = [sha256_of(file) for file in (path / PLANS, path / DATASET, checkpoint)]
    except OSError as error:
        raise nnunet_refused(
            error.strerror or "its files cannot be read", "Check that you may read its files"
        ) from error
    parts = [_DIGEST_VERSION, training.trainer, training.configuration, *files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
