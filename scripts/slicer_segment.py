"""Segments a scan with 3D Slicer, without its window; see --help.

``Slicer --no-main-window --python-script slicer_segment.py -- deepbet t1.nii --output brain.nii``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# In a checkout the module lies beside this folder; an installed one is on Slicer's own path.
sys.path.append(str(Path(__file__).resolve().parents[1] / "MedPTQSlicer"))

from MedPTQSlicerLib import headless


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="slicer_segment.py",
        description="Segment a scan with a network that you have, or one of the catalogue.",
        epilog=headless.EXIT_CODES,
    )
    parser.add_argument("model", metavar="MODEL", help="its id, as the panel and medptq list it")
    parser.add_argument(
        "scan", metavar="SCAN", type=headless.absolute, help="a file that Slicer reads as a volume"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=headless.absolute,
        required=True,
        help="what to write: a segmentation with names and colours (.seg.nrrd), or a label map"
        " (.nii.gz, .nii, .nrrd, .mha)",
    )
    parser.add_argument(
        "--precision",
        choices=("best", "int8", "fp32"),
        default="best",
        help="what the network runs at (default: the fastest here that agrees with FP32)",
    )
    headless.addCommonArguments(parser)
    options = parser.parse_args(arguments)

    from MedPTQSlicerLib import volumeFiles
    from MedPTQSlicerLib.logic import MedPTQLogic

    headless.useWorkerPython(options.python)
    volumeFiles.checkOutput(options.output, overwrite=options.overwrite)
    volume = volumeFiles.loadVolume(options.scan)
    job = MedPTQLogic().segment(volume, options.model, precision=options.precision)
    [segmentation] = headless.follow(job)
    volumeFiles.saveSegmentation(segmentation, volume, options.output, overwrite=options.overwrite)
    headless.tellResult(f"{options.output}: {segmentation.GetName()}")


sys.exit(headless.runScript(main))
