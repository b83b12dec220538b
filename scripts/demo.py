"""The whole way on two real networks and a real head, from public packages only.

Run by ``scripts/demo.sh``. Fetches the brain-extraction network deepbet and a T1-weighted head
from PyPI, makes a calibration folder, quantizes deepbet and the program's own network for brain
regions, segments with every engine of this machine, and writes what ``medptq compare`` writes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

import medptq
from medptq.cli.console import Terminal
from medptq.evaluate.results import Comparison, ratios
from medptq.models.archive import extract_member
from medptq.models.catalogue import Download, Member, Release
from medptq.models.download import fetch
from medptq.progress import Reporter

# A T1-weighted head with skull and face, the mean of several people's, from PyDeface's wheel (MIT).
HEAD = Download(
    file="pydeface-2.1.0-py3-none-any.whl",
    sha256="957aac1daaedd437a4191d450c4b2829e052351e33272b79ae978c9703edc99e",
    size_mb=8.2,
    origin=Release("pydeface", "2.1.0"),
    member=Member(
        "pydeface/data/mean_reg2mean.nii.gz",
        "fdc13571d66293f9919648cd8de9a7b3491b12175e09336353d2c9ce0466ecb6",
    ),
)
VARIANTS = 4
RECIPE = medptq.Recipe(patches=8)  # half of what is usual, for a demonstration
REGIONS = "brain-regions"  # the folder of the second network
NOTE = (
    "Only one head can be had from public packages, so the network was calibrated on "
    f"{VARIANTS} copies of it that vary as scanners vary (orientation, tilt, voxel size, bias "
    "field, contrast, noise), and was then compared on the head itself. It is a demonstration, "
    "not an evaluation."
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo.sh", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-output"), metavar="DIR")
    parser.add_argument("--from", dest="start", type=Path, default=Path(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    output = options.start / options.output
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with Terminal(quiet=False) as terminal:
        try:
            reports = run(output, terminal.reporter)
        except medptq.MedPTQError as error:
            print(error, file=sys.stderr)
            return error.exit_status
    for report in reports:
        baseline, best = report.baseline, report.headline
        gain = ratios(best, baseline)
        assert best.dice_vs_fp32 is not None
        print(
            f"{report.model_title}, {best.title} beside {baseline.title}: the network is "
            f"{gain.latency:.1f} times faster, its file {gain.size:.1f} times smaller, "
            f"Dice {best.dice_vs_fp32.mean:.4f}."
        )
    print(
        f"Done in {time.monotonic() - started:.0f} s. Open {output / 'report.html'} and "
        f"{output / REGIONS / 'report.html'}."
    )
    return 0


def run(output: Path, reporter: Reporter) -> list[Comparison]:
    head = output / "head.nii.gz"
    extract_member(fetch(HEAD, reporter), HEAD.member, head, reporter)
    scans = output / "calibration"
    scans.mkdir(exist_ok=True)
    image = sitk.Cast(sitk.ReadImage(str(head)), sitk.sitkFloat32)
    for number in reporter.track(range(VARIANTS), "Varying the head"):
        sitk.WriteImage(vary(image, number), str(scans / f"head-{number}.nii.gz"))
    return [
        quantize_and_compare("deepbet", scans, head, output, reporter),
        quantize_and_compare("brain-regions-t1", scans, head, output / REGIONS, reporter),
    ]


def quantize_and_compare(
    name: str, scans: Path, head: Path, output: Path, reporter: Reporter
) -> Comparison:
    """Quantize a network, and put the INT8 twin and the report into a folder."""
    output.mkdir(exist_ok=True)
    model = medptq.load_model(name, reporter=reporter)
    quantized = medptq.quantize(
        *(model, scans, output / f"{name}-int8"), recipe=RECIPE, overwrite=True, reporter=reporter
    )
    with tempfile.TemporaryDirectory(dir=output, prefix=".report-") as folder:
        made = Path(folder) / "report"
        report = medptq.compare(
            model,
            quantized,
            head,
            made,
            notes=(NOTE,),
            command="scripts/demo.sh",
            reporter=reporter,
        )
        for path in made.iterdir():
            path.replace(output / path.name)
    return report


def vary(image: sitk.Image, seed: int) -> sitk.Image:
    """Return the head as another scanner might have taken it."""
    random = np.random.default_rng(seed)
    size, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    centre = image.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist())
    tilt = sitk.Euler3DTransform(centre, *np.radians(random.uniform(-8, 8, 3)).tolist())
    tilt.SetTranslation(random.uniform(-6, 6, 3).tolist())
    voxel = random.choice([(1.0, 1.0, 1.0), (0.9, 0.9, 1.5), (1.2, 1.0, 1.0), (1.3, 1.3, 1.3)])
    field = size * spacing
    grid = sitk.Image(np.ceil(field / voxel).astype(int).tolist(), sitk.sitkFloat32)
    grid.SetSpacing(voxel.tolist())
    grid.SetDirection(image.GetDirection())
    grid.SetOrigin(image.GetOrigin())
    moved = sitk.Resample(image, grid, tilt, sitk.sitkLinear, 0.0)

    array = sitk.GetArrayFromImage(moved)
    peak = float(np.quantile(array, 0.995))
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in array.shape]
    k, j, i = np.meshgrid(*axes, indexing="ij", sparse=True)
    a, b, c, d = random.uniform(-0.25, 0.25, 4)
    bias = np.exp(a * k + b * j + c * i + d * (k * k + j * j + i * i))
    contrast = np.power(np.clip(array / peak, 0, None), random.uniform(0.8, 1.25))
    noise = random.normal(0, random.uniform(0.005, 0.025), (2, *array.shape)).astype(np.float32)
    rician = np.hypot(contrast * bias + noise[0], noise[1]) * random.uniform(200, 3000)
    varied = sitk.GetImageFromArray(rician.astype(np.int16))
    varied.CopyInformation(moved)
    return sitk.DICOMOrient(varied, str(random.choice(["RAS", "LPS", "PSR", "ASR"])))


if __name__ == "__main__":
    sys.exit(main())
