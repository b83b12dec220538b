"""The commands that look after the networks on this machine: models, import, remove, cache."""

from __future__ import annotations

import argparse

from rich.table import Column, Table

from medptq import answers
from medptq.cli.outcome import Outcome
from medptq.progress import Reporter


def show_models(options: argparse.Namespace, _: Reporter) -> Outcome:
    """Do what ``medptq models`` asks for."""
    if options.architectures:
        return _architectures()
    from medptq.housekeeping import list_models

    answer = answers.models_answer(list_models())
    # The id is what has to be typed, so it is seen whole in the narrowest terminal.
    name = Column("id", min_width=max((len(row["id"]) for row in answer["models"]), default=0))
    table = Table(name, "what", "modality", "region", "structures", "MB", "licence", "here")
    shown: list[Table | str] = [table]
    for row in answer["models"]:
        names = row["structures"]
        table.add_row(
            row["id"],
            row["task"],
            row["modality"],
            row["region"],
            ", ".join(names) if len(names) <= 3 else f"{len(names)} structures",
            "?" if row["size_mb"] is None else f"{row['size_mb']:.1f}",
            row["licence"],
            _what_is_here(row) + (", not tried by us" if row["untested"] else ""),
        )
        if row["problem"]:
            shown.append(f"{row['id']}: {row['problem']}")
    citing: dict[str, list[str]] = {}
    for row in answer["models"]:
        if row["citation"]:
            citing.setdefault(row["citation"], []).append(row["id"])
    shown += [f"{', '.join(ids)}: cite {citation}" for citation, ids in citing.items()]
    return Outcome(answer, shown)


def _architectures() -> Outcome:
    answer = answers.architectures_answer()
    name = Column("name", min_width=max(len(row["name"]) for row in answer["architectures"]))
    table = Table(name, "what", "million parameters", "code's licence", "code", "cite")
    for row in answer["architectures"]:
        millions = row["million_parameters"]
        table.add_row(
            row["name"],
            row["title"],
            "" if millions is None else f"{millions:.4g}",
            row["licence"],
            row["source"],
            row["citation"],
        )
    return Outcome(answer, [table, "Weights have licences of their own."])


def _what_is_here(row: answers.Answer) -> str:
    """Return which precisions of a network can be run at once, or have to be built first."""
    if row["problem"] and not row["downloaded"]:
        return "damaged"
    parts = []
    if row["int8"] is not None:
        parts.append("INT8" if row["int8"]["ready"] else "INT8, not built yet")
    if row["downloaded"]:
        parts.append("FP32" if row["fp32_ready"] else "FP32, not built yet")
    return "; ".join(parts) or "not downloaded"


def import_network(options: argparse.Namespace, reporter: Reporter) -> Outcome:
    """Do what ``medptq import`` asks for."""
    from medptq.models.importing import import_model

    answer = answers.import_answer(import_model(options.path, reporter=reporter))
    return Outcome(answer, [f"{answer['title']} is in your library as {answer['id']}."])


def remove_network(options: argparse.Namespace, _: Reporter) -> Outcome:
    """Do what ``medptq remove`` asks for."""
    from medptq.housekeeping import remove_model

    freed = remove_model(options.model, "int8" if options.int8 else "all")
    answer = answers.freed_answer(freed)
    return Outcome(answer, [f"{answer['freed_mb']:.1f} MB were freed."])


def show_or_clear_cache(options: argparse.Namespace, _: Reporter) -> Outcome:
    """Do what ``medptq cache`` asks for."""
    from medptq.housekeeping import clear_cache
    from medptq.models.cache import cache_root, cache_size

    if options.clear:
        answer = answers.freed_answer(clear_cache())
        return Outcome(answer, [f"{answer['freed_mb']:.1f} MB were freed."])
    answer = {"cache": str(cache_root()), "cache_mb": cache_size() / 1e6}
    return Outcome(answer, [f"{answer['cache']}: {answer['cache_mb']:.1f} MB"])
