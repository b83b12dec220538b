"""How far W8A8 agrees with FP32 by each observer, and by the one that is chosen by agreement.

    python scripts/benchmarks/observers.py NETWORK ... --scans DIR [--granularity channel]

Each network, a file or the id of one that comes with the program, is quantized as ``medptq quantize
--observer`` does it, or with scales per channel, from the same patches, and held against FP32 on
the same patches of other scans.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from publishing import circumstances, footer, publish

import medptq
from medptq.quantization.recipe import OBSERVER_CHOICES, RUNNABLE_GRANULARITIES


def row(network: str, scans: Path, observer: Any, granularity: Any) -> dict[str, Any]:
    """Quantize a network by an observer; return how far it agrees with FP32."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = medptq.Recipe(observer, activation_granularity=granularity)
        twin = medptq.quantize(network, scans, Path(folder, "int8"), recipe=recipe)
    agreement = twin.manifest["agreement_with_fp32"]
    chosen = twin.manifest["calibration"]["observer"]
    return {"network": Path(network).stem, "observer": observer, "ranges": chosen, **agreement}


def table(report: dict[str, Any]) -> str:
    """Return the rows as Markdown."""
    text = [
        f"# W8A8 by each observer, a scale per {report['granularity']}",
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
    parser.add_argument("networks", nargs="+", metavar="NETWORK")
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--granularity", choices=RUNNABLE_GRANULARITIES, default="tensor")
    parser.add_argument("--note", default="", help="what a reader must know of the networks")
    options = parser.parse_args()
    report = circumstances()
    report["command"] = (
        "python scripts/benchmarks/observers.py "
        f"{' '.join(Path(network).name for network in options.networks)} --scans SCANS "
        f"--granularity {options.granularity}"
    )
    report["granularity"] = options.granularity
    report["note"] = options.note
    report["rows"] = [
        row(network, options.scans, observer, options.granularity)
        for network in options.networks
        for observer in OBSERVER_CHOICES
    ]
    publish(f"observers-{options.granularity}", report, table(report))


if __name__ == "__main__":
    main()
