"""A whole volume, from file to label map: MONAI's sliding window, and ``medptq segment``.

A synthetic CT and one network with random weights, the last of them scaled so that every class is
found. That does not change the times, but leaves many voxels near-ties between classes: labels
agree less than a trained network's. The windows and their blending are the same on every line. Each
line has a process of its own, which segments the scan several times: the first time loads and warms
up, the median of the others is shown, stage by stage.

    python scripts/benchmarks/whole_volume.py                # 350 x 350 x 300, 14 and 105 classes
    python scripts/benchmarks/whole_volume.py --file-mm 1.0  # of a file with smaller voxels
    python scripts/benchmarks/whole_volume.py --size 96 96 96 --classes 3 --patch 32 --runs 1

On a GPU MONAI's line is what its users run: the network in PyTorch AMP, the volume and the
stitching on the GPU; if the memory does not suffice for that, the stitching on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from publishing import RESULTS, publish, write
from whole_volume_lines import TASKS
from whole_volume_table import LINES, MM, table

ON_GPU = ("monai", "pytorch-fp16", "tensorrt-fp16", "tensorrt-int8")
ON_CPU = ("monai", "pytorch-fp32", "openvino-fp32", "openvino-int8")


def in_a_process(
    task: str, options: argparse.Namespace, work: Path, classes: int, line: str = "monai"
) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--task", task, "--work", str(work)]
    command += ["--line", line, "--classes", str(classes)]
    cache = str(options.cache or work / "cache")
    environment = {**os.environ, "MEDPTQ_CACHE": cache}
    with tempfile.TemporaryFile("w+") as complaints:
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                timeout=options.limit,
                env=environment,
                check=False,
            )
            failure = f"its process ended with {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            failure = f"stopped after {options.limit:.0f} s"
        if not failure:
            return dict(json.loads(done.stdout.splitlines()[-1]))
        complaints.seek(0)
        said = [text.strip() for text in complaints if text.strip()]
    return {"not_run": f"{failure}: {said[-1][:300]}" if said else failure}


def measure(options: argparse.Namespace, classes: int, lines: list[str], done: Any) -> None:
    """Run all lines for a number of classes; ``done`` is told of each as soon as it has run."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        made = in_a_process("make", options, work, classes)
        reference = None
        for line in lines:
            print(f"{classes} classes, {LINES[line]} ...", flush=True)
            facts = made
            if "not_run" not in facts and line != "monai":
                facts = in_a_process("build", options, work, classes, line)
            if "not_run" not in facts:
                task = "monai" if line == "monai" else "medptq"
                facts = {**facts, **in_a_process(task, options, work, classes, line)}
            if "not_run" not in facts:
                labels = sitk.GetArrayFromImage(
                    sitk.ReadImage(str(work / f"{line}{options.suffix}"))
                )
                reference = labels if reference is None else reference
                facts["agreement"] = float(np.mean(labels == reference))
                facts["labels_found"] = len(np.unique(labels))
            done({"classes": classes, "line": line, **facts})


def earlier(date: str, settings: dict[str, Any], classes: list[int]) -> list[dict[str, Any]]:
    """Return today's results for other numbers of classes, measured with the same settings."""
    path = RESULTS / f"whole-volume-{date}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if any(known.get(name) != json.loads(json.dumps(value)) for name, value in settings.items()):
        return []
    return [result for result in known["results"] if result["classes"] not in classes]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = {"type": int, "nargs": 3, "metavar": ("I", "J", "K")}
    parser.add_argument("--size", default=(350, 350, 300), help="at 1.5 mm", **size)
    parser.add_argument("--file-mm", type=float, default=MM, help="the file's voxel size")
    parser.add_argument("--suffix", default=".nii", choices=(".nii", ".nii.gz", ".nrrd"))
    parser.add_argument("--classes", type=int, nargs="+", default=[14, 105])
    parser.add_argument("--network", default="segresnet")
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--monai-batch", type=int, default=1, help="windows at once, in MONAI")
    parser.add_argument("--lines", nargs="+", choices=list(LINES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--search-seconds", type=float, default=300, help="for INT8's placements")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for one process")
    parser.add_argument("--cache", type=Path, help="a folder to keep what was built in")
    for hidden in ("--task", "--line"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.task:
        print(json.dumps(TASKS[options.task](options, options.work)))
        return
    import torch

    lines = options.lines or list(ON_GPU if torch.cuda.is_available() else ON_CPU)
    with tempfile.TemporaryDirectory() as folder:
        facts = in_a_process("circumstances", options, Path(folder), options.classes[0])
    command = " ".join(["python", *sys.argv])
    named = ("size", "file_mm", "suffix", "network", "patch", "overlap", "monai_batch", "runs")
    settings = {name: getattr(options, name) for name in named}
    results = earlier(facts["date"], settings, options.classes)
    report: dict[str, Any] = {**facts, "command": command, **settings, "results": results}

    def done(result: dict[str, Any]) -> None:
        report["results"].append(result)
        write("whole-volume", report, table(report))

    for classes in options.classes:
        measure(options, classes, lines, done)
    publish("whole-volume", report, table(report))


if __name__ == "__main__":
    main()
