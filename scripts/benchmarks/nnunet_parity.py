"""A model folder of nnU-Net v2: our segmentations against nnunetv2's own, and the time of both.

    python scripts/benchmarks/nnunet_parity.py --model-folder nnUNetTrainer__nnUNetPlans__3d_fullres
        --scans imagesTs --nnunet-python ~/nnunet/bin/python --case 4,1,1 --case 0.8,1,1.3@24,32,24

``--case SPACING[@PATCH]`` runs both programs once more with another voxel size and patch size in
the plans, so that resampling and overlapping windows are compared as well: the network sees what
it was not trained on then, and finds less, but both programs have to find the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from publishing import circumstances, footer, publish

import medptq
from medptq.cli.console import Terminal
from medptq.engines.selection import native_ways
from medptq.evaluate.metrics import dice
from medptq.inference.sessions import SessionPool
from medptq.scans.scan import LabelArray


@dataclass(frozen=True)
class Case:
    """What is changed in the plans; None for as they are."""

    spacing: list[float] | None = None
    patch: list[int] | None = None

    @classmethod
    def parse(cls, text: str) -> Case:
        """Return the case of an argument ``SPACING[@PATCH]``."""
        spacing, _, patch = text.partition("@")
        return cls(
            [float(part) for part in spacing.split(",")],
            [int(part) for part in patch.split(",")] if patch else None,
        )

    @property
    def title(self) -> str:
        """What the table calls it."""
        if self.spacing is None:
            return "as trained"
        spacing = " x ".join(f"{mm:g}" for mm in self.spacing) + " mm"
        patch = "" if self.patch is None else f", patch {' x '.join(map(str, self.patch))}"
        return spacing + patch


def folder_of(case: Case, model: Path, parent: Path) -> Path:
    """Return a model folder with the case's plans and the weights of ``model``."""
    folder = parent / model.resolve().name
    folder.mkdir()
    for file in model.resolve().iterdir():
        if file.name != "plans.json":
            (folder / file.name).symlink_to(file)
    plans = json.loads((model / "plans.json").read_text(encoding="utf-8"))
    configuration = plans["configurations"][folder.name.split("__")[2]]
    configuration["spacing"] = case.spacing or configuration["spacing"]
    configuration["patch_size"] = case.patch or configuration["patch_size"]
    (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    return folder


def theirs(model: Path, scans: list[Path], python: Path, folder: Path) -> dict[str, Any]:
    """Segment with nnunetv2; the label maps lie in ``folder``."""
    checkpoint = next(iter(sorted(model.glob("fold_*/checkpoint_final.pth"))))
    fold = checkpoint.parent.name.removeprefix("fold_")
    job = {
        "model": str(model),
        "fold": fold if fold == "all" else int(fold),
        "checkpoint": checkpoint.name,
        "scans": list(map(str, scans)),
        "output": str(folder),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    script = Path(__file__).with_name("nnunet_reference.py")
    subprocess.run([python, script, folder / "job.json"], check=True)
    report: dict[str, Any] = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))
    return report


def label_map(path: Path) -> LabelArray:
    labels: LabelArray = sitk.GetArrayFromImage(sitk.ReadImage(path)).astype(np.uint16)
    return labels


def compare_case(
    case: Case, options: argparse.Namespace, scans: list[Path], reporter: medptq.Reporter
) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "theirs").mkdir()
        folder = folder_of(case, options.model_folder, work)
        reference = theirs(folder, scans, options.nnunet_python, work / "theirs")
        truths = [label_map(work / "theirs" / scan.name) for scan in scans]
        model = medptq.load_model(folder, reporter=reporter)
        values = {label.value: label.name for label in model.labels}
        for engine, precision in native_ways():
            if precision == "int8":  # it would have to be calibrated first
                continue
            with SessionPool() as pool:
                results = [
                    medptq.segment(
                        *(model, scan),
                        engine=engine,
                        precision=precision,
                        pool=pool,
                        reporter=reporter,
                    )[0].segmentation
                    for scan in [scans[0], *scans]  # the first warms up
                ][1:]
            found: dict[str, list[float]] = {structure: [] for structure in values.values()}
            for truth, result in zip(truths, results, strict=True):
                for value, score in dice(truth, result.labels, values).items():
                    if score is not None:  # neither found it
                        found[values[value]].append(score)
            rows.append(
                {
                    "case": case.title,
                    "engine": engine,
                    "precision": precision,
                    "dice": {
                        structure: {"mean": statistics.fmean(scores), "min": min(scores)}
                        for structure, scores in found.items()
                        if scores
                    },
                    "different_voxels": sum(
                        int(np.count_nonzero(truth != result.labels))
                        for truth, result in zip(truths, results, strict=True)
                    ),
                    "found_voxels": sum(int(np.count_nonzero(truth)) for truth in truths),
                    "seconds": statistics.median(
                        r.seconds.preprocess + r.seconds.inference + r.seconds.postprocess
                        for r in results
                    ),
                    "nnunet_seconds": statistics.median(reference["seconds"].values()),
                    "nnunet": reference["versions"],
                    "nnunet_threads": reference["threads"],
                }
            )
    return rows


def table(report: dict[str, Any]) -> str:
    versions = report["results"][0]["nnunet"]
    text = [
        "# A model folder of nnU-Net: ours against nnunetv2's own",
        "",
        f"{report['scans']} scans that the network was not trained on, segmented by both programs"
        " with one fold and without mirroring, on the CPU. Dice is between the two, for each"
        " structure its mean and its lowest. Seconds are medians a scan, from the image in memory"
        " to the label map, with the model loaded and warm."
        f" nnunetv2 {versions['nnunetv2']} on PyTorch {versions['torch']}.",
        "",
        "| plans | ours on | Dice | other voxels | ours, s | nnunetv2, s |",
        "|---|---|---|---:|---:|---:|",
    ]
    for row in report["results"]:
        scores = "; ".join(
            f"{structure} {score['mean']:.5f}, lowest {score['min']:.5f}"
            for structure, score in row["dice"].items()
        )
        text.append(
            f"| {row['case']} | {row['engine']} {row['precision']} | {scores} "
            f"| {row['different_voxels']} of {row['found_voxels']} "
            f"| {row['seconds']:.3f} | {row['nnunet_seconds']:.3f} |"
        )
    return "\n".join(text) + "\n" + footer(report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-folder", type=Path, required=True)
    parser.add_argument("--scans", type=Path, required=True, help="a folder of .nii.gz files")
    parser.add_argument("--nnunet-python", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--case", type=Case.parse, action="append", default=[])
    options = parser.parse_args()
    scans = sorted(options.scans.glob("*.nii.gz"))[: options.count]
    with Terminal(quiet=True) as terminal:
        rows = [
            row
            for case in [Case(), *options.case]
            for row in compare_case(case, options, scans, terminal.reporter)
        ]
    report = {**circumstances(), "scans": len(scans), "results": rows}
    publish("nnunet-parity", report, table(report))


if __name__ == "__main__":
    main()
