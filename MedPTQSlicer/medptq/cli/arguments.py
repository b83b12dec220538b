"""What the command line understands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import medptq
from medptq.quantization.recipe import LEAST_AGREEMENT, OBSERVER_CHOICES, Recipe

EXIT_CODES = """\
exit codes: 0 done, 1 unexpected fault, 2 wrong usage, 3 scan, 4 model, 5 quantization, 6 engine,
7 output, 130 stopped. Not for clinical use."""

_MODEL = (
    "id of the catalogue or of an imported network, or an .onnx or TorchScript file with its card"
    " (.json) beside it"
)
_SCAN = "a NIfTI, NRRD or MetaImage file, or the folder of a DICOM series"


class _Command(argparse.ArgumentParser):
    """Takes a command's words before, between and behind its options.

    Otherwise what may be left out counts as left out at the first option.
    """

    _is_mixing = False

    def parse_known_args(  # type: ignore[override]  # as argparse itself is called
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Do what ``parse_known_intermixed_args`` does, which comes here again for each half."""
        if self._is_mixing:
            return super().parse_known_args(args, namespace)
        self._is_mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    standard = Recipe()
    common = _Command(add_help=False)
    common.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout, for machines"
    )
    common.add_argument("--quiet", action="store_true", help="show no progress")
    writing = _Command(add_help=False)
    writing.add_argument(
        "--overwrite", action="store_true", help="replace what is there under that name"
    )

    parser = argparse.ArgumentParser(
        prog="medptq",
        description="INT8 post-training quantization for 3D medical image segmentation.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"medptq {medptq.__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Command
    )

    models = commands.add_parser(
        "models", parents=[common], help="list the networks of the catalogue and of your library"
    )
    models.add_argument(
        "--architectures",
        action="store_true",
        help="list the networks that a checkpoint's card can name in place of these",
    )
    importing = commands.add_parser(
        "import", parents=[common], help="copy a network of your own into your library"
    )
    importing.add_argument(
        "path",
        metavar="PATH",
        help="an .onnx or TorchScript file with its card (.json) beside it, or a .zip of the two",
    )
    remove = commands.add_parser(
        "remove",
        parents=[common],
        help="delete a network, its INT8 twin and what was downloaded or built of it",
    )
    remove.add_argument("model", metavar="ID", help="id of the catalogue or of an imported network")
    remove.add_argument("--int8", action="store_true", help="delete its INT8 twin alone")
    cache = commands.add_parser(
        "cache", parents=[common], help="show the cache: downloads, exported networks, engines"
    )
    cache.add_argument("--clear", action="store_true", help="delete all of it")
    commands.add_parser(
        "doctor", parents=[common], help="say what this machine has and prove its engines"
    )

    inspect = commands.add_parser(
        "inspect", parents=[common], help="say what scans a folder holds, from their headers"
    )
    inspect.add_argument("scans", metavar="SCANS", help=f"{_SCAN}, or a folder of scans")

    quantize = commands.add_parser(
        "quantize",
        parents=[common, writing],
        help="calibrate a network on unlabeled scans and write its INT8 twin",
        epilog=EXIT_CODES,
    )
    quantize.add_argument("model", metavar="MODEL", help=_MODEL)
    quantize.add_argument(
        "--scans", required=True, metavar="DIR", help="folder of unlabeled scans, in any mix"
    )
    quantize.add_argument(
        "--output",
        metavar="DIR",
        help="folder to write (default: your library, where segment finds it by the model's id)",
    )
    quantize.add_argument(
        "--observer",
        choices=OBSERVER_CHOICES,
        default=standard.observer,
        help="how an activation's range is chosen; agreement: so that INT8 agrees best with FP32 "
        "(default: %(default)s)",
    )
    quantize.add_argument(
        "--percentile",
        type=float,
        default=standard.percentile,
        metavar="P",
        help="share of the values, in percent, that the observer 'percentile' keeps "
        "(default: %(default)s)",
    )
    quantize.add_argument(
        "--patches",
        type=int,
        default=standard.patches,
        metavar="N",
        help="patches to calibrate on, at most (default: %(default)s)",
    )
    quantize.add_argument(
        "--seed",
        type=int,
        default=standard.seed,
        metavar="N",
        help="seed of the choice of patches (default: %(default)s)",
    )
    quantize.add_argument(
        "--auto",
        action="store_true",
        help="try recipes from the cheapest up, and take the first that agrees with FP32 on a "
        "quarter of the scans, which is kept apart for that; takes minutes",
    )
    quantize.add_argument(
        "--least-agreement",
        type=float,
        metavar="X",
        help="with --auto: mean Dice with FP32's labels that is asked "
        f"(default: {LEAST_AGREEMENT})",
    )

    sensitivity = commands.add_parser(
        "sensitivity",
        parents=[common, writing],
        help="measure what the quantization of each layer costs, and draw it",
        epilog=EXIT_CODES,
    )
    sensitivity.add_argument("model", metavar="MODEL", help=_MODEL)
    sensitivity.add_argument(
        "--scans", required=True, metavar="DIR", help="folder of unlabeled scans, in any mix"
    )
    sensitivity.add_argument("--output", required=True, metavar="DIR", help="folder to write")
    for what in ("weight", "activation"):
        sensitivity.add_argument(
            f"--{what}-bits",
            type=int,
            choices=range(2, 9),
            default=8,
            metavar="N",
            help=f"bits of {what}s, from 2 to 8 (default: %(default)s)",
        )
    sensitivity.add_argument(
        "--patches",
        type=_at_least_one,
        metavar="N",
        help="patches to measure on, at most 8 (default: as many as take some minutes here)",
    )

    segment = commands.add_parser(
        "segment", parents=[common, writing], help="segment a scan or a folder", epilog=EXIT_CODES
    )
    segment.add_argument(
        "model",
        metavar="MODEL|QUANTIZED",
        help=f"{_MODEL}; or a folder that quantize wrote. An id stands for the network with its "
        "INT8 twin, if your library holds one",
    )
    segment.add_argument("scan", metavar="SCAN", help=f"{_SCAN}, or a folder of scans")
    segment.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="label map to write (.nii.gz, .nii, .nrrd, .mha); a folder for a folder of scans",
    )
    segment.add_argument(
        "--engine",
        choices=("auto", "openvino", "tensorrt", "pytorch"),
        default="auto",
        help="what runs the network (default: the fastest here)",
    )
    segment.add_argument(
        "--precision",
        choices=("best", "int8", "fp16", "bf16", "fp32"),
        default="best",
        help="what it runs at (default: the fastest here; INT8 only where calibration found it to "
        "agree with FP32)",
    )

    compare = commands.add_parser(
        "compare",
        parents=[common, writing],
        help="run FP32 and INT8 on every engine of this machine and write a report",
        epilog=EXIT_CODES,
    )
    compare.add_argument("model", metavar="MODEL", help=_MODEL)
    compare.add_argument(
        "quantized",
        metavar="QUANTIZED",
        nargs="?",
        help="folder that quantize wrote (default: the INT8 twin in your library)",
    )
    compare.add_argument("scan", metavar="SCAN", help=_SCAN)
    compare.add_argument("--output", required=True, metavar="DIR", help="folder to write")
    compare.add_argument(
        "--reference", metavar="LABELS", help="label map on the scan's grid to hold both against"
    )

    benchmark = commands.add_parser(
        "benchmark",
        parents=[common],
        help="quantize networks by several recipes and hold them against labels",
        description="Quantize networks by several recipes and hold them against labels. What a "
        "folder holds already is not run again; without networks only its tables are written.",
        epilog=EXIT_CODES,
    )
    benchmark.add_argument("networks", metavar="MODEL", nargs="*", help=_MODEL)
    benchmark.add_argument("--data", metavar="FILE", help="description of the data set (.json)")
    benchmark.add_argument(
        "--folder",
        metavar="DIR",
        help="where the data set's scans lie (default: where its description does)",
    )
    benchmark.add_argument("--output", required=True, metavar="DIR", help="folder to write to")
    benchmark.add_argument(
        "--recipes",
        nargs="+",
        metavar="NAME",
        default=(),
        help="some of fp32, w8a8-tensor, w8a8-openvino and so on (default: all that can be run "
        "here; the README lists them)",
    )
    benchmark.add_argument(
        "--limit",
        type=_at_least_one,
        metavar="N",
        help="how many of the test's scans are taken (default: all)",
    )
    benchmark.add_argument(
        "--patches",
        type=_at_least_one,
        default=standard.patches,
        metavar="N",
        help="patches to calibrate on, at most (default: %(default)s)",
    )
    benchmark.add_argument(
        "--seed",
        type=int,
        default=standard.seed,
        metavar="N",
        help="seed of the choice of patches and of what is learned (default: %(default)s)",
    )
    benchmark.add_argument(
        "--workers",
        type=_at_least_one,
        default=1,
        metavar="N",
        help="processes to share the work among; more than one need Dask (default: %(default)s)",
    )
    benchmark.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        default="",
        help="of a Dask scheduler whose workers are to do the work",
    )
    return parser


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number
