"""How the networks of scripts/train.py came about, and how good they are.

Their records, which lie beside their weights, as one table:

    python scripts/benchmarks/training.py trained
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

from publishing import publish


def table(report: dict[str, Any]) -> str:
    """Return the networks as Markdown, data set by data set."""
    text = [
        "# The trained networks",
        "",
        "Trained by `scripts/train.py` on the pairs that `scripts/splits` names for it, seeded; "
        "Dice on those of its test, by the way that `medptq segment` takes, in FP32: the mean of "
        "the structures, and the lowest of them. Times are of training alone, on a GPU that up to "
        "four networks shared.",
        "",
        "| network | parameters | pairs | Dice, validation | Dice, test | lowest structure "
        "| steps of so many patches | learning rate | s | on |",
        "|---|---:|---:|---:|---:|---|---:|---:|---:|---|",
    ]
    for network in report["networks"]:
        dice = network["dice"]
        name, lowest = min(dice["test"]["classes"].items(), key=lambda entry: entry[1])
        pairs = " + ".join(str(network["pairs"][part]) for part in ("train", "validation", "test"))
        text.append(
            f"| {network['name']} | {network['parameters'] / 1e6:.1f} M | {pairs} "
            f"| {dice['validation']['mean']:.3f} | {dice['test']['mean']:.3f} "
            f"| {name}, {lowest:.3f} | {network['steps']} x {network['batch']} "
            f"| {network['learning_rate']:g} | {network['seconds']['training']:.0f} "
            f"| {network['device']} |"
        )
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    command = "python scripts/train_network.py NAME --data DATA --output trained --seconds S"
    return "\n".join(text) + f"\n\n{versions}. {report['date']}, `{command}`.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trained", type=Path, help="folder that train.py wrote")
    options = parser.parse_args()
    paths = sorted(options.trained.glob("*/training.json"))
    networks = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    for network in networks:
        del network["loss"], network["command"]  # the latter has paths of the machine
    report = {
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "versions": networks[0]["versions"],
        "networks": networks,
    }
    publish("training", report, table(report))


if __name__ == "__main__":
    main()
