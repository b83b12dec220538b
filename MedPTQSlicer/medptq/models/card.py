"""The card: a JSON file that says what the program must know of a network besides its graph.

It lies beside the network's file under the same name, with the suffix ``.json``. The fields are
described in ``card.schema.json``. What may be left out, and what is then assumed:

=====================================  ==========================
``title``                              the ``id``
``task``, ``region``                   ``""``
``input.channels``                     1
``input.axis_order``                   ``"IJK"`` (MONAI, NiBabel)
``input.overlap``                      0.5
``output.blending``                    ``"gaussian"``
``output.interpolated``                ``"outputs"``
``postprocessing``                     none
``source``, ``licence``, ``citation``  ``""``: not stated
=====================================  ==========================
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from medptq.models.checked_json import check, read_json, refused
from medptq.models.label_entries import entry_of, label_of
from medptq.models.label_maps import label_map
from medptq.models.segmentation_model import Label, Provenance, SegmentationModel, Step

Card: TypeAlias = Mapping[str, Any]

EXAMPLE: Card = {
    "schema": 1,
    "id": "my-network",
    "modality": "MR",
    "input": {"patch_size": [96, 96, 96]},
    "preprocessing": [
        {"step": "orient", "to": "RAS"},
        {"step": "spacing", "mm": [1, 1, 1]},
        {"step": "zscore"},
    ],
    "labels": [{"value": 1, "name": "Brain", "color": [250, 250, 225]}],
}
"""The shortest card that can be used, to show to who forgot it."""


def read_card(path: Path, onnx: Path) -> SegmentationModel:
    """Read a card and join it with the graph that it describes.

    Args:
        path: The card.
        onnx: The network's graph; it is not opened here.

    Returns:
        The model, ready to be checked against its graph.

    Raises:
        ModelError: ``model.card`` - the card cannot be read or breaks the format; the sentence
            names the field.
    """
    about = f"The card {path.name}"
    return model_of(read_json(path, about), onnx, about)


def model_of(card: Any, onnx: Path, about: str) -> SegmentationModel:
    """Check a card's content and join it with the graph that it describes.

    Args:
        card: The content, as JSON gives it.
        onnx: The network's graph; it is not opened here.
        about: What the card is, for the error's sentence ("The card spleen.json").

    Raises:
        ModelError: ``model.card`` - the content breaks the format; the sentence names the field.
    """
    check(card, "card", about)
    _check_across_fields(card, about)
    network_input, output = card["input"], card.get("output", {})
    d, h, w = (int(length) for length in network_input["patch_size"])
    return SegmentationModel(
        id=card["id"],
        title=card.get("title", card["id"]),
        task=card.get("task", ""),
        modality=card["modality"],
        region=card.get("region", ""),
        onnx=onnx,
        patch_size=(d, h, w),
        axis_order=network_input.get("axis_order", "IJK"),
        channels=int(network_input.get("channels", 1)),
        overlap=float(network_input.get("overlap", 0.5)),
        labels=labels_of(card),
        preprocessing=tuple(dict(step) for step in card["preprocessing"]),
        postprocessing=tuple(dict(step) for step in card.get("postprocessing", ())),
        provenance=Provenance(
            source=card.get("source", ""),
            licence=card.get("licence", ""),
            citation=card.get("citation", ""),
        ),
        blending=output.get("blending", "gaussian"),
        interpolated=output.get("interpolated", "outputs"),
    )


def labels_of(card: Card) -> tuple[Label, ...]:
    """Return the structures that a checked card lists, or those of the label map that it names."""
    if isinstance(card["labels"], str):
        return label_map(card["labels"]).labels
    return tuple(label_of(entry) for entry in card["labels"])


def card_of(model: SegmentationModel) -> dict[str, Any]:
    """Return the card that describes ``model``, to be written beside its graph.

    Reading it back gives an equal model. The path of the graph is not part of a card.
    """
    return {
        "schema": 1,
        "id": model.id,
        "title": model.title,
        "task": model.task,
        "modality": model.modality,
        "region": model.region,
        "input": {
            "channels": model.channels,
            "patch_size": list(model.patch_size),
            "axis_order": model.axis_order,
            "overlap": model.overlap,
        },
        "preprocessing": [dict(step) for step in model.preprocessing],
        "labels": [entry_of(label) for label in model.labels],
        "output": {"blending": model.blending, "interpolated": model.interpolated},
        "postprocessing": [dict(step) for step in model.postprocessing],
        "source": model.provenance.source,
        "licence": model.provenance.licence,
        "citation": model.provenance.citation,
    }


def _check_across_fields(card: Card, about: str) -> None:
    """Refuse what a JSON schema cannot express."""
    values = [label.value for label in labels_of(card)]
    if len(set(values)) < len(values):
        raise refused(about, '"labels" gives the same value to two structures')
    for number, step in enumerate(card["preprocessing"]):
        for low, high in _intervals(step):
            if low >= high:
                why = f"the lower bound {low} is not below the upper bound {high}"
                raise refused(about, f'in "preprocessing[{number}]" ({step["step"]}) {why}')
    for number, step in enumerate(card.get("postprocessing", ())):
        for value in step["labels"]:
            if value not in values:
                why = f'names {value}, which is not the value of any of the "labels"'
                raise refused(about, f'"postprocessing[{number}].labels" {why}')


def _intervals(step: Step) -> list[tuple[float, float]]:
    """Return the pairs of a step that must ascend."""
    if step["step"] in ("clip", "clip_percentiles"):
        return [(step["low"], step["high"])]
    if step["step"] == "scale_range":
        return [tuple(step["from"])]
    return []
