"""Calibrates a network to INT8 with 3D Slicer, without its window; see --help.

``Slicer --no-main-window --python-script slicer_calibrate.py -- deepbet --scans SCANS``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# In a checkout the module lies beside this folder; an installed one is on Slicer's own path.
sys.path.append(str(Path(__file__).resolve().parents[1] / "MedPTQSlicer"))

from medptq.errors import OutputError
from MedPTQSlicerLib import headless


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="slicer_calibrate.py",
        description="Calibrate a network on unlabeled scans; its INT8 twin goes into your library,"
        " where the panel, slicer_segment.py and medptq find it by the network's id.",
        epilog=headless.EXIT_CODES,
    )
    parser.add_argument("model", metavar="MODEL", help="its id, as the panel and medptq list it")
    parser.add_argument(
        "--scans",
        metavar="DIR",
        type=headless.absolute,
        required=True,
        help="a folder of unlabeled scans: NIfTI, NRRD, MetaImage, DICOM, in any mix",
    )
    parser.add_argument("--observer", choices=("agreement", "max", "percentile", "mse", "entropy"))
    parser.add_argument(
        "--percentile", type=float, metavar="P", help="of the observer of that name"
    )
    parser.add_argument("--patches", type=int, metavar="N", help="patches to calibrate on, at most")
    parser.add_argument("--seed", type=int, metavar="N", help="of the choice of patches")
    headless.addCommonArguments(parser)
    options = parser.parse_args(arguments)

    from MedPTQSlicerLib.logic import MedPTQLogic

    headless.useWorkerPython(options.python)
    logic = MedPTQLogic()
    for model in headless.follow(logic.models()):
        if model.id == options.model and model.int8 is not None and not options.overwrite:
            raise OutputError(
                "exists",
                f"{options.model} was not calibrated",
                why=f"your library has its INT8 twin, of {model.int8.created}",
                todo="Ask for it to be replaced with --overwrite",
            )
    named = ("observer", "percentile", "patches", "seed")
    recipe = {name: getattr(options, name) for name in named if getattr(options, name) is not None}
    made = headless.follow(logic.calibrate(options.model, options.scans, recipe=recipe))
    headless.tellResult(
        f"{made['output']}: made from {made['scans']} scans, {made['fp32_mb']:.2f} MB are now"
        f" {made['int8_mb']:.2f} MB, and"
        f" {100 * made['agreement_with_fp32']['voxels_equal']:.2f} % of voxels are as in FP32"
    )


sys.exit(headless.runScript(main))
