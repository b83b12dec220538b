"""What the panel says of a model, as text."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Literal

from medptq.evaluate import formats
from medptq.models.segmentation_model import Label
from MedPTQSlicerLib.modelState import Int8State, ModelState

COPY = "copy:citation"
"""The link that stands for copying the citation; the others are addresses."""

_LONGEST_CITATION = 110  # characters that are shown of it
_MOST_STRUCTURES = 12  # that are listed; the others are counted


CLASSES, SIZE = 4, 5
"""The columns of :func:`columns` that are numbers."""


def columns(model: ModelState) -> tuple[str, ...]:
    """Return what the list shows: name, state, task, modality, classes, size and licence."""
    return (
        model.title,
        model.stateText,
        model.task,
        model.modality,
        str(len(model.labels)) if model.labels else formats.NONE,
        formats.NONE if model.sizeMb is None else sizeText(model.sizeMb),
        model.licence or "Not stated",
    )


def sortKey(model: ModelState, column: int) -> float | str:
    """Return what the list is sorted by if it is by a column: a number where it shows one.

    What is not known counts as less than all that is.
    """
    if column == CLASSES:
        return len(model.labels)
    if column == SIZE:
        return -1 if model.sizeMb is None else model.sizeMb
    return columns(model)[column].casefold()


def tip(model: ModelState, text: str) -> str:
    """Return the tooltip of one of the columns: what may be cut off, and where it comes from."""
    lines = [text, f"{model.title} ({model.id}). {_origin(model)}."]
    if model.untested:
        lines.append(f"Not tried by us: {model.untested}")
    return "\n".join(lines)


def searchText(model: ModelState) -> str:
    """Return all that a search looks through, in lower case."""
    names = (label.name for label in model.labels)
    parts = (model.id, *columns(model), model.region, *names)
    return "\n".join(parts).lower()


def detailsTip(model: ModelState) -> str:
    """Return what :func:`html` cuts off: all structures, and the whole citation."""
    names = ", ".join(label.name for label in model.labels)
    return "\n\n".join(part for part in (names, model.citation) if part)


def html(model: ModelState) -> str:
    """Return all that is known of a model, in rich text; its links are for :data:`COPY` too."""
    what = ", ".join(part for part in (model.task, model.modality, model.region) if part)
    rows = [f"<b>{escape(model.title)}</b>" + (f" &ndash; {escape(what)}" if what else "")]
    if model.labels:
        rows.append(_structures(model.labels))
    rows.append(_int8(model.int8))
    if model.untested:
        rows.append(f"<b>Not tried by us:</b> {escape(model.untested)}")
    if not model.isDownloaded:
        size = f" ({sizeText(model.sizeMb)})" if model.sizeMb is not None else ""
        rows.append(f"It is downloaded on its first use{size}.")
    rows.append(f"Licence: {escape(model.licence) or 'not stated'}.{_source(model.source)}")
    if model.citation:
        rows.append(f'Cite: {escape(_shortened(model.citation))} <a href="{COPY}">Copy</a>')
    return "".join(f'<p style="margin: 0 0 4px 0">{row}</p>' for row in rows)


def deleteQuestion(model: ModelState, what: Literal["int8", "all"]) -> str:
    """Return what the user is asked before something of a model is deleted."""
    if what == "int8":
        return (
            f"Delete the INT8 network of {model.title}?\n\nIt can be made again from scans."
            " The FP32 network stays."
        )
    if model.isImported:
        return (
            f"Delete {model.title} and its INT8 network?\n\nIt was imported, so you would have to"
            " import it again. The file that you imported stays where it is."
        )
    if model.isIncluded:
        return (
            f"Delete the INT8 network of {model.title}, and all that was built of it?\n\nThe"
            " network itself came with MedPTQ, and stays."
        )
    return (
        f"Delete all that is kept of {model.title}: its download, its INT8 network, and what was"
        " built of them?\n\nIt stays in the list, and is downloaded again when it is used."
    )


def sizeText(megabytes: float) -> str:
    """Return a size to show: ``"30 kB"``, ``"0.4 MB"``, ``"12 MB"``, ``"1.3 GB"``."""
    if megabytes >= 1000:
        return f"{megabytes / 1000:.1f} GB"
    if megabytes < 0.1:
        return f"{max(1, round(megabytes * 1000))} kB"
    return f"{megabytes:.1f} MB" if megabytes < 10 else f"{megabytes:.0f} MB"


def shareText(share: float) -> str:
    """Return a share in percent that is never rounded up to all: ``"99.97 %"``."""
    return "100 %" if share == 1 else f"{min(share * 100, 99.99):.2f} %"


def agreementText(agreement: Mapping[str, Any]) -> str:
    """Return how well INT8 agreed with FP32 at calibration, to end a sentence with.

    Args:
        agreement: ``agreement_with_fp32`` as the worker answers it; ``""`` is returned if it was
            not measured. Older networks lack the structure that is least alike.
    """
    if "voxels_equal" not in agreement:
        return ""
    text = f"it finds the same as FP32 in {shareText(agreement['voxels_equal'])} of the voxels"
    if least := agreement.get("least_alike"):
        text += f"; least alike is {least['name']} (Dice {formats.share(least['dice'])})"
    return text


def _origin(model: ModelState) -> str:
    if model.isIncluded:
        return "Comes with MedPTQ"
    return "Imported" if model.isImported else "From the catalogue"


def _structures(labels: tuple[Label, ...]) -> str:
    names = [
        f'<span style="color: rgb{label.color}">&#9632;</span>&nbsp;'
        + escape(label.name).replace(" ", "&nbsp;")
        for label in labels[:_MOST_STRUCTURES]
    ]
    more = len(labels) - len(names)
    return "&nbsp; ".join(names) + (f" and {more} more" if more else "")


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_CITATION:
        return text
    return text[:_LONGEST_CITATION].rpartition(" ")[0].rstrip(",. ") + "\N{HORIZONTAL ELLIPSIS}"


def _int8(int8: Int8State | None) -> str:
    if int8 is None:
        return "INT8: not calibrated yet."
    scans = "1 scan" if int8.scans == 1 else f"{int8.scans} scans"
    agreement = escape(agreementText(int8.agreement))
    return (
        f"INT8: calibrated on {scans}, {formats.moment(int8.created[:10])}"
        f"{'; ' + agreement if agreement else ''}."
    )


def _source(source: str) -> str:
    if not source:
        return ""
    if source.startswith(("https://", "http://")):
        return f' Source: <a href="{escape(source)}">{escape(source)}</a>'
    return f" Source: {escape(source)}"
