"""The verbs of the program: load_model, quantize, segment, compare.

The command line, the worker and Python users call these same functions.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medptq.artifacts import require_free
from medptq.engines.protocol import Precision, Session
from medptq.engines.selection import get_engine, usable_engines
from medptq.errors import ModelError, OutputError, ScanError
from medptq.evaluate.comparing import compare_networks, write_comparison
from medptq.evaluate.results import Comparison
from medptq.inference.choosing import Candidate, choose
from medptq.inference.locating import locator
from medptq.inference.networks import Network, model_of
from medptq.inference.segmenting import Segmentation, segment_scan
from medptq.inference.sessions import SessionPool
from medptq.models import loading
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.calibration import CalibrationPatches
from medptq.quantization.quantized_model import (
    QuantizedModel,
    is_quantized_model,
    load_quantized_model,
)
from medptq.quantization.quantizing import quantize_model
from medptq.quantization.recipe import Recipe
from medptq.scans.finding import find_scans
from medptq.scans.preprocessing import Locator
from medptq.scans.reading import read_scan
from medptq.scans.sources import ScanSource, suffix_of
from medptq.scans.writing import LABEL_MAP_SUFFIXES, write_label_map

_SILENT = Reporter()
_STANDARD = Recipe()


@dataclass(frozen=True)
class SegmentedScan:
    """One scan's result.

    Attributes:
        name: The scan's name.
        segmentation: Labels, and the seconds of each stage.
        load_seconds: Reading the scan.
        output: The file that the label map was written to, if any.
        engine: What ran the network.
        precision: What it ran at.
    """

    name: str
    segmentation: Segmentation
    load_seconds: float
    output: Path | None
    engine: str
    precision: Precision


def load_model(name_or_path: str | Path, *, reporter: Reporter = _SILENT) -> Network:
    """Load a network.

    Args:
        name_or_path: An id of the catalogue (``medptq models`` lists them), the path of an
            ``.onnx`` or TorchScript file with its card beside it, or the folder that
            :func:`quantize` wrote.
        reporter: Told of the download; may cancel.

    Returns:
        A :class:`SegmentationModel`, or a :class:`QuantizedModel` for such a folder.

    Raises:
        ModelError: There is no such model, or it cannot be used.

    Example:
        >>> model = load_model("deepbet")                  # doctest: +SKIP
        >>> [label.name for label in model.labels]         # doctest: +SKIP
        ['Brain']
    """
    if is_quantized_model(Path(name_or_path)):
        return load_quantized_model(Path(name_or_path))
    return loading.load_model(name_or_path, reporter)


def quantize(
    model: SegmentationModel | str | Path,
    scans: str | Path,
    output: str | Path | None = None,
    *,
    recipe: Recipe = _STANDARD,
    overwrite: bool = False,
    reporter: Reporter = _SILENT,
) -> QuantizedModel:
    """Calibrate a network on unlabeled scans and write its INT8 twin.

    Args:
        model: The network, or what :func:`load_model` takes.
        scans: A folder of scans in any mix of NIfTI, NRRD, MetaImage and DICOM series, or one.
        output: The folder to write; ``<model's id>-int8`` in the current one by default.
        recipe: How to quantize.
        overwrite: Replace a folder of that name.
        reporter: Told of progress and of scans that were left out; may cancel.

    Raises:
        ScanError: No scan can be used.
        ModelError: The network cannot be used, or is quantized already.
        QuantizationError: It cannot be quantized.
        OutputError: The folder is there already or cannot be written.
        Cancelled: The user asked to stop.

    Example:
        >>> int8 = quantize("deepbet", "scans/", "deepbet-int8")   # doctest: +SKIP
        >>> int8.manifest["agreement_with_fp32"]["voxels_equal"]   # doctest: +SKIP
        0.9997
    """
    plain = _plain(model, reporter)
    folder = Path(output) if output is not None else Path(f"{plain.id}-int8")
    require_free(folder, overwrite=overwrite)
    sources = find_scans(Path(scans), reporter)
    with SessionPool() as pool, locator(pool, reporter) as locate:
        patches = CalibrationPatches(plain, sources, recipe, locate, reporter)
        return quantize_model(
            plain, patches, folder, recipe=recipe, overwrite=overwrite, reporter=reporter
        )


def segment(
    network: Network | str | Path,
    scan: str | Path,
    output: str | Path | None = None,
    *,
    engine: str = "auto",
    precision: Precision | None = None,
    overwrite: bool = False,
    pool: SessionPool | None = None,
    reporter: Reporter = _SILENT,
) -> list[SegmentedScan]:
    """Segment a scan, or every scan of a folder.

    Args:
        network: The network, plain or quantized, or what :func:`load_model` takes.
        scan: A file, a DICOM series' folder, or a folder of scans.
        output: Where to write label maps: a file for one scan (its suffix names the format), a
            folder for several; nothing is written by default.
        engine: ``"openvino"``, ``"pytorch"``, or ``"auto"`` for the fastest here.
        precision: What to run at; by default the fastest here that agrees with FP32.
        overwrite: Replace label maps that are there.
        pool: Sessions that are kept for the next call; none are by default.
        reporter: Told of progress; may cancel.

    Returns:
        One result a scan; scans of a folder that could not be used are left out with a warning.

    Raises:
        ScanError: The scan, or every scan, cannot be used.
        ModelError: The network cannot be used.
        EngineError: It cannot be run as asked.
        OutputError: A label map is there already or cannot be written.
        Cancelled: The user asked to stop; label maps that were finished stay.

    Example:
        >>> [brain] = segment("deepbet-int8", "t1.nii.gz", "brain.nii.gz")  # doctest: +SKIP
        >>> brain.segmentation.labels.shape                                # doctest: +SKIP
        (189, 233, 197)
    """
    if isinstance(network, (str, Path)):
        network = load_model(network, reporter=reporter)
    sources = find_scans(Path(scan), reporter)
    targets = _targets(Path(scan), sources, None if output is None else Path(output))
    for target in targets:
        if target is not None:
            require_free(target, overwrite=overwrite)
    engines = usable_engines() if engine == "auto" else {engine: get_engine(engine)}
    if engine == "pytorch" and precision == "int8":
        # Not native, so never chosen; run as a cross-check when asked for by name.
        chosen = Candidate("pytorch", "int8", 0.0)
    else:
        chosen = choose(network, engines, precision, reporter)
    results: list[SegmentedScan] = []
    with contextlib.ExitStack() as stack:
        if pool is None:
            pool = stack.enter_context(SessionPool())
        session = stack.enter_context(
            pool.session(network, engines[chosen.engine], chosen.precision, reporter)
        )
        locate = stack.enter_context(locator(pool, reporter))
        for source, target in reporter.track(
            list(zip(sources, targets, strict=True)), "Segmenting scans"
        ):
            try:
                results.append(
                    _segment_one(
                        network, session, source, target, chosen, locate, overwrite, reporter
                    )
                )
            except ScanError as error:
                if len(sources) == 1:
                    raise
                reporter.warn(f"{source.shown} was left out: {error.why}")
                last = error
    if not results:
        raise last
    return results


def compare(
    model: SegmentationModel | str | Path,
    quantized: QuantizedModel | str | Path,
    scan: str | Path,
    output: str | Path | None = None,
    *,
    reference: str | Path | None = None,
    notes: tuple[str, ...] = (),
    command: str = "",
    overwrite: bool = False,
    reporter: Reporter = _SILENT,
) -> Comparison:
    """Run a scan through every engine of this machine, in FP32 and INT8, and hold them together.

    Args:
        model: The network in FP32, or what :func:`load_model` takes.
        quantized: Its INT8 twin, or its folder.
        scan: One scan.
        output: A folder for report.json, report.html, overlay.png, fp32.nii.gz and int8.nii.gz;
            nothing is written by default.
        reference: A label map on the scan's grid to hold both against.
        notes: Sentences for the report's reader.
        command: What was typed, for the report; without paths that may name a patient.
        overwrite: Replace a folder of that name.
        reporter: Told of progress; may cancel.

    Raises:
        ScanError: The scan or the reference cannot be used.
        ModelError: A network cannot be used, or they do not belong together.
        EngineError: FP32 in PyTorch, or INT8, cannot be run.
        OutputError: The folder is there already or cannot be written.
        Cancelled: The user asked to stop.

    Example:
        >>> report = compare("deepbet", "deepbet-int8", "t1.nii.gz", "report")  # doctest: +SKIP
        >>> report.headline.title                                              # doctest: +SKIP
        'OpenVINO INT8'
    """
    plain = _plain(model, reporter)
    twin = (
        load_quantized_model(Path(quantized)) if isinstance(quantized, (str, Path)) else quantized
    )
    if twin.model.labels != plain.labels or twin.model.id != plain.id:
        raise ModelError(
            "mismatch",
            "The networks were not compared",
            why=f"the quantized one is {twin.model.title}, the other is {plain.title}",
            todo="Give a network and the folder that medptq quantize made of it",
        )
    if output is not None:
        require_free(Path(output), overwrite=overwrite)
    sources = find_scans(Path(scan), reporter)
    if len(sources) != 1:
        raise ScanError(
            "several",
            "The networks were not compared",
            why=f"{scan} holds {len(sources)} scans",
            todo="Give one of them",
        )
    compared = compare_networks(
        plain,
        twin,
        sources[0],
        reference=None if reference is None else Path(reference),
        notes=notes,
        command=command,
        reporter=reporter,
    )
    if output is not None:
        write_comparison(compared, plain, Path(output), overwrite=overwrite)
    return compared.comparison


def _plain(model: SegmentationModel | str | Path, reporter: Reporter) -> SegmentationModel:
    network = load_model(model, reporter=reporter) if isinstance(model, (str, Path)) else model
    # The folder of a quantized network holds its FP32 graph, which may well be quantized anew.
    return model_of(network)


def _segment_one(
    network: Network,
    session: Session,
    source: ScanSource,
    target: Path | None,
    chosen: Candidate,
    locate: Locator,
    overwrite: bool,
    reporter: Reporter,
) -> SegmentedScan:
    model = model_of(network)
    started = time.perf_counter()
    scan = read_scan(source, model.channels)
    loaded = time.perf_counter() - started
    found = segment_scan(model, session, scan, locate=locate, reporter=reporter)
    if target is not None:
        write_label_map(found.labels, scan, target, overwrite=overwrite)
    return SegmentedScan(source.name, found, loaded, target, chosen.engine, chosen.precision)


def _targets(scan: Path, sources: Sequence[ScanSource], output: Path | None) -> list[Path | None]:
    """Return the file to write for each scan."""
    if output is None:
        return [None] * len(sources)
    is_image = suffix_of(output).lower() in LABEL_MAP_SUFFIXES
    if len(sources) == 1 and is_image:
        return [output]
    if scan.is_file():
        raise OutputError(
            "format",
            f"{output} was not written",
            why="label maps are not written in a format of that name",
            todo=f"Choose a name that ends in {', '.join(LABEL_MAP_SUFFIXES)}",
        )
    if is_image:
        raise OutputError(
            "several",
            f"{output} was not written",
            why=f"there are {len(sources)} scans, and it is one file",
            todo="Name a folder as --output",
        )
    targets: list[Path | None] = []
    taken: set[str] = set()
    for source in sources:
        name, number = source.name, 2
        while name.lower() in taken:
            name, number = f"{source.name}-{number}", number + 1
        taken.add(name.lower())
        targets.append(output / f"{name}.nii.gz")
    return targets
