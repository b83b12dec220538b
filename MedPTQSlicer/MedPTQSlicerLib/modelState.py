"""What the worker knows of each model, as the panel shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medptq.models.card import Card, labels_of
from medptq.models.segmentation_model import Label


@dataclass(frozen=True)
class Int8State:
    """The INT8 twin of a model.

    Attributes:
        created: When it was made, ISO 8601.
        scans: How many scans it was calibrated on.
        agreement: How well it agreed with FP32 in calibration, as the worker's method ``models``
            tells it in ``agreement_with_fp32``.
        isReady: Whether an engine is built for this machine; otherwise the first use builds it.
        sizeMb: The network's file, in MB.
    """

    created: str
    scans: int
    agreement: Mapping[str, Any]
    isReady: bool
    sizeMb: float


@dataclass(frozen=True)
class ModelState:
    """A model that can be chosen.

    Attributes:
        id: Short name, unique.
        title: Name to show.
        task: What it does.
        modality: ``"CT"``, ``"MR T1w"``.
        region: Part of the body.
        labels: The structures that it finds.
        sizeMb: What is to be downloaded, or the size of the file, in MB.
        licence: Its licence, or ``""``.
        source: Where it comes from, or ``""``.
        citation: How to cite it, or ``""``.
        card: The whole card; empty if the model is damaged, and of an archive of the catalogue
            that was not opened yet without ``input`` and ``preprocessing``.
        isImported: Whether the user brought it.
        isIncluded: Whether it came with the program.
        isDownloaded: Whether its file is on this machine.
        isFp32Ready: Whether an FP32 engine is built for this machine.
        int8: Its INT8 twin, or None if it was not calibrated.
        problem: What of it cannot be used and why; ``""`` if nothing.
        untested: Why nobody who made this program has tried it; ``""`` if it was tried.
    """

    id: str
    title: str
    task: str
    modality: str
    region: str
    labels: tuple[Label, ...]
    sizeMb: float | None
    licence: str
    source: str
    citation: str
    card: Card
    isImported: bool
    isIncluded: bool
    isDownloaded: bool
    isFp32Ready: bool
    int8: Int8State | None
    problem: str = ""
    untested: str = ""

    @property
    def stateText(self) -> str:
        """What of it is on this machine, in a few words."""
        if not self.card:
            return "Damaged"
        if self.int8 is not None:
            return "INT8 ready" if self.int8.isReady else "INT8, not built here yet"
        if self.isDownloaded:
            return "FP32"
        return "Not downloaded, untried" if self.untested else "Not downloaded"

    @property
    def channels(self) -> int:
        """Channels that a scan must have."""
        return int(self.card.get("input", {}).get("channels", 1))

    @property
    def takesWholeScan(self) -> bool:
        """Whether every scan is resized to one patch."""
        if "input" not in self.card:
            return False
        patch = self.card["input"]["patch_size"]
        steps = self.card["preprocessing"]
        return any(step["step"] == "resize" and step["size"] == patch for step in steps)


def modelStateOf(row: Mapping[str, Any]) -> ModelState:
    """Return one of the rows that the worker's method ``models`` lists."""
    card: Card = row["card"] or {}
    int8 = row["int8"]
    return ModelState(
        id=row["id"],
        title=row["title"] or row["id"],
        task=row["task"],
        modality=row["modality"],
        region=row["region"],
        labels=labels_of(card) if card else (),
        sizeMb=row["size_mb"],
        licence=row["licence"],
        source=row["source"],
        citation=row["citation"],
        card=card,
        isImported=row["origin"] == "imported",
        isIncluded=row["origin"] == "included",
        isDownloaded=row["downloaded"],
        isFp32Ready=row["fp32_ready"],
        int8=None
        if int8 is None
        else Int8State(
            created=int8["created"],
            scans=int8["scans"],
            agreement=int8["agreement_with_fp32"],
            isReady=int8["ready"],
            sizeMb=int8["mb"],
        ),
        problem=row["problem"],
        untested=row["untested"],
    )
