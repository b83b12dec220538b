"""Brain extraction on real heads: FP32 and INT8 against the labels' brain mask.

Calibrates deepbet on 20 whole-head T1 scans of IXI and segments 20 others with every engine of
this machine. The data are 2 mm scans with DLMUSE parcellations; the brain mask is every labelled
voxel, with holes filled, as deepbet fills them. (DLMUSE is a network itself: these are no expert
labels.) Images are DATA/images/NAME.nii.gz, labels
DATA/labels/NAME_DLMUSE.nii.gz.

    python scripts/benchmarks/brain_extraction.py --data ../shared/data/ixi2mm_dlmuse
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from publishing import circumstances, footer, publish
from scipy import ndimage

import medptq
from medptq.cli.console import Terminal
from medptq.engines.selection import native_ways
from medptq.evaluate.metrics import dice, nsd
from medptq.inference.networks import Network
from medptq.quantization.recipe import OBSERVER_CHOICES
from medptq.scans.reading import read_scan

NSD_TOLERANCE_MM = 2.0  # one voxel


def link(files: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for file in files:
        (folder / file.name).symlink_to(file.resolve())
    return folder


def evaluate(
    network: Network,
    engine: str,
    precision: Any,
    test: Path,
    truths: dict[str, np.ndarray],
    reference: dict[str, np.ndarray] | None,
    reporter: medptq.Reporter,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    results = medptq.segment(network, test, engine=engine, precision=precision, reporter=reporter)
    found = {result.name: result.segmentation.labels for result in results}
    assert found.keys() == truths.keys()
    spacing = read_scan(next(test.iterdir())).spacing
    to_truth = [dice(truths[name], labels, [1])[1] for name, labels in found.items()]
    surfaces = [
        nsd(truths[name], labels, [1], spacing, NSD_TOLERANCE_MM)[1]
        for name, labels in found.items()
    ]
    row = {
        "engine": engine,
        "precision": precision,
        "dice": statistics.fmean(to_truth),
        "dice_min": min(to_truth),
        "nsd": statistics.fmean(surfaces),
        "inference_s": statistics.median(r.segmentation.seconds.inference for r in results),
    }
    if reference is not None:
        agreed = [dice(reference[name], labels, [1])[1] for name, labels in found.items()]
        row["dice_vs_fp32"], row["dice_vs_fp32_min"] = statistics.fmean(agreed), min(agreed)
    return row, found


def table(report: dict[str, Any]) -> str:
    text = [
        "# deepbet on IXI: FP32 and INT8 against the labels",
        "",
        f"Calibrated on {len(report['calibration'])} scans (observer {report['observer']}), "
        f"tested on {len(report['test'])} others. Whole-head T1, 2 mm; the brain mask is DLMUSE's, "
        f"holes filled; NSD at {NSD_TOLERANCE_MM:.0f} mm. Seconds of inference are medians per "
        "scan.",
        "",
        "| engine | precision | Dice, mean | change | Dice, lowest | NSD | Dice to FP32, mean "
        "| lowest | inference, s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    first = report["results"][0]
    for row in report["results"]:
        agreed = [f"{row[k]:.5f}" if k in row else "" for k in ("dice_vs_fp32", "dice_vs_fp32_min")]
        text.append(
            f"| {row['engine']} | {row['precision']} | {row['dice']:.5f} "
            f"| {row['dice'] - first['dice']:+.5f} | {row['dice_min']:.5f} | {row['nsd']:.5f} "
            f"| {agreed[0]} | {agreed[1]} | {row['inference_s']:.2f} |"
        )
    return "\n".join(text) + "\n" + footer(report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DATA")
    parser.add_argument(
        "--scans", type=int, default=20, help="how many to calibrate and to test on"
    )
    parser.add_argument("--observer", choices=OBSERVER_CHOICES, default=medptq.Recipe().observer)
    options = parser.parse_args()
    images = sorted((options.data / "images").iterdir())
    calibration, test = images[: 2 * options.scans : 2], images[1 : 2 * options.scans : 2]
    with tempfile.TemporaryDirectory() as folder, Terminal(quiet=False) as terminal:
        work, reporter = Path(folder), terminal.reporter
        recipe = medptq.Recipe(options.observer, patches=options.scans)
        int8 = medptq.quantize(
            "deepbet", link(calibration, work / "c"), work / "q", recipe=recipe, reporter=reporter
        )
        test_folder = link(test, work / "t")
        truths = {}
        for file in test:
            stem = file.name.removesuffix(".nii.gz")
            labels = read_scan(options.data / "labels" / f"{stem}_DLMUSE.nii.gz").array[0] > 0
            truths[stem] = ndimage.binary_fill_holes(labels).astype(np.uint8)
        rows: list[dict[str, Any]] = []
        reference = None
        for engine, precision in native_ways():
            row, found = evaluate(int8, engine, precision, test_folder, truths, reference, reporter)
            reference = reference or found
            rows.append(row)
    report = {
        **circumstances(),
        "observer": options.observer,
        "calibration": [file.name for file in calibration],
        "test": [file.name for file in test],
        "agreement_at_calibration": dict(int8.manifest["agreement_with_fp32"]),
        "results": rows,
    }
    publish("brain-extraction", report, table(report))


if __name__ == "__main__":
    main()
