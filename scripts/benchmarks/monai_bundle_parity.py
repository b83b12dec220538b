"""A MONAI bundle: our segmentations against MONAI's own, and the time of both.

A U-Net is fitted to a scan for a minute or two, so that its outputs look like something, and
written as a bundle in the ways of MONAI's Model Zoo. Then each bundle is run by MONAI itself (its
configuration parsed and run as ``python -m monai.bundle run`` does it) and by ``medptq segment``,
each in its own fresh process, on the scan as it is and on the same voxels lying obliquely.

    python scripts/benchmarks/monai_bundle_parity.py --scan ct.nii.gz --labels organs.nii.gz

Of a scan's voxel that lies exactly half-way between two of the network's (as every second one does
where the spacing is doubled, or at 3 mm and 4.4 mm every 22nd), MONAI's nearest label is decided by
the rounding of its coordinates, and ours may be another one: the default spacing, for a scan of
3 mm, has no such voxels.

The labels are a label map on the scan's grid; its most frequent ones are learned. Prints the table
and writes it, and JSON, under scripts/benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from publishing import circumstances, footer, publish

from medptq.engines.selection import native_ways
from medptq.evaluate.metrics import dice

LINES = {
    "pytorch-fp32": "PyTorch FP32",
    "openvino-fp32": "OpenVINO FP32",
    "openvino-bf16": "OpenVINO BF16",
}
SOFTMAX = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
ARGMAX = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}


def _invert(*, nearest: bool) -> dict[str, Any]:
    return {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": "image",
        "nearest_interp": nearest,
    }


CASES = {
    "as the spleen bundle: constant windows, overlap 0.5, probabilities interpolated": (
        {"overlap": 0.5},
        [SOFTMAX, _invert(nearest=False), ARGMAX],
    ),
    "as the whole-body bundle: Gaussian windows, overlap 0.25, nearest labels": (
        {"overlap": 0.25, "mode": "gaussian"},
        [SOFTMAX, ARGMAX, _invert(nearest=True)],
    ),
}


def preprocessing(keys: list[str], options: argparse.Namespace) -> dict[str, Any]:
    modes = ["bilinear", "nearest"][: len(keys)]
    scale = {"a_min": -175, "a_max": 250, "b_min": 0.0, "b_max": 1.0, "clip": True}
    return {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": keys},
            {"_target_": "EnsureChannelFirstd", "keys": keys},
            {"_target_": "Orientationd", "keys": keys, "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": keys, "pixdim": options.spacing, "mode": modes},
            {"_target_": "ScaleIntensityRanged", "keys": "image", **scale},
            {"_target_": "CropForegroundd", "keys": keys, "source_key": "image"},
            {"_target_": "EnsureTyped", "keys": keys},
        ],
    }


def settings(case: str, options: argparse.Namespace) -> dict[str, Any]:
    windows, after = CASES[case]
    return {
        "imports": ["$import glob", "$import os"],
        "device": "$torch.device('cpu')",
        "network_def": {
            "_target_": "UNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": options.classes,
            "channels": [16, 32, 64, 128],
            "strides": [2, 2, 2],
            "num_res_units": 2,
            "norm": "instance",
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": preprocessing(["image"], options),
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [options.patch] * 3,
            "sw_batch_size": 1,
            **windows,
        },
        "postprocessing": {"_target_": "Compose", "transforms": after},
    }


def fit(options: argparse.Namespace) -> dict[str, Any]:
    """Fit the network to the scan for some seconds; return its weights."""
    import torch
    from monai.bundle import ConfigParser
    from monai.losses import DiceCELoss

    first = next(iter(CASES))
    parser = ConfigParser(
        {**settings(first, options), "preprocessing": preprocessing(["image", "label"], options)}
    )
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").train()
    data = parser.get_parsed_content("preprocessing")(
        {"image": str(options.scan), "label": str(options.labels)}
    )
    image, label = data["image"].as_tensor(), data["label"].as_tensor().long()
    frequent = torch.bincount(label.ravel())[1:].argsort(descending=True)[: options.classes - 1]
    target = torch.zeros_like(label)
    for value, found in enumerate(frequent, 1):
        target[label == found + 1] = value
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    random = np.random.default_rng(0)
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < options.seconds:
        places = [random.integers(max(n - options.patch, 0) + 1) for n in image.shape[1:]]
        box = (slice(None), *(slice(n, n + options.patch) for n in places))
        loss = loss_of(network(image[box][None]), target[box][None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    print(f"{steps} steps, the last with a loss of {loss.item():.3f}", flush=True)
    return network.state_dict()  # type: ignore[no-any-return]


def write_bundle(folder: Path, case: str, weights: Any, options: argparse.Namespace) -> Path:
    import torch
    from monai.bundle import ConfigParser

    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True)
    names = {str(n): f"structure {n}" if n else "background" for n in range(options.classes)}
    about = {
        "name": folder.name,
        "version": "0.1.0",
        "network_data_format": {
            "inputs": {"image": {"modality": "CT", "num_channels": 1}},
            "outputs": {"pred": {"num_channels": options.classes, "channel_def": names}},
        },
    }
    ConfigParser.export_config_file(settings(case, options), folder / "configs" / "inference.json")
    ConfigParser.export_config_file(about, folder / "configs" / "metadata.json")
    torch.save(weights, folder / "models" / "model.pt")
    return folder


def turned(scan: Path, target: Path, degrees: float = 11.0) -> Path:
    """Write the same voxels, lying obliquely to the patient's axes."""
    image = sitk.ReadImage(str(scan))
    turn = np.deg2rad(degrees)
    rotation = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    direction = np.array(rotation) @ np.reshape(image.GetDirection(), (3, 3))
    image.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(image, str(target))
    return target


def run_monai(bundle: Path, scan: Path, target: Path) -> dict[str, Any]:
    """Segment with MONAI; run in this process, which was started for it."""
    import torch
    from monai.bundle import ConfigParser

    from medptq.evaluate.memory import peak_memory_mb

    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    network = parser.get_parsed_content("network").eval()
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    before, inferer, after = (
        parser.get_parsed_content(key) for key in ("preprocessing", "inferer", "postprocessing")
    )
    with torch.inference_mode():
        started = time.perf_counter()
        data = before({"image": str(scan)})
        prepared = time.perf_counter()
        data["pred"] = inferer(data["image"][None], network)[0]
        inferred = time.perf_counter()
        labels = after(data)["pred"][0].numpy().astype(np.uint8)
        done = time.perf_counter()
    image = sitk.GetImageFromArray(labels.transpose(2, 1, 0))
    sitk.WriteImage(image, str(target), True)
    return {
        "preprocess": prepared - started,
        "inference": inferred - prepared,
        "postprocess": done - inferred,
        "peak_memory_mb": peak_memory_mb(),
    }


def run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def compare(
    case: str, lying: str, bundle: Path, scan: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    print(f"{case}, {lying} ...", flush=True)
    work = bundle.parent
    reference = work / "monai.nrrd"
    theirs = run([sys.executable, __file__, "--run", *map(str, (bundle, scan, reference))])
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(reference)))
    subprocess.run(  # so that the export is not among what is timed
        [sys.executable, "-m", "medptq", "import", str(bundle), "--quiet"],
        check=True,
        env={**os.environ, "MEDPTQ_LIBRARY": str(work / "library")},  # not the user's
    )
    values = range(1, options.classes)
    rows = []
    for line in (f"{engine}-{precision}" for engine, precision in native_ways()):
        if line not in LINES:
            continue
        engine, precision = line.split("-")
        target = work / f"{line}.nrrd"
        command = [sys.executable, "-m", "medptq", "segment", str(bundle), str(scan)]
        command += ["--output", str(target), "--engine", engine, "--precision", precision]
        ours = run([*command, "--json", "--quiet", "--overwrite"])
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(target)))
        scores = dice(expected, found, values)
        rows.append(
            {
                "case": case,
                "lying": lying,
                "line": line,
                "dice": {str(n): score for n, score in scores.items() if score is not None},
                "different_voxels": int(np.count_nonzero(found != expected)),
                "found_voxels": int(np.count_nonzero(expected)),
                "seconds": ours["scans"][0]["volume_seconds"],
                "peak_memory_mb": ours["peak_memory_mb"],
                "monai": theirs,
            }
        )
    return rows


def table(report: dict[str, Any]) -> str:
    import monai

    text = [
        "# A MONAI bundle: ours against MONAI's own",
        "",
        f"A U-Net 16-32-64-128 with {report['classes']} classes, fitted to the scan for "
        f"{report['fitted_seconds']:g} s; {' x '.join(map(str, report['scan_size']))} voxels of "
        f"{' x '.join(f'{n:.3g}' for n in report['scan_spacing'])} mm, resampled to "
        f"{' x '.join(map(str, report['spacing']))} mm; windows of {report['patch']}³. Dice is "
        "between the two label maps, of the structure in which they differ most. Seconds from the "
        "scan to its label map, with the model loaded; MONAI's include reading the file. Peak "
        f"resident memory of each process. MONAI {monai.__version__}.",
        "",
        "| bundle | scan | ours on | lowest Dice | other voxels | ours, s | MONAI, s "
        "| ours, GB | MONAI, GB |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    parts = ("preprocess", "inference", "postprocess")
    for row in report["results"]:
        ours, theirs = (sum(times[p] for p in parts) for times in (row["seconds"], row["monai"]))
        text.append(
            f"| {row['case']} | {row['lying']} | {LINES[row['line']]} "
            f"| {min(row['dice'].values()):.6f} "
            f"| {row['different_voxels']} of {row['found_voxels']} | {ours:.1f} | {theirs:.1f} "
            f"| {row['peak_memory_mb'] / 1000:.2f} | {row['monai']['peak_memory_mb'] / 1000:.2f} |"
        )
    return "\n".join(text) + "\n" + footer(report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", type=Path, help="a NIfTI file")
    parser.add_argument("--labels", type=Path, help="a label map on its grid")
    parser.add_argument("--classes", type=int, default=6, help="the background among them")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--spacing", type=float, nargs=3, default=[2.2, 2.2, 2.6], help="in mm")
    parser.add_argument("--seconds", type=float, default=90, help="how long to fit")
    parser.add_argument("--run", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:  # the process of MONAI's line
        print(json.dumps(run_monai(*options.run)))
        return
    weights = fit(options)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        scans = {"as it is": options.scan, "oblique": turned(options.scan, work / "turned.nii.gz")}
        for number, case in enumerate(CASES):
            bundle = write_bundle(work / f"parity-{number}", case, weights, options)
            for lying, scan in scans.items():
                rows += compare(case, lying, bundle, scan, options)
    image = sitk.ReadImage(str(options.scan))
    report = {
        **circumstances(),
        "classes": options.classes,
        "patch": options.patch,
        "spacing": options.spacing,
        "fitted_seconds": options.seconds,
        "scan_size": image.GetSize(),
        "scan_spacing": image.GetSpacing(),
        "results": rows,
    }
    publish("monai-bundle-parity", report, table(report))


if __name__ == "__main__":
    main()
