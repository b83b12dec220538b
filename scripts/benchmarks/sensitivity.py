"""What each layer of some networks costs when it is quantized, and the recipe chosen for each.

    python scripts/benchmarks/sensitivity.py NETWORK.pth ... --scans SCANS --output DIR

What DIR holds already of a network is not measured again.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from publishing import RESULTS, circumstances, footer, publish

import medptq
from medptq.evaluate.formats import percent, share
from medptq.evaluate.sensitivity_charts import loss_chart
from medptq.inference.networks import model_of
from medptq.quantization.agreement import Agreement
from medptq.quantization.sensitivity import LayerSensitivity, Sensitivity

MOST_BARS, MOST_ROWS = 30, 5
STYLE = """
svg { background: #fff; font: 13px sans-serif; }
text { fill: #15212b; dominant-baseline: central; }
.name { text-anchor: end; font-size: 12.5px; }
.key { font-size: 10.5px; fill: #566675; paint-order: stroke; stroke: #fff; stroke-width: 3px; }
.highlight { fill: #0a6e80; } .plain { fill: #a9b6c2; }
.mark { stroke: #9a3412; stroke-width: 1.2; stroke-dasharray: 4 3; }
"""


def measure(path: Path, scans: Path, folder: Path, patches: int | None) -> dict[str, Any]:
    """Return what was found of a network; it is measured if its folder does not hold it."""
    reporter = medptq.Reporter(on_warning=print)
    layers, twin = folder / "layers", folder / "int8"
    if not layers.exists():
        medptq.sensitivity(path, scans, layers, patches=patches, reporter=reporter)
    if not twin.exists():
        medptq.auto_quantize(path, scans, twin, reporter=reporter)
    study = json.loads((layers / "sensitivity.json").read_text(encoding="utf-8"))
    made = medptq.load_model(twin)
    for row in study["layers"]:
        row["weight_db"] = row["weight"] and row["weight"]["signal_to_noise_db"]
        row["input_db"] = row["inputs"][0]["signal_to_noise_db"]
        del row["weight"], row["inputs"]
    return {
        "id": study["model"],
        "architecture": _architecture(model_of(made).title),
        "sensitivity": study,
        "search": made.manifest["search"],
    }


def draw(study: dict[str, Any]) -> str:
    """Return the bars of a network's layers as a file of their own."""
    rows = tuple(
        LayerSensitivity(
            row["layer"],
            row["op_type"],
            row["weights"],
            Agreement(**row["alone"]),
            Agreement(**row["all_but"]),
        )
        for row in study["layers"]
    )
    chart = loss_chart(Sensitivity(Agreement(**study["together"]), rows), MOST_BARS)
    return str(chart).replace("<title>", f"<style>{STYLE}</style><title>", 1) + "\n"


def table(report: dict[str, Any], pictures: dict[str, str]) -> str:
    """Return the findings as Markdown."""
    text = ["# Sensitivity of layers, and the recipe chosen for each network", ""]
    text += [report["note"], ""] if report["note"] else []
    for network in report["networks"]:
        study, search = network["sensitivity"], network["search"]
        text += [
            f"## {network['architecture']} ({network['id']})",
            "",
            f"{study['scheme']}, {len(study['layers'])} layers: mean Dice with FP32's labels "
            f"{study['together']['dice']:.4f} if all are quantized, on {study['patches']} patches "
            f"of the {study['calibration_patches']} that scales were learned from; "
            f"{study['seconds'] / 60:.0f} minutes.",
            "",
            "| layer | operator | weights | lost alone | lost all but it |",
            "|---|---|---:|---:|---:|",
        ]
        text += [
            f"| `{row['layer']}` | {row['op_type']} | {row['weights']:,} "
            f"| {percent(1 - row['alone']['dice'])} | {percent(1 - row['all_but']['dice'])} |"
            for row in study["layers"][:MOST_ROWS]
        ]
        text += [
            "",
            f"![Loss by layer]({pictures[network['id']]})",
            "",
            f"`medptq quantize --auto`, at least {search['least_agreement']:g} on "
            f"{search['patches']} patches of {search['scans']} scans that it was not calibrated "
            f"on, {search['engine']}:",
            "",
            "| tried | Dice with FP32 | ms a patch | MB | |",
            "|---|---:|---:|---:|---|",
        ]
        text += [
            f"| {trial['name']} | {share(trial['dice'])} | {trial['milliseconds']:.1f} "
            f"| {trial['megabytes']:.1f} | {_verdict(trial)} |"
            for trial in search["trials"]
        ]
        text.append("")
    return "\n".join(text) + footer(report)


def _verdict(trial: dict[str, Any]) -> str:
    if trial["recipe"] is None:
        return ""
    if trial["dice"] is None:
        return "no cheaper"
    return "**chosen**" if trial["chosen"] else "passed" if trial["passed"] else "too far"


def _architecture(title: str) -> str:
    """Return what stands in the brackets of a trained network's title."""
    found = re.search(r"\((.+)\)$", title)
    return found[1] if found else title


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", type=Path)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--patches", type=int)
    parser.add_argument("--note", default="", help="what a reader of the timings must know")
    options = parser.parse_args()
    networks = []
    for path in options.networks:
        print(f"{path.stem} ...", flush=True)
        networks.append(measure(path, options.scans, options.output / path.stem, options.patches))
    report = {
        **circumstances(),
        # Without paths, which are of the machine that it ran on.
        "command": "python scripts/benchmarks/sensitivity.py NETWORK.pth ... --scans SCANS "
        "--output DIR",
        "note": options.note,
        "networks": networks,
    }
    pictures = {}
    RESULTS.mkdir(exist_ok=True)
    for network in networks:
        name = f"sensitivity-{report['date']}-{network['id']}.svg"
        pictures[network["id"]] = name
        (RESULTS / name).write_text(draw(network["sensitivity"]), encoding="utf-8")
    publish("sensitivity", report, table(report, pictures))


if __name__ == "__main__":
    main()
