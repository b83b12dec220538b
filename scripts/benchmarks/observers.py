"""How far W8A8 agrees with FP32 by each observer, and by the one that is chosen by agreement.

    python scripts/benchmarks/observers.py NETWORK.pth ... --scans DIR

Each network is quantized as ``medptq quantize --observer`` does it, from the same patches, and held
against FP32 on the same patches of other scans.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from publishing import circumstances, footer, publish

import medptq
from medptq.quantization.recipe import OBSERVER_CHOICES


def row(path: Path, scans: Path, observer: Any) -> dict[str, Any]:
    """Quantize a network by an observer; return how far it agrees with FP32."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = medptq.Recipe(observer)
        twin = medptq.quantize(path, scans, Path(folder, "int8"), recipe=recipe)
    agreement = twin.manifest["agreement_with_fp32"]
    chosen = twin.manifest["calibration"]["observer"]
    return {"network": path.stem, "observer": observer, "ranges": chosen, **agreement}


def table(report: dict[str, Any]) -> str:
    """Return the rows as Markdown."""
    text = [
        "# W8A8 by each observer",
        "",
        "Agreement with FP32 on patches of scans that were not calibrated on. *Output*: root mean "
        "square of its error, as a share of FP32's. The mean Dice is over the structures that "
        "either finds, however small.",
        "",
        *([report["note"], ""] if report["note"] else []),
        "| network | observer | patches | voxels | mean Dice | output |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for found in report["rows"]:
        name = found["observer"]
        if name != found["ranges"]:
            name = f"**{name}: {found['ranges']}**"
        text.append(
            f"| {found['network']} | {name} | {found['patches']} | {found['voxels_equal']:.5f} "
            f"| {found['dice']:.4f} | {found['relative_output_error']:.4f} |"
        )
    return "\n".join(text) + "\n" + footer(report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", type=Path, metavar="NETWORK")
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--note", default="", help="what a reader must know of the networks")
    options = parser.parse_args()
    report = circumstances()
    report["command"] = (
        "python scripts/benchmarks/observers.py "
        f"{' '.join(path.name for path in options.networks)} --scans SCANS"
    )
    report["note"] = options.note
    report["rows"] = [
        row(path, options.scans, observer)
        for path in options.networks
        for observer in OBSERVER_CHOICES
    ]
    publish("observers", report, table(report))


if __name__ == "__main__":
    main()
