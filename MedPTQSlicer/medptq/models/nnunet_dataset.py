"""What the data set that an nnU-Net model was trained on says: its channels and structures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from medptq.models.label_colors import color_of
from medptq.models.label_entries import entry_of
from medptq.models.label_maps import label_map, with_codes
from medptq.models.nnunet_fields import is_whole, mapping, nnunet_refused, shortened, wrong
from medptq.models.segmentation_model import Label

_TOTALSEGMENTATOR = "totalsegmentator-v2"

_MR_SEQUENCE = re.compile(
    r"(?<![a-z0-9])"
    r"(T1|T1w|T1c|T1ce|T1gd|T1n|T2|T2w|T2f|T2star|PD|PDw|FLAIR|STIR|TIRM|MPRAGE|MP2RAGE"
    r"|ADC|DWI|DTI|HBV|SWI|DCE|TOF|BOLD)"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)
"""Names of channels that are MR's without saying so; of others nobody knows."""


def channels_of(dataset: Mapping[str, Any]) -> list[str]:
    """Return the names of the image's channels, in order.

    Raises:
        ModelError: ``model.nnunet`` - they are not listed as nnU-Net v2 lists them.
    """
    field = "channel_names" if "channel_names" in dataset else "modality"
    names = mapping(dataset, field)
    if set(names) != {str(n) for n in range(len(names))} or not names:
        raise wrong(field, dict(names), 'names by "0", "1", ...')
    return [str(names[str(n)]) for n in range(len(names))]


def labels_of(dataset: Mapping[str, Any], plans: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the structures as a card lists them.

    Those of TotalSegmentator have its colours and SNOMED CT codes.

    Raises:
        ModelError: ``model.nnunet`` - they are no labels of which a voxel has one.
    """
    manager = plans.get("label_manager", "LabelManager")
    if manager != "LabelManager":
        raise nnunet_refused(
            f"its labels are made by {shortened(manager)}, which is not nnU-Net's own",
            "Export the network to ONNX, and write a card for it",
        )
    found: dict[int, str] = {}
    # Its value is the last one, and the network has no output for it.
    named = {k: v for k, v in mapping(dataset, "labels").items() if k != "ignore"}
    for name, value in named.items():
        if isinstance(value, list) and len(value) > 1:
            raise nnunet_refused(
                f'it finds regions that overlap: "{name[:40]}" is the labels {shortened(value)}',
                "Train it on labels that exclude each other",
            )
        single = value[0] if isinstance(value, list) and value else value
        if not is_whole(single):
            raise wrong("labels", dict(named), "whole numbers by their names")
        found[single] = name
    if sorted(found) != list(range(len(named))) or len(found) < 2:
        raise wrong("labels", dict(named), "names of the numbers from 0 without a gap")
    labels = tuple(
        Label(value, found[value], color_of(value)) for value in sorted(found) if value != 0
    )
    if "totalsegmentator" in str(plans.get("dataset_name")).lower():
        labels = with_codes(labels, label_map(_TOTALSEGMENTATOR).labels)
    return [entry_of(label) for label in labels]


def title_of(plans: Mapping[str, Any]) -> str:
    """Return the data set's name: ``Dataset004_Hippocampus`` is called Hippocampus."""
    name = plans.get("dataset_name")
    words = re.sub(r"^Dataset\d+_", "", name if isinstance(name, str) else "")
    return words.replace("_", " ").strip()[:200] or "nnU-Net"


def modality_of(names: list[str], configuration: Mapping[str, Any]) -> str:
    """Return what the channels are, as a card says it."""
    if "CTNormalization" in configuration["normalization_schemes"]:
        return "CT"
    named = [re.sub(r"\bMRI\b", "MR", name, flags=re.IGNORECASE) for name in names]
    shown = ", ".join(named)[:200].strip()
    if re.search(r"\b(CT|MR)", shown) or not all(map(_MR_SEQUENCE.search, named)):
        return shown or "MR"
    return f"MR {shown}"
