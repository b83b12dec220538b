"""What every benchmark's result carries, and where it is written."""

from __future__ import annotations

import datetime
import json
import platform
import sys
from pathlib import Path
from typing import Any

import medptq
from medptq.engines.machine import describe_machine
from medptq.engines.selection import usable_engines

RESULTS = Path(__file__).parent / "results"


def circumstances() -> dict[str, Any]:
    """Return date, command, machine and versions."""
    machine = describe_machine()
    gpus = "".join(f", {gpu.name}" for gpu in machine.gpus)
    versions = {name: engine.availability().version for name, engine in usable_engines().items()}
    return {
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb:.0f} GB{gpus}, "
        f"{platform.system()}, Python {platform.python_version()}",
        "versions": {"medptq": medptq.__version__, **versions},
    }


def footer(report: dict[str, Any]) -> str:
    """Return the circumstances as the last lines of a Markdown table."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return f"\n{report['machine']}; {versions}. {report['date']}, `{report['command']}`.\n"


def publish(name: str, report: dict[str, Any], table: str) -> None:
    """Write the JSON and the Markdown table under results/, dated, and print the table."""
    write(name, report, table)
    print(table)


def write(name: str, report: dict[str, Any], table: str) -> None:
    """Write the JSON and the Markdown table under results/, dated."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{report['date']}"
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table, encoding="utf-8")
