"""What the table of gpu.py offers as ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"))

from gpu_table import table
from publishing import circumstances


def way(name: str, ms: float, error: float = 0.004, **others: object) -> dict:
    return {"way": name, "batch": 1, "ms": ms, "memory_mb": 1.0, "error": error, **others}


def line_of_ours(*ways: dict) -> str:
    networks = {"unest": {"ways": list(ways), "warnings": []}}
    report = {**circumstances(), "networks": networks}
    return next(line for line in table(report).splitlines() if line.startswith("| unest | 1 "))


FP32 = way("TensorRT FP32", 6.0, form="written out")


@pytest.mark.parametrize(
    ("ways", "told"),
    [
        ([FP32, way("TensorRT FP16", 3.0)], "| 3.00 | FP16 | 2.00 |"),
        ([FP32, way("TensorRT FP16", 3.0, 0.05)], "*nothing that agrees*"),
        ([FP32, way("TensorRT FP16", 3.0, refused="it is off")], "*nothing that agrees*"),
        ([FP32], "*not run in FP16*"),
        # Against the fastest of the others.
        (
            [FP32, way("TensorRT FP16", 3.0), way("TensorRT FP16", 2.5, form="own layer")]
            + [way("TensorRT INT8", 2.0, layers={"int8": 3})],
            "| 2.00 | INT8 | 3.00 | 1.25 |",
        ),
        # A network that rounding changes that much in PyTorch, too.
        ([way("PyTorch AMP", 9.0, 0.04), way("TensorRT FP16", 3.0, 0.05)], "| 3.00 | FP16 |"),
        ([{"way": "PyTorch AMP", "batch": 1, "failed": "x"}, FP32], "*not run in FP16*"),
        (
            [FP32, way("TensorRT FP16", 3.0), way("TensorRT INT8", 2.0, 0.2, form="own layer")],
            "| 3.00 | FP16 |",
        ),
        ([way("TensorRT INT8", 2.0, layers={"int8": 3})], "| 2.00 | INT8 |"),
        ([way("TensorRT INT8", 2.0, layers={"fp16": 3})], "| 2.00 | FP16, built again |"),
    ],
)
def test_ours_is_the_fastest_that_is_right(ways, told):
    assert told in line_of_ours(*ways)
