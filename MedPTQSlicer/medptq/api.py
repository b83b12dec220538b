"""The verbs of the program: load_model, quantize, segment, compare.

The command line, the worker and Python users call these same functions.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from medptq.artifacts import refuse_losing, require_free
from medptq.engines.memory import memory_as_error
from medptq.engines.protocol import Precision
from medptq.engines.selection import get_engine, held_to, usable_engines
from medptq.errors import ModelError, ScanError
from medptq.evaluate.comparing import COMPARISON_FILES, compare_networks, write_comparison
from medptq.evaluate.results import Comparison
from medptq.inference.build_samples import samples_of
from medptq.inference.choosing import Candidate, choose
from medptq.inference.inputs_kept import require_no_scan, without_results
from medptq.inference.label_map_files import label_map_files
from medptq.inference.locating import locator
from medptq.inference.networks import Network, model_of, plain_model
from medptq.inference.scan_by_scan import SegmentedScan, segment_sources
from medptq.inference.sessions import SessionPool
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.calibration import CalibrationPatches
from medptq.quantization.quantized_model import (
    QuantizedModel,
    load_quantized_model,
    require_place,
)
from medptq.quantization.quantizing import quantize_model
from medptq.quantization.recipe import Recipe
from medptq.quantization.twins import load_network, load_twin, load_with_twin, place_of_twin
from medptq.scans.finding import find_scans, find_with_slices
from medptq.scans.reading import read_header

_SILENT = Reporter()
_STANDARD = Recipe()


def load_model(name_or_path: str | Path, *, reporter: Reporter = _SILENT) -> Network:
    """Load a network.

    Args:
        name_or_path: An id of the catalogue or of an imported network (``medptq models`` lists
            them), the path of an ``.onnx`` or TorchScript file with its card beside it, or the
            folder that :func:`quantize` wrote.
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
    return load_network(name_or_path, reporter)


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
        output: The folder to write. By default the twin goes into the library, where
            :func:`segment` finds it by the network's id; the network must be the catalogue's or
            imported.
        recipe: How to quantize.
        overwrite: Replace the folder, or the twin in the library; it stays as it was until the
            new one is whole.
        reporter: Told of progress and of scans that were left out; may cancel.

    Raises:
        ScanError: No scan can be used.
        ModelError: The network cannot be used, or is quantized already.
        QuantizationError: It cannot be quantized.
        EngineError: ``engine.memory`` - memory does not suffice.
        OutputError: The folder is there already or cannot be written.
        Cancelled: The user asked to stop.

    Example:
        >>> int8 = quantize("deepbet", "scans/")                   # doctest: +SKIP
        >>> int8.manifest["agreement_with_fp32"]["voxels_equal"]   # doctest: +SKIP
        0.9997
    """
    plain = plain_model(model, reporter)
    folder = Path(output) if output is not None else place_of_twin(plain)
    require_place(folder, overwrite=overwrite)
    sources = find_scans(Path(scans), reporter)
    with (
        memory_as_error(f"Quantizing {plain.title}"),
        SessionPool() as pool,
        locator(pool, reporter) as locate,
    ):
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
        network: The network, plain or quantized, or what :func:`load_model` takes. An id stands
            for the network with the INT8 twin that the library holds of it.
        scan: A file, a DICOM series' folder, or a folder of scans.
        output: Where to write label maps: a file for one scan (its suffix names the format), a
            folder for several, in which no scan is looked for if it lies within theirs; nothing
            is written by default. Where two scans of a folder have one name, the label maps lie
            in it as the scans lie in theirs.
        engine: ``"openvino"``, ``"pytorch"``, or ``"auto"`` for the fastest here.
        precision: What to run at; by default the fastest here, and INT8 only where calibration
            found it to agree with FP32.
        overwrite: Replace label maps that are there; never a scan.
        pool: Sessions that are kept for the next call; none are by default.
        reporter: Told of progress; may cancel. Where a GPU's memory does not suffice and the
            engine is ``"auto"``, the CPU goes on, with a warning.

    Returns:
        One result a scan; scans of a folder that could not be used are left out with a warning.

    Raises:
        ScanError: The scan, or every scan, cannot be used.
        ModelError: The network cannot be used.
        EngineError: It cannot be run as asked; ``engine.memory`` if memory does not suffice.
        OutputError: A label map is there already or cannot be written.
        Cancelled: The user asked to stop; label maps that were finished stay.

    Example:
        >>> [brain] = segment("deepbet-int8", "t1.nii.gz", "brain.nii.gz")  # doctest: +SKIP
        >>> brain.segmentation.labels.shape                                # doctest: +SKIP
        (189, 233, 197)
    """
    if isinstance(network, (str, Path)):
        network = load_with_twin(network, reporter, needs_int8=precision == "int8")
    found = find_with_slices(Path(scan), reporter)
    if output is not None:
        found = without_results(found, Path(scan), Path(output))
    sources = [source for source, _ in found]
    if len(found) == 1:  # before the network is built and timed, which may take minutes
        read_header(*found[0], model_of(network).channels)
    targets = label_map_files(Path(scan), sources, None if output is None else Path(output))
    require_no_scan(targets, sources)
    for target in targets:
        if target is not None:
            require_free(target, overwrite=overwrite)
    engines = held_to(
        samples_of(model_of(network), sources, reporter),
        usable_engines() if engine == "auto" else {engine: get_engine(engine)},
    )
    if engine == "pytorch" and precision == "int8":
        # Not native, so never chosen; run as a cross-check when asked for by name.
        chosen = Candidate("pytorch", "int8", 0.0)
    else:
        chosen = choose(network, engines, precision, reporter)
    with contextlib.ExitStack() as stack:
        if pool is None:
            pool = stack.enter_context(SessionPool())
        return segment_sources(
            network,
            list(zip(sources, targets, strict=True)),
            engines,
            chosen,
            folder=Path(scan),
            precision=precision,
            may_leave_gpu=engine == "auto",
            overwrite=overwrite,
            pool=pool,
            reporter=reporter,
        )


def compare(
    model: SegmentationModel | str | Path,
    quantized: QuantizedModel | str | Path | None,
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
        quantized: Its INT8 twin, or its folder; None for the one in the library.
        scan: One scan.
        output: A folder for what :func:`medptq.evaluate.comparing.write_comparison` writes;
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
    if quantized is None:
        twin = load_twin(model)
        # Its own FP32 graph, which is also what segment runs and so has built.
        plain = twin.model
    else:
        plain = plain_model(model, reporter)
        twin = (
            quantized
            if isinstance(quantized, QuantizedModel)
            else load_quantized_model(Path(quantized))
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
        refuse_losing(Path(output), COMPARISON_FILES)
    sources = find_scans(Path(scan), reporter)
    if len(sources) != 1:
        raise ScanError(
            "several",
            "The networks were not compared",
            why=f"{scan} holds {len(sources)} scans",
            todo="Give one of them",
        )
    with memory_as_error("Comparing FP32 and INT8"):
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
