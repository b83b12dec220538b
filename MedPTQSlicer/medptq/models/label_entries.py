"""A structure as cards and label maps write it, in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medptq.models.segmentation_model import Coding, Label


def label_of(entry: Mapping[str, Any]) -> Label:
    """Return the structure that an entry describes; it was checked against the card's schema."""
    red, green, blue = (int(part) for part in entry["color"])
    return Label(
        value=int(entry["value"]),
        name=entry["name"],
        color=(red, green, blue),
        coding=_coding(entry.get("snomed")),
    )


def entry_of(label: Label) -> dict[str, Any]:
    """Return the entry that describes a structure; reading it gives an equal one."""
    entry: dict[str, Any] = {
        "value": label.value,
        "name": label.name,
        "color": list(label.color),
    }
    if label.coding is not None:
        entry["snomed"] = _concept(label.coding)
    return entry


def _coding(concept: Mapping[str, Any] | None) -> Coding | None:
    if concept is None:
        return None
    return Coding(
        concept["code"],
        concept["meaning"],
        modifier=_coding(concept.get("modifier")),
        region=_coding(concept.get("region")),
    )


def _concept(coding: Coding) -> dict[str, Any]:
    concept: dict[str, Any] = {"code": coding.code, "meaning": coding.meaning}
    if coding.modifier is not None:
        concept["modifier"] = _concept(coding.modifier)
    if coding.region is not None:
        concept["region"] = _concept(coding.region)
    return concept
