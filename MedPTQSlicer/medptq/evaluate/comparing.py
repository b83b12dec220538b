"""A network and its INT8 twin, on every engine that this machine has, on one scan."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import medptq
from medptq.artifacts import atomic_folder, write_json
from medptq.engines.machine import describe_machine
from medptq.engines.protocol import Precision
from medptq.engines.selection import held_to, native_ways, usable_engines
from medptq.errors import EngineError
from medptq.evaluate.measured_run import MeasuredRun, measure_run
from medptq.evaluate.metrics import agreement, dice, nsd
from medptq.evaluate.overlay import Column, png_bytes, render_overlay
from medptq.evaluate.reference import read_reference
from medptq.evaluate.report import write_report
from medptq.evaluate.results import Comparison, EngineResult, Machine, Score, to_json
from medptq.evaluate.tables import engine_rows, structure_rows, write_table
from medptq.graph.external_data import stored_bytes
from medptq.inference.build_samples import samples_of
from medptq.inference.networks import Network, graph_of, open_network
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.quantized_model import QuantizedModel
from medptq.scans.reading import read_scan
from medptq.scans.scan import LabelArray, Scan
from medptq.scans.sources import ScanSource
from medptq.scans.writing import write_label_map

NSD_TOLERANCE_MM = 1.0


@dataclass(frozen=True)
class Compared:
    """A comparison and what it was made of.

    Attributes:
        comparison: The figures.
        scan: The scan.
        fp32: Label map [K, J, I] of the baseline.
        int8: Label map [K, J, I] of the fastest INT8 engine.
    """

    comparison: Comparison
    scan: Scan
    fp32: LabelArray
    int8: LabelArray


def compare_networks(
    model: SegmentationModel,
    quantized: QuantizedModel,
    source: ScanSource,
    *,
    reference: Path | None,
    notes: tuple[str, ...],
    command: str,
    reporter: Reporter,
) -> Compared:
    """Run a scan through every engine and precision of this machine and hold the results together.

    Each run has a process of its own. An engine that fails is named in the notes; the others go
    on.

    Args:
        model: The network in FP32; the baseline is PyTorch's result of it.
        quantized: Its INT8 twin.
        source: The scan.
        reference: A label map on the scan's grid to hold both against.
        notes: Sentences for the report's reader.
        command: What was typed, without the scan's path, for the report.
        reporter: Told of progress; may cancel.

    Raises:
        ScanError: The scan or the reference cannot be used.
        EngineError: The baseline or INT8 could not be run.
        Cancelled: The user asked to stop.
    """
    scan = read_scan(source, model.channels)
    truth = None if reference is None else read_reference(reference, scan)
    runs: dict[tuple[str, Precision], MeasuredRun] = {}
    failures: list[str] = []
    engines = held_to(samples_of(model, [source], reporter), usable_engines())
    with tempfile.TemporaryDirectory(prefix="medptq-") as folder:
        for engine, precision in reporter.track(native_ways(), "Comparing engines"):
            network: Network = quantized if precision == "int8" else model
            try:
                # Builds it, if need be, so that the measured process only loads it.
                open_network(network, engines[engine], precision, reporter).close()
                runs[engine, precision] = measure_run(
                    network, source, engine, precision, Path(folder), reporter
                )
            except EngineError as error:
                failures.append(str(error))
                reporter.warn(str(error))
    baseline = runs.get(("pytorch", "fp32"))
    int8 = min(
        (run for (_, precision), run in runs.items() if precision == "int8"),
        key=lambda run: run.latency.median,
        default=None,
    )
    if baseline is None or int8 is None:
        raise EngineError(
            "compare",
            "FP32 and INT8 cannot be compared here",
            why=" ".join(failures) or "no engine of this machine runs INT8 natively",
            todo="Run medptq doctor to see what this machine can do",
        )
    results = [
        _result(way, run, model, quantized, baseline, scan, truth) for way, run in runs.items()
    ]
    comparison = _comparison(model, quantized, scan, results, (*notes, *failures), command)
    return Compared(comparison, scan, baseline.labels, int8.labels)


COMPARISON_FILES = (
    *("report.json", "report.html", "report.csv", "structures.csv"),
    *("overlay.png", "fp32.nii.gz", "int8.nii.gz"),
)
"""What :func:`write_comparison` writes."""


def write_comparison(
    compared: Compared, model: SegmentationModel, output: Path, *, overwrite: bool
) -> None:
    """Write what was compared to a new folder.

    ========================  =================================================================
    ``report.json``           all figures; see :func:`medptq.evaluate.results.to_json`
    ``report.html``           the same for a reader
    ``report.csv``            a row for each engine and precision, for spreadsheets
    ``structures.csv``        a row for each of these and each structure
    ``overlay.png``           both label maps on the scan
    ``fp32.nii.gz``           the baseline's label map
    ``int8.nii.gz``           the label map of the fastest INT8 engine
    ========================  =================================================================

    Raises:
        OutputError: The folder is there already or cannot be written.
    """
    columns: list[Column] = [
        ("Scan", None),
        ("FP32", compared.fp32),
        ("INT8", compared.int8),
        ("Where they differ", compared.fp32 != compared.int8),
    ]
    picture = png_bytes(render_overlay(compared.scan, columns, model.labels, model.modality))
    with atomic_folder(output, overwrite=overwrite) as folder:
        write_label_map(compared.fp32, compared.scan, folder / "fp32.nii.gz")
        write_label_map(compared.int8, compared.scan, folder / "int8.nii.gz")
        (folder / "overlay.png").write_bytes(picture)
        write_json(folder / "report.json", to_json(compared.comparison))
        write_table(folder / "report.csv", engine_rows(compared.comparison))
        write_table(folder / "structures.csv", structure_rows(compared.comparison))
        write_report(compared.comparison, {"FP32 and INT8 on the scan": picture}, folder)


def _result(
    way: tuple[str, Precision],
    run: MeasuredRun,
    model: SegmentationModel,
    quantized: QuantizedModel,
    baseline: MeasuredRun,
    scan: Scan,
    truth: LabelArray | None,
) -> EngineResult:
    engine, precision = way
    values = [label.value for label in model.labels]

    def dice_to(other: LabelArray) -> Score:
        return Score(dice(other, run.labels, values))

    def nsd_to(other: LabelArray) -> Score:
        per_class = nsd(other, run.labels, values, scan.spacing, NSD_TOLERANCE_MM)
        return Score(per_class, NSD_TOLERANCE_MM)

    network: Network = quantized if precision == "int8" else model
    is_baseline = run is baseline
    return EngineResult(
        engine=engine,
        precision=precision,
        model_size_mb=stored_bytes(graph_of(network, precision)) / 1e6,
        latency=run.latency,
        volume_seconds=run.volume_seconds,
        peak_memory_mb=run.peak_memory_mb,
        # The contract of report.json gives every engine this figure, the baseline too: 1 there.
        dice_vs_fp32=dice_to(baseline.labels),
        nsd_vs_fp32=None if is_baseline else nsd_to(baseline.labels),
        dice_vs_reference=None if truth is None else dice_to(truth),
        nsd_vs_reference=None if truth is None else nsd_to(truth),
        layers=run.layers,
        agreement=None if is_baseline else agreement(baseline.labels, run.labels, scan.spacing),
    )


def _comparison(
    model: SegmentationModel,
    quantized: QuantizedModel,
    scan: Scan,
    results: list[EngineResult],
    notes: tuple[str, ...],
    command: str,
) -> Comparison:
    machine = describe_machine()
    versions = {name: engine.availability().version for name, engine in usable_engines().items()}
    return Comparison(
        model_id=model.id,
        model_title=model.title,
        model_licence=model.provenance.licence,
        model_source=model.provenance.source,
        labels=model.labels,
        patch_size=model.patch_size,
        scan_shape=scan.shape,
        scan_spacing=scan.spacing,
        engines=tuple(results),
        recipe=quantized.recipe.in_use(),
        calibration_scans=quantized.manifest["calibration"]["scans"],
        machine=Machine(
            cpu=machine.cpu,
            cores=machine.cores,
            ram_gb=machine.memory_gb,
            os=machine.system,
            gpu=", ".join(gpu.name for gpu in machine.gpus),
        ),
        versions=_with_own(versions),
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        command=command,
        notes=notes,
    )


def _with_own(versions: Mapping[str, str]) -> dict[str, str]:
    return {"medptq": medptq.__version__, **versions}
