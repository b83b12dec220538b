"""A comparison with figures that tests can look for."""

from __future__ import annotations

from medptq.engines.protocol import Precision
from medptq.evaluate.latency import Latency
from medptq.evaluate.metrics import Agreement, Disagreement
from medptq.evaluate.results import Comparison, EngineResult, Machine, Score, VolumeSeconds
from medptq.models.segmentation_model import Label

LABELS = (Label(1, "Liver", (250, 40, 30)), Label(2, "Spleen", (40, 90, 250)))


def result(
    engine: str, precision: Precision, latency: float, dice: Score | None = None
) -> EngineResult:
    return EngineResult(
        engine=engine,
        precision=precision,
        model_size_mb=2.25 if precision == "int8" else 9.0,
        latency=Latency(latency, latency * 0.9, latency * 1.2, 7),
        volume_seconds=VolumeSeconds(0.25, 0.5, latency / 100, 0.125),
        peak_memory_mb=640 if precision == "int8" else 1280,
        dice_vs_fp32=dice,
    )


def comparison() -> Comparison:
    int8 = result("openvino", "int8", 280.0, dice=Score({1: 0.99, 2: 0.96}))
    int8 = EngineResult(
        **{
            **vars(int8),
            "nsd_vs_fp32": Score({1: 0.995, 2: 0.981}, tolerance_mm=1.0),
            "layers": {"int8": 41, "fp32": 6},
            "agreement": Agreement(
                share=0.99875,
                foreground_share=0.9625,
                disagreeing_voxels=1234,
                volumes_ml={1: (1500.0, 1512.5), 2: (200.0, 198.0)},
                largest={2: Disagreement(12, (4, 5, 6))},
            ),
        }
    )
    same = Score({1: 1.0, 2: 0.99999})
    return Comparison(
        model_id="two-organs",
        model_title="Two organs",
        model_licence="Apache-2.0",
        model_source="https://example.org/two-organs",
        labels=LABELS,
        patch_size=(64, 80, 96),
        scan_shape=(20, 30, 40),
        scan_spacing=(5.0, 0.75, 0.75),
        engines=(
            result("pytorch", "fp32", 1400.0),
            result("openvino", "fp32", 700.0, dice=same),
            int8,
        ),
        recipe={"bits": 8, "observer": "percentile 99.99"},
        calibration_scans=11,
        machine=Machine("A fine processor", 12, 31.5, "Linux 6.1", "A fine GPU"),
        versions={"medptq": "0.1.0", "openvino": "2026.4.0"},
        date="2026-02-03",
        command="medptq compare two-organs int8 SCAN",
        notes=("The machine was idle.",),
    )
